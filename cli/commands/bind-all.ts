import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { writeFileDurably } from '../../shared/durable-file.ts'
import { escapeText } from '../../shared/escape.ts'
import type { Fleet } from '../../shared/fleet-file/fleet.ts'
import { type WrittenKey, writeMachineKeys } from '../../shared/fleet-file/write-machine-keys.ts'
import type { Machine } from '../../shared/gen/muster/v1/machine_pb.ts'
import { isDigest } from '../../shared/ids.ts'
import type { Cli } from '../cli.ts'
import { withCoordinator } from '../connect.ts'
import { CliError } from '../exit-codes.ts'
import { chooseKeys } from '../fleets/choose-keys.ts'
import { checkText, FLEET_FILE, requireFleetFile } from '../fleets/read-fleet-directory.ts'
import type { Format } from '../output/format.ts'
import { showOne } from '../output/show-list.ts'
import { fetchMachines } from './list-machines.ts'

export interface BindAllOptions {
  readonly directory?: string | undefined
  readonly dryRun?: boolean | undefined
  readonly output?: Format | undefined
}

/** Writes the keys of all bound machines into the fleet file, and nothing else. */
export async function bindAll(cli: Cli, options: BindAllOptions): Promise<void> {
  const dir = options.directory ?? '.'
  const path = join(dir, FLEET_FILE)
  const { fleet } = await requireFleetFile(dir)
  const machines = await machinesOf(cli, fleet)
  const chosen = chooseKeys(fleet, machines)
  if (chosen.kind === 'refused') {
    throw new CliError('refused', `${path} is left as it is:\n  ${chosen.reasons.join('\n  ')}`)
  }
  const before = await readFile(path, 'utf8')
  const result = writeMachineKeys(before, chosen.write)
  if (result.kind === 'refused') throw new CliError('error', `${path}: ${result.reason}`)
  proveChange(path, fleet, result.text, chosen.write)
  if (!options.dryRun && chosen.write.size > 0) {
    const { mode } = await stat(path)
    if ((await readFile(path, 'utf8')) !== before) {
      throw new CliError('conflict', `${path}: was changed meanwhile; nothing was written, try again`)
    }
    await writeFileDurably(path, result.text, mode & 0o777)
  }
  const record = {
    file: path,
    changed: !options.dryRun && chosen.write.size > 0,
    hosts: result.keys.map(({ host, machine, line }) => ({ host, machine, line })),
    already: [...chosen.written],
    unbound: [...chosen.unbound],
  }
  await showOne(cli.io, record, options.output, () => told(path, result.keys, options, chosen))
}

async function machinesOf(cli: Cli, fleet: Fleet): Promise<readonly Machine[]> {
  return withCoordinator(cli, async connection => {
    const { fleetId } = await connection.client.getFleet({}, connection.call)
    if (fleetId !== '' && fleetId !== fleet.id) {
      throw new CliError(
        'refused',
        `fleet.toml is of fleet ${fleet.id}, the coordinator at ${connection.place} serves ${fleetId}`,
      )
    }
    const { machines } = await fetchMachines(connection, {})
    const odd = machines.find(({ id }) => !isDigest(id))
    if (odd)
      throw new CliError('error', `the coordinator tells of a machine without an id: ${escapeText(odd.id)}`)
    return machines
  })
}

/** The file is the operator's: what is written must say the same as before but for the keys, or nothing is written. */
function proveChange(path: string, before: Fleet, text: string, keys: ReadonlyMap<string, string>): void {
  const after = checkText(text, path)
  const hosts = before.hosts.map(host => ({
    ...host,
    binding: { ...host.binding, machine: keys.get(host.name) ?? host.binding.machine },
  }))
  const byName = (fleet: Pick<Fleet, 'hosts'>) => new Map(fleet.hosts.map(host => [host.name, host]))
  if (
    after.ok &&
    isDeepStrictEqual({ ...after.fleet, hosts: byName(after.fleet) }, { ...before, hosts: byName({ hosts }) })
  ) {
    return
  }
  throw new CliError(
    'error',
    `${path}: is written in a way that this command cannot add to; write the keys by hand (\`muster machines -o wide\` shows them)`,
  )
}

function told(
  path: string,
  keys: readonly WrittenKey[],
  { dryRun }: BindAllOptions,
  { written, unbound }: { readonly written: readonly string[]; readonly unbound: readonly string[] },
): string {
  const lines = keys.map(({ host, machine, line }) => `${path}:${line}: ${host}: + machine = "${machine}"\n`)
  const rest = unbound.length > 0 ? `bound to no machine yet: ${unbound.join(', ')}\n` : ''
  if (keys.length === 0) {
    return `${path}: nothing to write; ${written.length} of its hosts name their machine\n${rest}`
  }
  const done = dryRun
    ? 'nothing was written (--dry-run)\n'
    : 'compare the keys with what the machines’ consoles show if you do not trust the coordinator; then commit and `muster publish`\n'
  return `${lines.join('')}${rest}${done}`
}
