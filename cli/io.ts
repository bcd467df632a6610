/** The terminal, or what stands in for it. */
export interface Io {
  out(text: string): void
  err(text: string): void
  readonly outIsTerminal: boolean
  readonly errIsTerminal: boolean
  /** Width for wrapping and cutting, where the output is a terminal. */
  readonly columns: number
  /** Colour may be used on standard output. */
  readonly colour: boolean
}

interface Streams {
  readonly stdout: NodeJS.WriteStream
  readonly stderr: NodeJS.WriteStream
}

/** The process's own streams. */
export function processIo(
  { stdout, stderr }: Streams,
  settings: { readonly noColour: boolean; readonly columns: number | undefined },
): Io {
  return {
    out: text => void stdout.write(text),
    err: text => void stderr.write(text),
    outIsTerminal: stdout.isTTY === true,
    errIsTerminal: stderr.isTTY === true,
    columns: stdout.columns ?? settings.columns ?? 100,
    colour: stdout.isTTY === true && !settings.noColour,
  }
}
