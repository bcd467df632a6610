import type { ClusterView, HostView, RolloutSnapshot } from '../rollout-snapshot.ts'
import { sampleGrant } from './grants.ts'
import { sampleHost, sampleRollout, sampleSnapshot } from './sample.ts'
import { sampleCluster } from './sample-cluster.ts'

/** An instant at which its rollout is under way. */
export const MIDDLE_MS = Date.UTC(2026, 1, 1)

const PER_CLUSTER = 100
const DAY = { days: [1, 2, 3, 4, 5, 6, 7], fromMinute: 0, toMinute: 0, timeZone: 'Europe/Berlin' }

/**
 * A fleet in the middle of a rollout over all of it: half of it in clusters of three servers and 97 workers; everything was fetched, every
 * seventh host is done, and the next can be moved. Every host has a window of its own, and is spread.
 */
export function largeFleet(count: number): RolloutSnapshot {
  const hosts: HostView[] = []
  const clusters = new Map<string, ClusterView>()
  for (let number = 0; hosts.length < count / 2; number++) {
    const name = `k${number}`
    const members = Array.from({ length: PER_CLUSTER }, (_, index) => {
      const kind = index < 3 ? 's' : 'w'
      return host(`${name}-${kind}${index}`, { cluster: name, server: index < 3 })
    })
    hosts.push(...members)
    clusters.set(name, sampleCluster(members, {}, { name }))
  }
  while (hosts.length < count) hosts.push(host(`alone-${hosts.length}`, {}))
  const grants = Object.fromEntries(hosts.map((view, index) => [view.host, grantsOf(view, index)]))
  const tenth = { kind: 'percent', percent: 10 } as const
  const settings = { maxUnavailable: tenth, maxUnavailableAlone: tenth, spread: 'rack', prefetch: true }
  const canaries = hosts.filter((_, index) => isDone(index)).slice(-5)
  const rollout = sampleRollout({ hosts, grants, settings, canaries: canaries.map(view => view.host) })
  return sampleSnapshot({ hosts, clusters, rollouts: [rollout] })
}

function host(name: string, change: Partial<HostView>): HostView {
  const versions = change.cluster === undefined ? new Map<string, string>() : new Map([['r1', '1.35.4']])
  return sampleHost(name, { ...change, versions, windows: [DAY], labels: { rack: name, zone: 'z' } })
}

function isDone(index: number): boolean {
  return index % 7 === 0
}

function grantsOf({ cluster, server }: HostView, index: number) {
  const at = Date.UTC(2026, 0, 31, 23)
  const steps = ['prefetch', 'snapshot', 'drain', 'act', 'prove', 'soak', 'uncordon'] as const
  const own = steps.filter(
    step =>
      (cluster !== undefined || ['prefetch', 'act', 'soak'].includes(step)) &&
      (server || step !== 'snapshot'),
  )
  return own.slice(0, isDone(index) ? own.length : 1).map(step => sampleGrant(step, 'done', at))
}
