import type { GateName } from '../../decision.ts'
import { nextAttempt, progressOf } from '../../host-steps.ts'
import { nextStep } from '../../next-step.ts'
import { planRollouts } from '../../plan-rollouts.ts'
import type { HostRecord, RolloutRecord } from '../../rollout-record.ts'
import type {
  ClusterView,
  GatesView,
  HostView,
  MemberView,
  OperationView,
  RolloutSnapshot,
} from '../../rollout-snapshot.ts'
import type { Planner, SimulationOptions } from '../simulated-operators.ts'

/** A planner with one mistake, and what the world must notice of it. */
export interface BrokenPlanner {
  readonly name: string
  readonly notices: RegExp
  readonly planner: () => Planner
  readonly options?: Partial<SimulationOptions>
}

/** The real planner, with another world before its eyes. */
export const blind =
  (change: (snapshot: RolloutSnapshot) => RolloutSnapshot): Planner =>
  (snapshot, nowMs) =>
    planRollouts(change(snapshot), nowMs)

export const withHosts = (change: (view: HostView) => HostView) =>
  blind(snapshot => ({
    ...snapshot,
    hosts: new Map([...snapshot.hosts].map(([name, view]) => [name, change(view)])),
  }))

export const withJobAnswers =
  (change: (answer: GatesView, nowMs: number) => GatesView): Planner =>
  (snapshot, nowMs) => {
    const jobs = [...snapshot.jobs].map(([name, view]) => {
      const answer = view.answer && change(view.answer, nowMs)
      return [name, { ...view, answer }] as const
    })
    return planRollouts({ ...snapshot, jobs: new Map(jobs) }, nowMs)
  }

export const withMembers = (change: (member: MemberView, nowMs: number) => MemberView): Planner => {
  return (snapshot, nowMs) => {
    const clusters = [...snapshot.clusters].map(([name, cluster]): [string, ClusterView] => [
      name,
      { ...cluster, members: new Map([...cluster.members].map(([host, one]) => [host, change(one, nowMs)])) },
    ])
    return planRollouts({ ...snapshot, clusters: new Map(clusters) }, nowMs)
  }
}

export const renewedAt = ({ evidence }: MemberView, nowMs: number) =>
  evidence && { ...evidence, renewedAfterMs: nowMs }

export const withRecords = (change: (rollout: RolloutRecord) => RolloutRecord) =>
  blind(snapshot => ({ ...snapshot, rollouts: snapshot.rollouts.map(change) }))

export const withRecordHosts = (change: (host: HostRecord) => HostRecord) =>
  withRecords(rollout => ({ ...rollout, hosts: rollout.hosts.map(change) }))

/** Everything that it grants is written down, but it decides from the state before. */
export const withoutMemory = (): Planner => {
  let before: RolloutSnapshot | undefined
  return (snapshot, nowMs) => {
    const decision = planRollouts(before ? { ...snapshot, rollouts: before.rollouts } : snapshot, nowMs)
    before = snapshot
    return decision
  }
}

/** Grants what is held by this gate alone as well. */
export const goingPast =
  (gate: GateName): Planner =>
  (snapshot, nowMs) => {
    const decision = planRollouts(snapshot, nowMs)
    const ends = new Map(decision.closings.map(({ grant, end }) => [grant, { ...end, atMs: nowMs }]))
    const more = snapshot.rollouts.flatMap(rollout =>
      rollout.hosts.flatMap(record => {
        const held = decision.waits.get(rollout.id)?.get(record.host) ?? []
        if (held.length === 0 || held.some(wait => wait.gate !== gate)) return []
        const grants = record.grants.map(one => ({ ...one, end: one.end ?? ends.get(one.id) }))
        const host = { ...record, grants }
        const step = nextStep(snapshot, rollout, host, progressOf(rollout, host))
        const machine = snapshot.hosts.get(host.host)?.machine
        if (step === undefined || machine === undefined) return []
        const attempt = nextAttempt(host, step)
        return [{ rollout: rollout.id, host: host.host, machine, step, attempt, skipped: undefined }]
      }),
    )
    return { ...decision, grants: [...decision.grants, ...more] }
  }

export const withOperations = (change: (operation: OperationView) => OperationView) =>
  blind(snapshot => ({
    ...snapshot,
    operations: new Map([...snapshot.operations].map(([id, operation]) => [id, change(operation)])),
  }))
