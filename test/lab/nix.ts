import { nixEnvironment } from '../nix/nix-library.ts'
import { must } from './run.ts'

/** Nix of the host for lab machines: it asks no network for anything. */
const env = { NIX_CONFIG: `${nixEnvironment.NIX_CONFIG}\nsubstituters =\nflake-registry = /dev/null` }
const BUILD_MS = 5 * 60_000

/** Builds what the arguments of `nix build` name; the output paths in an order of its own. */
export async function nixBuild(...args: readonly string[]): Promise<readonly string[]> {
  const { stdout } = await must('nix', ['build', '--no-link', '--json', ...args], {
    env,
    timeoutMs: BUILD_MS,
  })
  return Array.from(stdout.matchAll(/"out":\s*"([^"]+)"/g), ([, path = '']) => path)
}

/** Copies a file or folder into the store; its path there. */
export async function addToStore(path: string): Promise<string> {
  return (await must('nix-store', ['--add', path], { env })).stdout.trim()
}

/** The paths with all they need. */
export async function closureOf(paths: readonly string[]): Promise<readonly string[]> {
  const { stdout } = await must('nix-store', ['--query', '--requisites', ...paths], { env })
  return stdout.split('\n').filter(line => line !== '')
}

/** What a function gives for the value that a flake reference names, without building anything. */
export async function nixEval(reference: string, apply: string): Promise<unknown> {
  const { stdout } = await must('nix', ['eval', '--json', reference, '--apply', apply], { env })
  return JSON.parse(stdout)
}
