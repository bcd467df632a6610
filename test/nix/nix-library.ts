import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'

/** Nix as these tests call it: no sandbox and no build users, because they run as root in containers, too. */
export const nixEnvironment = {
  ...process.env,
  NIX_CONFIG:
    'sandbox = false\nbuild-users-group =\nextra-experimental-features = nix-command flakes\nwarn-dirty = false',
}

export const hasNix = spawnSync('nix', ['--version']).status === 0

/** The folder with the library of nixpkgs (`lib/`), or undefined when this machine has none. */
export function findNixpkgsLibrary(): string | undefined {
  const candidates = [
    process.env.MUSTER_NIXPKGS_LIB,
    join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'muster', 'nixpkgs-lib'),
  ]
  for (const candidate of candidates) {
    if (candidate === undefined || candidate === '') continue
    const found = [join(candidate, 'lib'), candidate].find(folder => existsSync(join(folder, 'modules.nix')))
    if (found !== undefined) return found
  }
  if (!hasNix) return undefined
  const { status, stdout } = spawnSync('nix-instantiate', ['--find-file', 'nixpkgs/lib'], {
    encoding: 'utf8',
  })
  return status === 0 ? stdout.trim() : undefined
}

/** Why tests that need the library do not run here; undefined when they do. */
export function whyNoNixTests(): string | undefined {
  if (!hasNix) return 'skipped: the command nix is missing'
  if (findNixpkgsLibrary() !== undefined) return undefined
  return 'skipped: no library of nixpkgs; clone github.com/nix-community/nixpkgs.lib to ~/.cache/muster/nixpkgs-lib'
}

const evaluateFile = join(import.meta.dirname, 'evaluate.nix')

/** Evaluates an expression in which `e` is what evaluate.nix offers; throws what Nix prints. */
export function evaluate(expression: string): unknown {
  const library = findNixpkgsLibrary() ?? '/no/library'
  const text = `let e = import ${evaluateFile} { libPath = ${library}; }; in ${expression}`
  const json = execFileSync(
    'nix-instantiate',
    ['--eval', '--strict', '--json', '--read-write-mode', '--expr', text],
    { encoding: 'utf8', env: nixEnvironment, stdio: ['ignore', 'pipe', 'pipe'], maxBuffer: 64 * 1024 * 1024 },
  )
  return JSON.parse(json)
}
