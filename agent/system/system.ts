/**
 * The agent's only door to the machine: commands and files. Nothing else in the agent knows whether the machine behind
 * it is real. Failures are values, because a missing tool, an unreadable file and an empty one ask for different acts.
 */
export interface System {
  /** Runs a command to its end and keeps a bounded part of what it prints. */
  run(command: string, args: readonly string[], options: RunOptions): Promise<RunResult>
  /** Starts a command and hands out its lines as they come. Who takes the lines must take them all or leave the loop. */
  stream(command: string, args: readonly string[], options: StreamOptions): RunningCommand
  /** Reads at most `maxBytes` of a regular file. */
  readFile(path: string, maxBytes: number): Promise<FileReading>
  /** The text of a symbolic link, not resolved. */
  readLink(path: string): Promise<LinkReading>
  /** The sorted names in a folder, at most `maxNames`. */
  listDir(path: string, maxNames?: number): Promise<DirReading>
  exists(path: string): Promise<Existence>
  /** What is known of a file without opening it; links are followed. */
  stat(path: string): Promise<StatReading>
  /** When a link itself was made, whatever it leads to. */
  statLink(path: string): Promise<StatReading>
  /** Room on the file system that a path lies on. */
  space(path: string): Promise<SpaceReading>
}

export interface CommandOptions {
  readonly deadlineMs: number
  readonly signal?: AbortSignal | undefined
  readonly cwd?: string | undefined
  /** Added to the environment every command gets (PATH, LC_ALL=C and what the agent was configured with). */
  readonly env?: Readonly<Record<string, string>> | undefined
  /**
   * Settings for Nix (`name = value`) that hold whatever the machine's own configuration says, also where Nix is called by
   * another program: nixos-rebuild in Python passes the last of several `--option` on and drops the others without a word.
   */
  readonly nixSettings?: readonly string[] | undefined
}

export interface RunOptions extends CommandOptions {
  /** Bound for each of stdout and stderr; beyond it the middle is left out. Absent: 1 MiB. */
  readonly maxOutputBytes?: number | undefined
  /** What the command reads; absent: nothing. */
  readonly input?: string | Uint8Array | undefined
}

export interface StreamOptions extends CommandOptions {
  /** Longest line handed out; longer ones are cut and say so. Absent: 4 KiB. */
  readonly maxLineBytes?: number | undefined
}

/** How a command ended. Only `exited` with code 0 is success. */
export type Ending =
  | { readonly kind: 'exited'; readonly exitCode: number }
  | { readonly kind: 'signalled'; readonly signal: string }
  | { readonly kind: 'timed-out'; readonly deadlineMs: number }
  | { readonly kind: 'cancelled' }
  | { readonly kind: 'not-found'; readonly command: string }
  | { readonly kind: 'not-started'; readonly command: string; readonly reason: string }

export interface RunResult {
  readonly ending: Ending
  readonly stdout: string
  readonly stdoutBytes: Uint8Array
  readonly stderr: string
  /** Something of the output was left out: over the bound, or not read to its end. */
  readonly truncated: boolean
}

export interface OutputLine {
  readonly source: 'stdout' | 'stderr'
  readonly text: string
  /** The line was longer than the bound; its text says by how much. */
  readonly cut: boolean
}

export interface StreamResult {
  readonly ending: Ending
  /** Output may be missing at the end, because something outlived the command and kept its pipe. */
  readonly truncated: boolean
}

/** A started command. Leaving the loop over `lines` cancels it. */
export interface RunningCommand {
  readonly lines: AsyncIterable<OutputLine>
  /** Settles when the output is drained and the command is gone; never rejects. */
  readonly result: Promise<StreamResult>
  cancel(): void
}

export interface Unreadable {
  readonly kind: 'unreadable'
  /** The operating system's code, such as EACCES. */
  readonly code: string
}

export type FileReading =
  | { readonly kind: 'file'; readonly bytes: Buffer; readonly truncated: boolean }
  | { readonly kind: 'missing' }
  | Unreadable

export type LinkReading =
  | { readonly kind: 'link'; readonly target: string }
  | { readonly kind: 'missing' }
  | Unreadable

export type DirReading =
  | { readonly kind: 'dir'; readonly names: readonly string[]; readonly truncated: boolean }
  | { readonly kind: 'missing' }
  | Unreadable

export type Existence = { readonly kind: 'present' } | { readonly kind: 'missing' } | Unreadable

export type StatReading =
  | {
      readonly kind: 'stat'
      readonly sizeBytes: number
      readonly modifiedMs: number
      /** Device and number of the file: another one under the same name is another file. */
      readonly file: string
    }
  | { readonly kind: 'missing' }
  | Unreadable

export type SpaceReading =
  | {
      readonly kind: 'space'
      /** What an ordinary user may still write: the reserve for root is not counted. */
      readonly freeBytes: number
      readonly totalBytes: number
      /** 0 on file systems that make them as needed (btrfs, FAT), where `totalFiles` is 0 too. */
      readonly freeFiles: number
      readonly totalFiles: number
    }
  | { readonly kind: 'missing' }
  | Unreadable

/** Whether a command ran and exited with 0. */
export function succeeded(ending: Ending): boolean {
  return ending.kind === 'exited' && ending.exitCode === 0
}

/** The ending in words, naming the command. */
export function describeEnding(command: string, ending: Ending): string {
  switch (ending.kind) {
    case 'exited':
      return `${command}: exit code ${ending.exitCode}`
    case 'signalled':
      return `${command}: killed by ${ending.signal}`
    case 'timed-out':
      return `${command}: not done within ${ending.deadlineMs} ms`
    case 'cancelled':
      return `${command}: cancelled`
    case 'not-found':
      return `${ending.command}: not found`
    case 'not-started':
      return `${ending.command}: could not be started: ${ending.reason}`
  }
}
