import { escapeText } from '../../shared/escape.ts'
import type { Fleet } from '../../shared/fleet-file/fleet.ts'
import { type Machine, MachineState } from '../../shared/gen/muster/v1/machine_pb.ts'
import { shortId } from '../output/machine-listing.ts'

export interface ChosenKeys {
  /** Host to the key of the machine that it is, where the file does not say it yet. */
  readonly write: ReadonlyMap<string, string>
  /** Hosts whose key stands there already. */
  readonly written: readonly string[]
  /** Hosts that are bound to no machine. */
  readonly unbound: readonly string[]
}

export type KeyChoice =
  | ({ readonly kind: 'chosen' } & ChosenKeys)
  /** Every reason: nothing is written while there is one. */
  | { readonly kind: 'refused'; readonly reasons: readonly string[] }

/** What makes it doubtful that a machine is who it says it is. */
const DOUBTS: ReadonlySet<string> = new Set(['clone', 'collision', 'went-back'])

/** Which keys belong into a fleet file: those of the machines that its hosts are bound to, by whatever way. */
export function chooseKeys(fleet: Fleet, machines: readonly Machine[]): KeyChoice {
  const bound = new Map<string, Machine[]>()
  for (const machine of machines) {
    const counts = machine.state === MachineState.ACTIVE || machine.state === MachineState.ENROLLED
    if (machine.host === '' || machine.group !== '' || !counts) continue
    bound.set(machine.host, [...(bound.get(machine.host) ?? []), machine])
  }
  const reasons: string[] = []
  const write = new Map<string, string>()
  const written: string[] = []
  const unbound: string[] = []
  for (const { name, binding } of fleet.hosts) {
    const [machine, second] = bound.get(name) ?? []
    if (!machine) {
      unbound.push(name)
      continue
    }
    const doubt = machine.conditions.find(condition => DOUBTS.has(condition.class))
    if (second)
      reasons.push(
        `${name}: two machines are it, ${shortId(machine.id)} and ${shortId(second.id)}: evict one`,
      )
    else if (doubt) reasons.push(`${name}: ${escapeText(doubt.reason)}; look with \`muster show ${name}\``)
    else if (machine.held)
      reasons.push(`${name}: is held (${escapeText(machine.held.reason)}); \`muster resume ${name}\` first`)
    else if (binding.machine === undefined) write.set(name, machine.id)
    else if (binding.machine === machine.id) written.push(name)
    else {
      reasons.push(
        `${name}: fleet.toml names machine ${shortId(binding.machine)}, the coordinator has ${shortId(machine.id)}: take the line away if the coordinator is right`,
      )
    }
  }
  return reasons.length > 0 ? { kind: 'refused', reasons } : { kind: 'chosen', write, written, unbound }
}
