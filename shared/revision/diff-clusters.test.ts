import { describe, expect, it } from 'vitest'
import type { Cluster } from '../fleet-file/fleet.ts'
import { diffClusters } from './diff-clusters.ts'

const cluster = (change: Partial<Cluster> = {}): Cluster => ({
  name: 'home',
  distribution: 'k3s',
  version: '1.34.3',
  life: 'apart',
  endpoint: undefined,
  endpointKeeper: 'outside',
  nodeInterface: undefined,
  podCidr: undefined,
  serviceCidr: undefined,
  after: [],
  gates: [],
  ...change,
})

describe('diffClusters', () => {
  it('is empty when nothing changes, in whatever order clusters and their gates stand', () => {
    const [storage, backup] = [
      { name: 'storage', path: 'gates/storage.yaml', deadlineMs: undefined },
      { name: 'backup', path: 'gates/backup.yaml', deadlineMs: 60_000 },
    ]
    const [home, site] = [cluster({ gates: [storage, backup] }), cluster({ name: 'site' })]
    expect(diffClusters([home, site], [site, cluster({ gates: [backup, storage] })])).toEqual([])
  })

  it('names clusters that come and go', () => {
    const changes = diffClusters([cluster({ name: 'old' })], [cluster({ name: 'new' })])
    expect(changes.map(({ kind, name, change }) => [kind, name, change])).toEqual([
      ['cluster', 'new', 'added'],
      ['cluster', 'old', 'removed'],
    ])
  })

  it('names each gate with the Job that it is and the Job that it becomes', () => {
    const gate = (path: string, deadlineMs?: number) => ({ name: 'storage', path, deadlineMs })
    const [added] = diffClusters([cluster()], [cluster({ gates: [gate('gates/a.yaml')] })])
    expect(added?.fields).toEqual([{ field: 'gate storage', from: undefined, to: 'job gates/a.yaml' }])
    const [changed] = diffClusters(
      [cluster({ gates: [gate('gates/a.yaml')] })],
      [cluster({ gates: [gate('gates/a.yaml', 90_000)] })],
    )
    expect(changed).toMatchObject({
      change: 'changed',
      fields: [{ field: 'gate storage', from: 'job gates/a.yaml', to: 'job gates/a.yaml, deadline 90 s' }],
    })
  })

  it('names every other part that changes', () => {
    const [change] = diffClusters(
      [cluster()],
      [
        cluster({
          distribution: 'k0s',
          version: undefined,
          life: 'with-system',
          endpoint: '10.0.0.9',
          endpointKeeper: 'servers',
          nodeInterface: 'tailscale0',
          after: ['staging', 'site'],
        }),
      ],
    )
    expect(change?.fields).toEqual([
      { field: 'distribution', from: 'k3s', to: 'k0s' },
      { field: 'version', from: '1.34.3', to: undefined },
      { field: 'life', from: 'apart', to: 'with-system' },
      { field: 'endpoint', from: undefined, to: '10.0.0.9' },
      { field: 'endpoint keeper', from: undefined, to: 'servers' },
      { field: 'node interface', from: undefined, to: 'tailscale0' },
      { field: 'after', from: undefined, to: 'staging site' },
    ])
    expect(change?.notes).toEqual([])
  })

  it('says of networks that a cluster keeps those it was founded with', () => {
    const [change] = diffClusters(
      [cluster()],
      [cluster({ podCidr: '10.1.0.0/16', serviceCidr: '10.2.0.0/16' })],
    )
    expect(change?.notes).toEqual([expect.stringContaining('pod network, service network')])
    expect(diffClusters([], [cluster({ podCidr: '10.1.0.0/16' })])[0]?.notes).toEqual([])
  })
})
