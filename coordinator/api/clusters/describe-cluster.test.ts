import { describe, expect, it } from 'vitest'
import type { ClusterSnapshot } from '../../clusters/cluster-snapshot.ts'
import { NOW, sampleSnapshot } from '../../clusters/testing/sample-snapshot.ts'
import { describeHosts } from './describe-cluster.ts'

/** The same, seen by servers that list no Node of one host; `answers`: whether the API server of that host does. */
function withoutNodeOf(host: string, answers: boolean): ClusterSnapshot {
  const snapshot = sampleSnapshot()
  const machines = [...snapshot.machines].map(([machine, view]) => {
    const seen = view.observation?.view
    if (!view.observation || !seen) return [machine, view] as const
    const nodes = seen.nodes.filter(({ name }) => name !== host)
    const ready = machine === `m-${host}` ? answers : seen.ready
    return [
      machine,
      { ...view, observation: { ...view.observation, view: { ...seen, nodes, ready } } },
    ] as const
  })
  return { ...snapshot, machines: new Map(machines) }
}

const described = (snapshot: ClusterSnapshot, name: string) => {
  const found = describeHosts(snapshot, { waiting: [], acts: [], cordons: [] }, NOW).find(
    ({ host }) => host === name,
  )
  return { ready: found?.ready, withoutNode: found?.withoutNode }
}

describe('a host of a cluster', () => {
  it('is ready by its node, or by its own API server where it is a server without one', () => {
    expect(described(sampleSnapshot(), 'a')).toEqual({ ready: true, withoutNode: false })
    expect(described(withoutNodeOf('a', true), 'a')).toEqual({ ready: true, withoutNode: true })
    expect(described(withoutNodeOf('a', false), 'a')).toEqual({ ready: false, withoutNode: true })
  })

  it('that is a worker is not ready without its node', () => {
    expect(described(withoutNodeOf('d', true), 'd')).toEqual({ ready: false, withoutNode: false })
  })
})
