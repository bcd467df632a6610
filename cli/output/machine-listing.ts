import {
  type Machine,
  MachineSchema,
  MachineState,
  MachineStateSchema,
} from '../../shared/gen/muster/v1/machine_pb.ts'
import { outcomeName, phaseName } from '../../shared/operation-names.ts'
import { millisOf } from '../../shared/time.ts'
import { formatDuration } from '../duration.ts'
import type { Style } from './colour.ts'
import { enumWord, type PlainRecord, plainOf } from './plain.ts'
import type { Listing } from './show-list.ts'

export const MACHINE_FIELDS = [
  'id',
  'state',
  'host',
  'group',
  'boundBy',
  'online',
  'lastSeen',
  'firstSeen',
  'labels',
  'conditions',
  'agentVersion',
  'certificateExpires',
  'trust',
  'highestRevision',
  'appliedRevision',
  'lastOperation',
  'simulated',
  'address',
  'admittedBy',
  'product',
  'serial',
  'rebootReasons',
  'held',
  'quarantined',
  'actedAs',
  'nodeStatus',
] as const

/** A machine for programs: everything but its facts, which `show --facts` tells. */
export function machineRecord(machine: Machine): PlainRecord {
  const { facts: _, ...rest } = plainOf(MachineSchema, machine)
  return rest
}

export function stateWord(state: MachineState): string {
  return enumWord(MachineStateSchema, state) ?? 'unknown'
}

/** The first 12 characters: enough to tell machines apart, and accepted wherever a machine is named. */
export function shortId(id: string): string {
  return id.slice(0, 12)
}

export function ago(millis: number | undefined, now: number): string {
  return millis === undefined ? '' : formatDuration(now - millis)
}

/** What a person should look at, in a few words. */
export function attentionOf(machine: Machine): string {
  const words = machine.conditions.map(({ class: kind }) => kind)
  if (machine.rebootReasons.length > 0) words.push('reboot')
  if (machine.simulated) words.push('simulated')
  return words.join(' ')
}

function operationText({ lastOperation }: Machine): string {
  if (!lastOperation) return ''
  const { outcome, phase, revision, action } = lastOperation
  const what = action === 'apply' || action === '' ? `${revision}` : action
  return outcome ? `${outcomeName(outcome.class)} ${what}` : `${phaseName(phase)} ${what} …`
}

export function stateStyle(machine: Machine): Style {
  switch (machine.state) {
    case MachineState.ACTIVE:
      return machine.online ? 'good' : 'warn'
    case MachineState.PENDING:
    case MachineState.ENROLLED:
      return 'warn'
    case MachineState.REJECTED:
    case MachineState.EVICTED:
    case MachineState.BANNED:
      return 'bad'
    case MachineState.UNSPECIFIED:
      return 'plain'
    default:
      return 'plain' // a state that a newer coordinator knows
  }
}

/** All machines, as `muster machines` lists them. */
export function machineListing(now: Date): Listing<Machine> {
  const at = now.getTime()
  return {
    fields: MACHINE_FIELDS,
    record: machineRecord,
    empty: 'no machines',
    columns: [
      { title: 'HOST', wraps: true, text: machine => machine.host },
      { title: 'MACHINE', text: machine => shortId(machine.id) },
      { title: 'STATE', wraps: true, text: machine => stateWord(machine.state), style: stateStyle },
      {
        title: 'SEEN',
        text: machine => (machine.online ? 'online' : ago(millisOf(machine.lastSeen), at)),
        style: machine => (machine.online ? 'good' : 'dim'),
      },
      {
        title: 'REVISION',
        text: machine => (machine.appliedRevision > 0n ? String(machine.appliedRevision) : ''),
      },
      { title: 'OPERATION', wraps: true, text: operationText },
      { title: 'PRODUCT', text: machine => machine.product },
      { title: 'SERIAL', wide: true, text: machine => machine.serial },
      { title: 'GROUP', wide: true, text: machine => machine.group },
      { title: 'ADDRESS', wide: true, text: machine => machine.address },
      { title: 'AGENT', wide: true, text: machine => machine.agentVersion },
      {
        title: 'LABELS',
        wide: true,
        text: machine =>
          Object.entries(machine.labels)
            .map(([key, value]) => `${key}=${value}`)
            .sort()
            .join(','),
      },
      { title: 'ADMITTED BY', wide: true, text: machine => machine.admittedBy },
      { title: 'LOOK AT', wraps: true, text: attentionOf, style: () => 'warn' },
    ],
  }
}

/** Machines that wait, as `muster pending` lists them: what they say they are, and what lets them in. */
export function pendingListing(now: Date): Listing<Machine> {
  const at = now.getTime()
  return {
    fields: MACHINE_FIELDS,
    record: machineRecord,
    empty: 'no machine is waiting',
    columns: [
      { title: 'MACHINE', text: machine => shortId(machine.id) },
      { title: 'WAITING', text: machine => ago(millisOf(machine.firstSeen), at) },
      { title: 'SEEN', text: machine => ago(millisOf(machine.lastSeen), at) },
      { title: 'PRODUCT', wraps: true, text: machine => machine.product },
      { title: 'SERIAL', text: machine => machine.serial },
      { title: 'ADDRESS', text: machine => machine.address },
      { title: 'FINGERPRINT', wide: true, text: machine => machine.id },
      {
        title: 'WHY',
        wraps: true,
        text: machine =>
          [
            ...machine.conditions.map(({ reason, class: kind }) => reason || kind),
            machine.simulated ? 'simulated' : '',
          ]
            .filter(text => text !== '')
            .join('; '),
        style: () => 'dim',
      },
    ],
  }
}
