import { readFile } from 'node:fs/promises'
import { hasCode } from '../../shared/errors.ts'
import type { MachineDirectory } from './directory.ts'
import type { MachineEntry } from './entry.ts'

/** Says which machine of the fleet the coordinator itself runs on; undefined: none, or it is not known. */
export type OwnHost = () => string | undefined

/** The machine that is the coordinator's own: as configured, else the one whose system has this machine's id. */
export function findOwnHost({
  directory,
  configured,
  systemId,
}: {
  readonly directory: Pick<MachineDirectory, 'entries' | 'machineOf'>
  /** Name of the host; undefined: not said. */
  readonly configured: string | undefined
  readonly systemId: string | undefined
}): OwnHost {
  return () => {
    if (configured !== undefined) return directory.machineOf(configured)
    if (systemId === undefined) return undefined
    for (const entry of directory.entries()) if (isOwn(entry, systemId)) return entry.id
    return undefined
  }
}

function isOwn({ state, simulated, identity }: MachineEntry, systemId: string): boolean {
  return state === 'active' && !simulated && identity.systemId === systemId
}

/** This machine's /etc/machine-id; undefined where there is none. */
export async function readSystemId(path = '/etc/machine-id'): Promise<string | undefined> {
  try {
    const text = (await readFile(path, 'utf8')).trim()
    return /^[0-9a-f]{32}$/.test(text) ? text : undefined
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined
    throw error
  }
}
