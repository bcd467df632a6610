import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { hasNix } from '../nix/nix-library.ts'

/** Programs of the host that lab machines need; scripts/test.mjs installs them where it may. */
const NEEDED = ['debootstrap', 'systemd-nspawn', 'ip', 'nsenter', 'unshare', 'python3'] as const

/** Those of the programs that are not in PATH. */
export const missingPrograms = (programs: readonly string[]): readonly string[] =>
  programs.filter(program => !inPath(program))

function inPath(program: string): boolean {
  return (process.env.PATH ?? '').split(delimiter).some(folder => {
    try {
      accessSync(join(folder, program), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

/** Why no lab machine can run here; undefined when they can. */
export function whyNoLab(): string | undefined {
  if (process.platform !== 'linux') return 'lab machines run on Linux only'
  if (process.getuid?.() !== 0) return 'lab machines need root: containers, mounts, network namespaces'
  if (!hasNix) return 'the command nix is missing (Debian package nix-bin)'
  const missing = missingPrograms(NEEDED)
  return missing.length === 0 ? undefined : `missing: ${missing.join(', ')}`
}

/** Time for the set-up of a file's machines: the first one on a host makes the root, or waits until another has. */
export const SET_UP_MS = 20 * 60_000
