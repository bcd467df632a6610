import { spawn } from 'node:child_process'
import { CliError } from '../exit-codes.ts'

const FEATURES = ['--extra-experimental-features', 'nix-command flakes']
const MAX_OUTPUT_BYTES = 256 * 1024 * 1024
const KEPT_ERROR_CHARS = 4_000

export interface NixRun {
  readonly args: readonly string[]
  readonly signal: AbortSignal
  /** Told every piece of what Nix says while it works. */
  readonly onOutput?: (text: string) => void
}

/** Runs `nix` and returns its standard output. Arguments are never joined into a shell's line. */
export async function runNix({ args, signal, onOutput }: NixRun): Promise<string> {
  const child = spawn('nix', [...FEATURES, ...args], { stdio: ['ignore', 'pipe', 'pipe'], signal })
  const out: Buffer[] = []
  let size = 0
  let tail = ''
  child.stdout.on('data', (piece: Buffer) => {
    size += piece.length
    if (size > MAX_OUTPUT_BYTES) child.kill()
    else out.push(piece)
  })
  child.stderr.on('data', (piece: Buffer) => {
    tail = (tail + piece.toString()).slice(-KEPT_ERROR_CHARS)
    onOutput?.(piece.toString())
  })
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', error =>
      reject(
        signal.aborted
          ? new CliError('interrupted', '')
          : 'code' in error && error.code === 'ENOENT'
            ? new CliError(
                'error',
                'the program nix is not here: --build needs Nix; without --build machines build from source',
              )
            : error,
      ),
    )
    child.on('close', resolve)
  })
  if (size > MAX_OUTPUT_BYTES) throw new CliError('error', `nix ${args[0]}: more output than is read`)
  if (code !== 0) {
    throw new CliError(
      'failed',
      `nix ${args.slice(0, 2).join(' ')} failed with exit code ${code}:\n${tail.trim()}`,
    )
  }
  return Buffer.concat(out).toString()
}
