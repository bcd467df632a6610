import { pino } from 'pino'
import type { MachineDirectory } from '../../machines/directory.ts'
import { ChangeFeed } from '../../operations/change-feed.ts'
import type { Sessions } from '../../sessions/sessions.ts'
import { type ClusterSource, NO_CLUSTERS } from '../cluster-source.ts'
import { type EngineDeps, openRolloutEngine, type RolloutEngine } from '../engine.ts'

/** A real engine over a test's store, without clusters and without sessions unless some are given. */
export async function testEngine(
  deps: Pick<EngineDeps, 'store' | 'clock' | 'ownHostBackup' | 'ownHost' | 'operationFeed'> & {
    readonly directory: MachineDirectory
    readonly sessions?: Partial<EngineDeps['sessions']>
    readonly wake?: Sessions['wake']
    readonly orderLifetimeMs?: number
    readonly clusters?: ClusterSource
  },
): Promise<RolloutEngine> {
  const { sessions, wake = () => {}, ...rest } = deps
  return await openRolloutEngine({
    ...rest,
    sessions: {
      live: () => undefined,
      machines: () => [],
      wake,
      probe: async () => await Promise.reject(new Error('nobody is here')),
      ...sessions,
    },
    clusters: deps.clusters ?? NO_CLUSTERS,
    rolloutFeed: new ChangeFeed(),
    log: pino({ level: 'silent' }),
  })
}
