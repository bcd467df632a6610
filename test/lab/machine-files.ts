import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** A published nixos-rebuild, in place of the stand-in: a script whose interpreter and tools the lab's root has. */
const NIXOS_REBUILD =
  process.env.MUSTER_NIXOS_REBUILD ?? join(import.meta.dirname, '../standin/nixos-rebuild')

const NIX_CONF = `sandbox = false
build-users-group =
experimental-features = nix-command flakes
substituters =
warn-dirty = false
flake-registry = /dev/null
`

/** What every machine of a lab has on its disk that no system of it names: path without the first slash, text. */
export function machineFiles(machineId: string): Readonly<Record<string, string>> {
  return {
    'etc/machine-id': `${machineId}\n`,
    'etc/hosts': '127.0.0.1 localhost\n::1 localhost\n',
    'etc/nix/nix.conf': NIX_CONF,
    'etc/NIXOS': '',
    // What stand-ins look for before they touch the root of a machine.
    'etc/muster-lab': '',
    'usr/local/bin/nixos-rebuild': readFileSync(NIXOS_REBUILD, 'utf8'),
  }
}
