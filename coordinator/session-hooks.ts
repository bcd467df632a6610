import type { Clock } from '../shared/clock.ts'
import { pause } from '../shared/lifecycle.ts'
import type { Logger } from '../shared/log.ts'
import type { AuditHeads } from './audit/show-heads.ts'
import { admitSession } from './machines/admit-session.ts'
import type { MachineDirectory } from './machines/directory.ts'
import type { FleetTrust } from './machines/fleet-trust.ts'
import { MachineThrottles } from './machines/machine-throttles.ts'
import { recordFacts } from './machines/record-facts.ts'
import { AgentEvents, recordClone, recordLastSeen, recordTrustReport } from './machines/record-session.ts'
import { recordStatus } from './machines/record-status.ts'
import { trustNotice } from './machines/trust-notice.ts'
import type { ChangeFeed } from './operations/change-feed.ts'
import type { NodeClaims } from './operations/node-claims.ts'
import { changesNode } from './operations/order-action.ts'
import { markDelivered, pendingOrders } from './operations/orders.ts'
import { recordLog } from './operations/record-log.ts'
import { recordReport } from './operations/record-report.ts'
import type { ClusterHooks, SessionHooks } from './sessions/hooks.ts'
import type { FactsLimits } from './store/facts.ts'
import { hasOperations, openOperations } from './store/operations.ts'
import type { Store } from './store/store.ts'

export interface SessionHookDeps {
  readonly store: Store
  readonly directory: MachineDirectory
  readonly clock: Clock
  readonly log: Logger
  readonly operationFeed: ChangeFeed
  readonly factsLimits: FactsLimits
  readonly trust: FleetTrust
  readonly auditHeads: Pick<AuditHeads, 'shown'>
  readonly orderLifetimeMs?: number
  readonly clusters: ClusterHooks
  /** Told what nodes say that may be newer than the store. */
  readonly nodes?: NodeClaims
  /** Why nothing is granted; undefined: nothing is in the way. */
  readonly halted?: () => string | undefined
}

/** Facts and what a node holds on to change seldom; each set is a write of up to a mebibyte. */
const FACTS_PER_SECOND = 0.5
const FACTS_BURST = 20
/** A server answers every few seconds while something is under way in its cluster. */
const CLUSTER_PER_SECOND = 5
const CLUSTER_BURST = 200

/** What sessions ask of the rest of the coordinator, by the parts that answer it. */
export function sessionHooks(deps: SessionHookDeps): SessionHooks {
  const { store, directory, clock, log, trust } = deps
  const events = new AgentEvents(deps)
  const facts = new MachineThrottles(FACTS_PER_SECOND, FACTS_BURST)
  const clusters = new MachineThrottles(CLUSTER_PER_SECOND, CLUSTER_BURST)
  const slowed = async (machine: string) => {
    const seconds = clusters.take(machine, clock.now().getTime())
    if (seconds > 0) await pause(seconds * 1_000)
  }
  const statuses = new MachineThrottles(FACTS_PER_SECOND, FACTS_BURST)
  return {
    admit: (machine, hello, address) => admitSession(deps, machine, hello, address),
    allowed: machine => directory.isAllowed(machine),
    async facts(machine, bytes) {
      const seconds = facts.take(machine, clock.now().getTime())
      // Its stream is read no further meanwhile, so it is slowed and nothing of it is lost.
      if (seconds > 0) await pause(seconds * 1_000)
      return await recordFacts(deps, machine, bytes)
    },
    report: (machine, report, instance) => recordReport(deps, machine, report, instance),
    async status(machine, status) {
      const seconds = statuses.take(machine, clock.now().getTime())
      if (seconds > 0) await pause(seconds * 1_000)
      await recordStatus(deps, machine, status)
    },
    log: (machine, lines) => recordLog(deps, machine, lines),
    async event(machine, event) {
      if (!(await events.record(machine, event))) log.warn({ machineId: machine }, 'machine says too much')
    },
    trust: (machine, report) => recordTrustReport(deps, machine, report),
    async orders(machine) {
      // Orders wait for a machine that is held or in conflict; who it is must be settled by a person first.
      if (!directory.mayAct(machine) || directory.assignment(machine).kind !== 'host') return []
      const pending = await pendingOrders(store.db, machine, clock.now())
      // Changes that an older store gave may have been taken back since, or be done: they wait for an operator's word, too.
      return deps.halted?.() === undefined ? pending : pending.filter(order => !changesNode(order))
    },
    open: async machine => (await openOperations(store.db, [machine])).map(({ id }) => id),
    tellAll: async machine => deps.halted?.() !== undefined || (await isNew(deps, machine)),
    delivered: (machine, operations) => markDelivered(deps, machine, operations),
    async assignment(machine) {
      const assignment = directory.assignment(machine)
      return assignment.kind === 'host' ? { host: assignment.host, group: assignment.group } : {}
    },
    clone: (machine, reason) => recordClone(deps, machine, reason),
    lastSeen: batch => recordLastSeen(deps, batch),
    clusters: {
      began: machine => deps.clusters.began(machine),
      async report(machine, report) {
        await slowed(machine)
        await deps.clusters.report(machine, report)
      },
      async state(machine, state) {
        await slowed(machine)
        await deps.clusters.state(machine, state)
      },
    },
    auditHead: () => deps.auditHeads.shown,
    trustNotice: machine => trustNotice(directory.get(machine), trust.number),
  }
}

/** How long ago a machine was let in of whose operations nothing may be on record. */
const NEW_MS = 86_400_000

/** A machine that was let in a short time ago, and of which no operation is on record: what it did before, if anything, is not known here. */
async function isNew(
  { store, directory, clock }: Pick<SessionHookDeps, 'store' | 'directory' | 'clock'>,
  machine: string,
): Promise<boolean> {
  const { admittedAtMs } = directory.get(machine) ?? {}
  if (admittedAtMs === undefined || clock.now().getTime() - admittedAtMs > NEW_MS) return false
  return !(await hasOperations(store.db, machine))
}
