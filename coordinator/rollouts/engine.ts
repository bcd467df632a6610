import { pause } from '../../shared/lifecycle.ts'
import type { NodeClaims } from '../operations/node-claims.ts'
import type { OrderDeps } from '../operations/orders.ts'
import type { Sessions } from '../sessions/sessions.ts'
import type { BeginDeps } from './begin-rollout.ts'
import { catchUp } from './catch-up.ts'
import type { ClusterSource } from './cluster-source.ts'
import { GateQuestions } from './gate-questions.ts'
import { RestoreWatch } from './restore-watch.ts'
import { beginDueReverts } from './revert-rollout.ts'
import { RolloutRunner, type RunnerDeps } from './runner.ts'
import { SILENT_FOR_MS, SilenceWatch } from './silence.ts'

export type EngineDeps = Omit<
  RunnerDeps,
  'clusters' | 'silence' | 'halted' | 'takeBack' | 'gateQuestions' | 'jobQuestions'
> &
  OrderDeps & {
    readonly clusters: ClusterSource
    readonly sessions: RunnerDeps['sessions'] & Pick<Sessions, 'probe'>
  }

/** Everything that rollouts are made of, built around one runner. */
export interface RolloutEngine {
  readonly runner: RolloutRunner
  readonly silence: SilenceWatch
  readonly gateQuestions: GateQuestions
  readonly jobQuestions: GateQuestions
  readonly restoreWatch: RestoreWatch
  readonly halted: () => string | undefined
  readonly clusters: ClusterSource
  /** What nodes say goes here; what it shows of the store is written after it was heard. */
  readonly nodes: NodeClaims
  /** Runs until the signal fires. */
  run(signal: AbortSignal): Promise<void>
}

const CATCH_UP_EVERY_MS = 5_000

export async function openRolloutEngine(deps: EngineDeps): Promise<RolloutEngine> {
  const { store, clock, directory, log } = deps
  const restoreWatch = await RestoreWatch.load(store)
  const halted = () => restoreWatch.halted()
  const silence = new SilenceWatch()
  const seen = await store.db
    .selectFrom('machines')
    .select(['id', 'last_seen'])
    .where('last_seen', '>', clock.now().getTime() - SILENT_FOR_MS)
    .where('state', '=', 'active')
    .execute()
  silence.begin(seen.map(({ id, last_seen: at }) => [id, at] as const))
  const { clusters } = deps
  const begin = (): BeginDeps => ({ store, directory, clock, runner, halted, clusters })
  const gateQuestions = new GateQuestions({ ...deps, answered: () => runner.trigger() })
  const jobQuestions = new GateQuestions({ ...deps, answered: () => runner.trigger() })
  const takeBack = async () =>
    await beginDueReverts(begin(), log).catch((error: unknown) =>
      log.error({ err: error }, 'rollouts that failed not taken back'),
    )
  const runner: RolloutRunner = new RolloutRunner({
    ...deps,
    gateQuestions,
    jobQuestions,
    silence,
    halted,
    // Not awaited: it waits for the run that asked for it.
    takeBack: () => void takeBack(),
  })
  return {
    runner,
    gateQuestions,
    jobQuestions,
    silence,
    restoreWatch,
    halted,
    clusters,
    nodes: nodeClaims(deps, restoreWatch),
    async run(signal) {
      const catchingUp = async () => {
        while (await pause(CATCH_UP_EVERY_MS, signal)) {
          await takeBack()
          await catchUp({ ...deps, ...begin(), clusters, gateQuestions, jobQuestions, silence }).catch(
            (error: unknown) => log.error({ err: error }, 'hosts that were left behind not looked at'),
          )
        }
      }
      await Promise.all([runner.run(signal), catchingUp()])
    },
  }
}

/** Nothing of what nodes say is waited for by their sessions; it stops what is granted from the moment it is heard. */
function nodeClaims({ directory, clock, log }: EngineDeps, watch: RestoreWatch): NodeClaims {
  const nameOf = (machine: string) => {
    const assignment = directory.assignment(machine)
    return assignment.kind === 'host' ? assignment.host : machine.slice(0, 12)
  }
  const noted = (done: Promise<void>) =>
    void done.catch((error: unknown) => log.error({ err: error }, 'what a node said is not on record'))
  return {
    sawRevision(machine, revision) {
      noted(watch.sawRevision(nameOf(machine), revision, directory.targets.revision, clock.now()))
    },
    sawOperation: (machine, operation, what) =>
      noted(watch.sawOperation(nameOf(machine), operation, what, clock.now())),
    // A machine that was let in anew may be no host yet: it says as which it was given the order.
    sawRollout(machine, claim) {
      const who = claim.host === '' ? nameOf(machine) : claim.host
      noted(watch.sawRollout(who, claim, clock.now()))
    },
  }
}
