import type { Binding, Target } from '../../shared/gen/muster/v1/manifest_pb.ts'
import { expandName, type Hardware } from '../../shared/revision/expand-name.ts'
import type { FleetTargets } from '../revisions/fleet-targets.ts'

export type BoundBy = 'key' | 'hardware' | 'rule' | 'hand'

/** Which host a machine is, and what made it that host. */
export type Assignment =
  | { readonly kind: 'host'; readonly host: string; readonly group: string; readonly boundBy: BoundBy }
  | { readonly kind: 'none'; readonly reason: string }
  | { readonly kind: 'conflict'; readonly reason: string }

/** What a group's rule says about a machine's facts. */
export type RuleVerdict =
  | { readonly kind: 'match' }
  | { readonly kind: 'no-match' }
  | { readonly kind: 'error'; readonly reason: string }

/**
 * Which host a machine is: its key in the fleet file, then hardware in the fleet file, then a group's rule, then an
 * operator's hand. A step that cannot be decided ends in a conflict and not in the next step, since a guess would
 * install the wrong host.
 */
export function assignHost(
  hardware: Hardware,
  targets: FleetTargets,
  /** The host this machine was bound to by hand. */
  boundByHand: string | undefined,
  verdicts: ReadonlyMap<string, RuleVerdict>,
): Assignment {
  const byFile = byKey(hardware, targets) ?? byHardware(hardware, targets)
  if (byFile) return byFile
  const otherwise = byRule(hardware, targets, verdicts) ?? byHand(hardware, targets, boundByHand)
  if (otherwise?.kind === 'conflict') return otherwise
  const half = fitsInPart(hardware, targets)
  // A part of a listed host was replaced, or sits in another machine now: which of the two, only the fleet file can say.
  if (otherwise?.kind === 'host' && half !== undefined) {
    return conflict(`${half}; it would be ${otherwise.host} otherwise: correct the fleet file`)
  }
  return otherwise ?? { kind: 'none', reason: noneReason(verdicts, half) }
}

function byKey(hardware: Hardware, targets: FleetTargets): Assignment | undefined {
  const host = targets.byMachine.get(hardware.machineId)
  if (host === undefined) return undefined
  const fault = bindingFault(targets.hosts.get(host)?.binding, hardware)
  if (fault) return conflict(`the fleet file ties host ${host} to this machine's key, but ${fault}`)
  return { kind: 'host', host, group: '', boundBy: 'key' }
}

function byHardware(hardware: Hardware, targets: FleetTargets): Assignment | undefined {
  // A host may name several parts; a machine that has only some of them is not that host.
  const whole = hostsNamed(hardware, targets).filter(
    host => !bindingFault(targets.hosts.get(host)?.binding, hardware),
  )
  const [host, ...others] = whole
  if (host === undefined) return undefined
  if (others.length > 0) {
    return conflict(`its hardware is that of several hosts of the fleet file: ${whole.toSorted().join(', ')}`)
  }
  return { kind: 'host', host, group: '', boundBy: 'hardware' }
}

/** The hosts for which the fleet file names a part that this machine has. */
function hostsNamed(hardware: Hardware, targets: FleetTargets): readonly string[] {
  const named = [
    hardware.serial && targets.bySerial.get(hardware.serial),
    hardware.uuid && targets.byUuid.get(hardware.uuid),
    ...(hardware.macs ?? []).map(mac => targets.byMac.get(mac)),
    ...(hardware.diskSerials ?? []).map(serial => targets.byDisk.get(serial)),
  ]
  return [...new Set(named)].filter((host): host is string => host !== undefined && host !== '')
}

/**
 * Says of which host this machine has some parts and lacks others, as where a board was replaced; undefined: of none. It names parts and
 * no values, since whoever asks to be let in is told, and could claim the rest.
 */
function fitsInPart(hardware: Hardware, targets: FleetTargets): string | undefined {
  const [host] = hostsNamed(hardware, targets).toSorted()
  if (host === undefined) return undefined
  const parts = partsOf(targets.hosts.get(host)?.binding, hardware)
  const names = (holds: boolean) =>
    parts
      .filter(part => part.holds === holds)
      .map(({ name }) => name)
      .join(' and ')
  return `it has the ${names(true)} of host ${host} in the fleet file, but not its ${names(false)}`
}

function byRule(
  hardware: Hardware,
  targets: FleetTargets,
  verdicts: ReadonlyMap<string, RuleVerdict>,
): Assignment | undefined {
  const matching = [...verdicts].filter(([, verdict]) => verdict.kind === 'match').map(([group]) => group)
  const [group, ...others] = matching
  if (group === undefined) return undefined
  if (others.length > 0) {
    return conflict(`the rules of several groups hold: ${matching.toSorted().join(', ')}`)
  }
  const expanded = expandName(targets.groups.get(group)?.binding?.nameTemplate ?? '', hardware)
  if (expanded.kind !== 'ok') {
    return conflict(`the rule of group ${group} holds, but it has no name: ${expanded.reason}`)
  }
  if (targets.hosts.has(expanded.name)) {
    return conflict(`group ${group} would name it ${expanded.name}, which the fleet file lists as a host`)
  }
  return { kind: 'host', host: expanded.name, group, boundBy: 'rule' }
}

function byHand(hardware: Hardware, targets: FleetTargets, host: string | undefined): Assignment | undefined {
  if (host === undefined) return undefined
  const fault = bindingFault(targets.hosts.get(host)?.binding, hardware)
  if (fault) return conflict(`it is bound to host ${host} by hand, but ${fault}`)
  return { kind: 'host', host, group: '', boundBy: 'hand' }
}

/** Which part of a binding does not hold; undefined when all that are present do. */
export function bindingFault(binding: Binding | undefined, hardware: Hardware): string | undefined {
  const missing = partsOf(binding, hardware).find(({ holds }) => !holds)
  if (!missing) return undefined
  return missing.name === 'key'
    ? `the fleet file ties that host to another machine's key`
    : `the fleet file wants ${missing.name} ${missing.wanted}, which this machine does not show`
}

interface Part {
  readonly name: string
  readonly wanted: string
  readonly holds: boolean
}

/** What a binding names, and whether this machine has it. Absent never equals anything. */
function partsOf(binding: Binding | undefined, hardware: Hardware): readonly Part[] {
  if (!binding) return []
  const { machine, serial, uuid, mac, diskSerial } = binding
  return [
    { name: 'key', wanted: machine, holds: machine === hardware.machineId },
    { name: 'serial', wanted: serial, holds: serial === hardware.serial },
    { name: 'UUID', wanted: uuid, holds: uuid.toLowerCase() === hardware.uuid },
    { name: 'MAC', wanted: mac, holds: hardware.macs?.includes(mac.toLowerCase()) ?? false },
    { name: 'disk serial', wanted: diskSerial, holds: hardware.diskSerials?.includes(diskSerial) ?? false },
  ].filter(({ wanted }) => wanted !== '')
}

function noneReason(verdicts: ReadonlyMap<string, RuleVerdict>, half: string | undefined): string {
  const errors = [...verdicts].flatMap(([group, verdict]) =>
    verdict.kind === 'error' ? [`the rule of group ${group} could not be decided: ${verdict.reason}`] : [],
  )
  const reasons = half === undefined ? errors : [half, ...errors]
  return reasons.length > 0 ? reasons.join('; ') : 'no host of the fleet file is this machine'
}

function conflict(reason: string): Assignment {
  return { kind: 'conflict', reason }
}

/** Whether machines of this target hold a cluster's state: never given away to a stranger by a rule. */
export function isServer(target: Target | undefined): boolean {
  return target === undefined || target.role === 'server' || target.role === 'server+worker'
}
