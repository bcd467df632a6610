import type { Target } from '../gen/muster/v1/manifest_pb.ts'
import { expandName, type Hardware } from './expand-name.ts'
import { isLoose } from './read-target.ts'
import { type HostAssignment, type Refused, refuse } from './verify-revision.ts'

/** What evaluating a group's rule over this machine's own facts gave. */
export interface RuleVerdict {
  /** The text that was evaluated; must be the target's own. */
  readonly rule: string
  readonly kind: 'match' | 'no-match' | 'error'
  readonly reason: string
}

export type BindingVerdict =
  | { readonly kind: 'bound'; readonly host: string; readonly loose: boolean }
  | Refused

export interface BindingInput {
  readonly target: Target
  readonly hardware: Hardware
  readonly assignment: HostAssignment
  readonly ruleVerdict: RuleVerdict | undefined
  /** The host this node last acted as. */
  readonly lastHost: string | undefined
}

/** Whether a target may run on this hardware, and as which host. Every part that is present must hold. */
export function judgeBinding(input: BindingInput): BindingVerdict {
  const { target, hardware, assignment, lastHost } = input
  const { binding } = target
  if (!binding || isLoose(binding)) {
    if (assignment.host !== target.host) {
      return refuse(
        'target-mismatch',
        `target of host ${target.host}: this machine is bound to ${assignment.host}`,
      )
    }
    // Nothing signed says which machine this is, so the coordinator's word may be taken once, but never changed.
    if (lastHost !== undefined && lastHost !== target.host) {
      return refuse(
        'host-changed',
        `host ${target.host}: this node acts as ${lastHost}, and no hardware in the fleet file ties it to another name`,
      )
    }
    return { kind: 'bound', host: target.host, loose: true }
  }
  const problem =
    judgePart('machine', binding.machine, [hardware.machineId]) ??
    judgePart('serial', binding.serial, hardware.serial === undefined ? undefined : [hardware.serial]) ??
    judgePart(
      'uuid',
      binding.uuid,
      hardware.uuid === undefined ? undefined : [hardware.uuid.toLowerCase()],
    ) ??
    judgePart(
      'mac',
      binding.mac,
      hardware.macs?.map(mac => mac.toLowerCase()),
    ) ??
    judgePart('disk serial', binding.diskSerial, hardware.diskSerials)
  if (problem) return problem
  return target.group === '' ? { kind: 'bound', host: target.host, loose: false } : judgeGroup(input)
}

function judgePart(name: string, wanted: string, found: readonly string[] | undefined): Refused | undefined {
  if (wanted === '') return undefined
  const readable = found?.filter(text => text !== '') ?? []
  if (readable.includes(wanted)) return undefined
  return readable.length === 0
    ? refuse('unreadable-fact', `binding ${name}: this machine cannot read its own`)
    : refuse(
        'wrong-machine',
        `binding ${name}: the target is made for ${wanted}, which this machine does not have`,
      )
}

function judgeGroup({ target, hardware, assignment, ruleVerdict }: BindingInput): BindingVerdict {
  const { rule = '', nameTemplate = '' } = target.binding ?? {}
  const place = `group ${target.group}`
  if (!ruleVerdict) return refuse('unreadable-fact', `${place}: its rule was not evaluated`)
  if (ruleVerdict.rule !== rule) {
    return refuse('target-mismatch', `${place}: another rule was evaluated than the signed one`)
  }
  if (ruleVerdict.kind === 'error') {
    return refuse('unreadable-fact', `${place}: its rule cannot be decided here: ${ruleVerdict.reason}`)
  }
  if (ruleVerdict.kind === 'no-match') {
    return refuse('wrong-machine', `${place}: its rule does not hold here: ${ruleVerdict.reason}`)
  }
  const name = expandName(nameTemplate, hardware)
  if (name.kind === 'unreadable') return refuse('unreadable-fact', `${place}: ${name.reason}`)
  if (name.kind === 'refused') return refuse('malformed', `${place}: ${name.reason}`)
  if (name.name !== assignment.host) {
    return refuse(
      'wrong-machine',
      `${place}: the signed template names this machine ${name.name}, not ${assignment.host}`,
    )
  }
  return { kind: 'bound', host: name.name, loose: false }
}
