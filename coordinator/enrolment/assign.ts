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
  return (
    byKey(hardware, targets) ??
    byHardware(hardware, targets) ??
    byRule(hardware, targets, verdicts) ??
    byHand(hardware, targets, boundByHand) ?? { kind: 'none', reason: noneReason(verdicts) }
  )
}

function byKey(hardware: Hardware, targets: FleetTargets): Assignment | undefined {
  const host = targets.byMachine.get(hardware.machineId)
  if (host === undefined) return undefined
  const fault = bindingFault(targets.hosts.get(host)?.binding, hardware)
  if (fault) return conflict(`the fleet file ties host ${host} to this machine's key, but ${fault}`)
  return { kind: 'host', host, group: '', boundBy: 'key' }
}

function byHardware(hardware: Hardware, targets: FleetTargets): Assignment | undefined {
  const named = new Set(
    [
      hardware.serial && targets.bySerial.get(hardware.serial),
      hardware.uuid && targets.byUuid.get(hardware.uuid),
      ...(hardware.macs ?? []).map(mac => targets.byMac.get(mac)),
      ...(hardware.diskSerials ?? []).map(serial => targets.byDisk.get(serial)),
    ].filter(host => host !== undefined && host !== ''),
  )
  // A host may name several parts; a machine that has only some of them is not that host.
  const whole = [...named].filter(
    (host): host is string => host !== undefined && !bindingFault(targets.hosts.get(host)?.binding, hardware),
  )
  const [host, ...others] = whole
  if (host === undefined) return undefined
  if (others.length > 0) {
    return conflict(`its hardware is that of several hosts of the fleet file: ${whole.toSorted().join(', ')}`)
  }
  return { kind: 'host', host, group: '', boundBy: 'hardware' }
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

/** Which part of a binding does not hold; undefined when all that are present do. Absent never equals anything. */
export function bindingFault(binding: Binding | undefined, hardware: Hardware): string | undefined {
  if (!binding) return undefined
  if (binding.machine && binding.machine !== hardware.machineId) {
    return `the fleet file ties that host to another machine's key`
  }
  if (binding.serial && binding.serial !== hardware.serial) return fault('serial', binding.serial)
  if (binding.uuid && binding.uuid.toLowerCase() !== hardware.uuid) return fault('UUID', binding.uuid)
  if (binding.mac && !hardware.macs?.includes(binding.mac.toLowerCase())) return fault('MAC', binding.mac)
  if (binding.diskSerial && !hardware.diskSerials?.includes(binding.diskSerial)) {
    return fault('disk serial', binding.diskSerial)
  }
  return undefined
}

function fault(part: string, wanted: string): string {
  return `the fleet file wants ${part} ${wanted}, which this machine does not show`
}

function noneReason(verdicts: ReadonlyMap<string, RuleVerdict>): string {
  const errors = [...verdicts].flatMap(([group, verdict]) =>
    verdict.kind === 'error' ? [`the rule of group ${group} could not be decided: ${verdict.reason}`] : [],
  )
  return errors.length > 0 ? errors.join('; ') : 'no host of the fleet file is this machine'
}

function conflict(reason: string): Assignment {
  return { kind: 'conflict', reason }
}

/** Whether machines of this target hold a cluster's state: never given away to a stranger by a rule. */
export function isServer(target: Target | undefined): boolean {
  return target === undefined || target.role === 'server' || target.role === 'server+worker'
}
