import type { CelInput } from '@bufbuild/cel'
import type { Assignment } from '../enrolment/assign.ts'
import { heldBecause, type MachineEntry } from '../machines/entry.ts'
import type { FleetTargets } from '../revisions/fleet-targets.ts'

/** What an expression is told about a machine beside its facts, as the coordinator knows it. */
export interface MachineContext {
  readonly assignment: Assignment
  readonly targets: FleetTargets
  readonly online: boolean
  /** Undefined where the expression does not ask for `status`. */
  readonly appliedRevision: number | undefined
}

/** All variables of an expression but `facts`. Keys are documented in docs/reference. */
export function machineVariables(entry: MachineEntry, context: MachineContext) {
  const { assignment, targets } = context
  const host = assignment.kind === 'host' ? assignment : undefined
  const target = host && (host.group === '' ? targets.hosts.get(host.host) : targets.groups.get(host.group))
  return {
    machine: withoutEmpty([
      ['id', entry.id],
      ['state', entry.state],
      ['serial', entry.identity.serial],
      ['uuid', entry.identity.uuid],
      ['product', entry.identity.product],
    ]),
    // A machine that is no host has empty texts here: that it has none is known, not missing.
    host: new Map<string, CelInput>([
      ['name', host?.host ?? ''],
      ['group', host?.group ?? ''],
      ['boundBy', host?.boundBy ?? ''],
      ['role', target?.role ?? ''],
      ['cluster', target?.cluster ?? ''],
      ['system', target?.system ?? ''],
    ]),
    // What was signed wins over what a token or an operator said.
    labels: new Map<string, CelInput>([
      ...Object.entries(entry.labels),
      ...Object.entries(target?.labels ?? {}),
    ]),
    status: statusOf(entry, context),
  }
}

function statusOf(entry: MachineEntry, { online, appliedRevision, targets }: MachineContext) {
  const status = new Map<string, CelInput>([
    ['online', online],
    ['held', heldBecause(entry) !== undefined],
    ['conditions', entry.conditions.map(condition => condition.class)],
    ['highestRevision', BigInt(entry.highestRevision)],
  ])
  if (appliedRevision !== undefined) {
    status.set('appliedRevision', BigInt(appliedRevision))
    status.set('current', targets.revision > 0 && appliedRevision === targets.revision)
  }
  return status
}

function withoutEmpty(entries: readonly (readonly [string, string])[]): Map<string, CelInput> {
  return new Map<string, CelInput>(entries.filter(([, value]) => value !== ''))
}
