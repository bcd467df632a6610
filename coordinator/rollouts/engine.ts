import { pause } from '../../shared/lifecycle.ts'
import type { NodeClaims } from '../operations/node-claims.ts'
import type { OrderDeps } from '../operations/orders.ts'
import type { Sessions } from '../sessions/sessions.ts'
import { adoptGrant } from './adopt-grant.ts'
import { catchUp } from './catch-up.ts'
import type { ClusterSource } from './cluster-source.ts'
import { GateQuestions } from './gate-questions.ts'
import { PendingHosts } from './pending-hosts.ts'
import { Presence } from './presence.ts'
import { RestoreWatch } from './restore-watch.ts'
import { beginDueReverts } from './revert-rollout.ts'
import { RolloutRunner, type RunnerDeps } from './runner.ts'
import { saidAtDoor } from './said-at-door.ts'

export type EngineDeps = Omit<
  RunnerDeps,
  'clusters' | 'presence' | 'halted' | 'takeBack' | 'gateQuestions' | 'jobQuestions'
> &
  OrderDeps & {
    readonly clusters: ClusterSource
    readonly sessions: RunnerDeps['sessions'] & Pick<Sessions, 'probe'>
  }

/** Everything that rollouts are made of, built around one runner. */
export interface RolloutEngine {
  readonly runner: RolloutRunner
  readonly presence: Presence
  readonly gateQuestions: GateQuestions
  readonly jobQuestions: GateQuestions
  readonly restoreWatch: RestoreWatch
  readonly halted: () => string | undefined
  readonly clusters: ClusterSource
  /** Hosts for which a rollout would be begun, and what holds that. */
  readonly pending: PendingHosts
  /** What nodes say goes here; what it shows of the store is written after it was heard. */
  readonly nodes: NodeClaims
  /** Runs until the signal fires. */
  run(signal: AbortSignal): Promise<void>
}

const CATCH_UP_EVERY_MS = 5_000
/** So often it is looked who is connected, also while no rollout is open. */
const LOOK_EVERY_MS = 2_000

export async function openRolloutEngine(deps: EngineDeps): Promise<RolloutEngine> {
  const { store, clock, directory, log } = deps
  const restoreWatch = await RestoreWatch.load(store, clock.now())
  const halted = () => restoreWatch.halted()
  const seen = await store.db
    .selectFrom('machines')
    .select(['id', 'last_seen'])
    .where('state', '=', 'active')
    .execute()
  const presence = new Presence(
    seen.map(({ id, last_seen: at }) => [id, at] as const),
    clock.now().getTime(),
  )
  const { clusters } = deps
  const begin = () => ({ store, directory, clock, runner, halted, clusters })
  const gateQuestions = new GateQuestions({ ...deps, answered: () => runner.trigger() })
  const jobQuestions = new GateQuestions({ ...deps, answered: () => runner.trigger() })
  const pending = new PendingHosts()
  const whole = () => ({ ...deps, ...begin(), gateQuestions, jobQuestions, presence, pending })
  const takeBack = async () =>
    await beginDueReverts(whole()).catch((error: unknown) =>
      log.error({ err: error }, 'rollouts that failed not taken back'),
    )
  const runner: RolloutRunner = new RolloutRunner({
    ...deps,
    gateQuestions,
    jobQuestions,
    presence,
    halted,
    // Not awaited: it waits for the run that asked for it.
    takeBack: () => void takeBack(),
  })
  return {
    runner,
    gateQuestions,
    jobQuestions,
    presence,
    restoreWatch,
    halted,
    clusters,
    pending,
    nodes: nodeClaims(deps, restoreWatch),
    async run(signal) {
      const catchingUp = async () => {
        while (await pause(CATCH_UP_EVERY_MS, signal)) {
          await takeBack()
          await catchUp({ ...whole(), clusters }).catch((error: unknown) =>
            log.error({ err: error }, 'hosts that were left behind not looked at'),
          )
        }
      }
      const looking = async () => {
        while (await pause(LOOK_EVERY_MS, signal))
          presence.look(deps.sessions.machines(), clock.now().getTime())
      }
      await Promise.all([runner.run(signal), catchingUp(), looking()])
    },
  }
}

/** Of what nodes say, but for their greeting, nothing is waited for by their sessions; it stops what is granted from the moment it is heard. */
function nodeClaims({ directory, clock, log }: EngineDeps, watch: RestoreWatch): NodeClaims {
  const nameOf = (machine: string) => {
    const assignment = directory.assignment(machine)
    return assignment.kind === 'host' ? assignment.host : machine.slice(0, 12)
  }
  const noted = (done: Promise<void>) =>
    void done.catch((error: unknown) => log.error({ err: error }, 'what a node said is not on record'))
  return {
    async sawHello(tx, { id, acknowledged }, hello) {
      const greeting = {
        ...saidAtDoor(hello),
        who: nameOf(id),
        known: acknowledged,
        newestRevision: directory.targets.revision,
      }
      const found = await watch.hello(tx, greeting, clock.now())
      return () => watch.took(found)
    },
    sawOrder: (tx, claim) => adoptGrant(tx, claim, clock.now()),
    sawOperation: (machine, operation) => noted(watch.sawOperation(nameOf(machine), operation, clock.now())),
    // A machine that was let in anew may be no host yet: it says as which it was given the order.
    sawRollout(machine, claim) {
      const who = claim.host === '' ? nameOf(machine) : claim.host
      noted(watch.sawRollout(who, claim, clock.now()))
    },
  }
}
