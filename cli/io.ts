/** The terminal, or what stands in for it. */
export interface Io {
  out(text: string): void
  err(text: string): void
  readonly outIsTerminal: boolean
  readonly errIsTerminal: boolean
  /** Width for wrapping and cutting, where the output is a terminal. */
  readonly columns: number
  /** The terminal's size as it is now, where standard error is one. */
  readonly screen: { readonly columns: number; readonly rows: number }
  /** Calls this whenever that size changes, until what is returned is called. */
  onResize(listener: () => void): () => void
  /** Fires when nobody reads standard output any more. */
  readonly readerGone: AbortSignal
  /** Colour may be used on standard output. */
  readonly colour: boolean
  /** Asks the person at the terminal; undefined: there is none. An input that ends answers nothing. */
  readonly ask?: (question: string) => Promise<string>
}

interface Streams {
  readonly stdin: NodeJS.ReadStream
  readonly stdout: NodeJS.WriteStream
  readonly stderr: NodeJS.WriteStream
}

/** The process's own streams. */
export function processIo(
  { stdin, stdout, stderr }: Streams,
  settings: { readonly noColour: boolean; readonly columns: number | undefined },
  readerGone: AbortSignal,
): Io {
  return {
    out: text => void stdout.write(text),
    err: text => void stderr.write(text),
    outIsTerminal: stdout.isTTY === true,
    errIsTerminal: stderr.isTTY === true,
    // A terminal that does not say how wide it is, such as a serial line, has 0 columns.
    columns: stdout.columns || settings.columns || 100,
    get screen() {
      // A terminal that does not say how large it is, such as a serial line, has 0 of both.
      return { columns: stderr.columns || settings.columns || 80, rows: stderr.rows || 24 }
    },
    onResize: listener => {
      stderr.on('resize', listener)
      return () => void stderr.off('resize', listener)
    },
    readerGone,
    colour: stdout.isTTY === true && !settings.noColour,
    ...(stdin.isTTY === true && stderr.isTTY === true && { ask: question => askOn(stdin, stderr, question) }),
  }
}

async function askOn(
  input: NodeJS.ReadStream,
  output: NodeJS.WriteStream,
  question: string,
): Promise<string> {
  const { createInterface } = await import('node:readline/promises')
  const reader = createInterface({ input, output })
  try {
    const ended = new Promise<string>(resolve => reader.once('close', () => resolve('')))
    return await Promise.race([reader.question(question), ended])
  } finally {
    reader.close()
  }
}
