import type { ClusterView, HostView, MemberView } from '../rollout-snapshot.ts'
import { sampleHost } from './sample.ts'

/** Hosts of a cluster: servers s1, s2, ... and workers w1, w2, .... */
export function clusterHosts(servers: number, workers: number, cluster = 'home'): readonly HostView[] {
  const make = (letter: string, count: number, server: boolean) =>
    Array.from({ length: count }, (_, index) => sampleHost(`${letter}${index + 1}`, { cluster, server }))
  return [...make('s', servers, true), ...make('w', workers, false)]
}

/** A cluster in which all is well, but for what is said of some of its members. */
export function sampleCluster(
  hosts: readonly HostView[],
  changes: Readonly<Record<string, Partial<MemberView> & { readonly healthy?: boolean }>> = {},
  change: Partial<ClusterView> = {},
): ClusterView {
  const servers = hosts.filter(({ server }) => server)
  const members = servers.map(({ host }) => ({
    name: host,
    learner: false,
    healthy: changes[host]?.healthy ?? true,
  }))
  const healthy = members.filter(member => member.healthy).length
  return {
    name: 'home',
    datastore: { kind: 'read', quorum: { members, voters: members.length, healthy } },
    serverChange: undefined,
    leader: servers[0]?.host,
    first: servers[0]?.host,
    members: new Map(
      hosts.map(({ host, server }) => [
        host,
        {
          joined: true,
          server,
          ready: true,
          asOfMs: 0,
          version: '1.34.3',
          kubelet: '1.34.3',
          cordonedBy: undefined,
          ...changes[host],
        },
      ]),
    ),
    ...change,
  }
}
