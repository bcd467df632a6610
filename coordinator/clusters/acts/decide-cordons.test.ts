import { create } from '@bufbuild/protobuf'
import { describe, expect, it } from 'vitest'
import { ClusterStepEndedSchema } from '../../../shared/gen/muster/v1/cluster_pb.ts'
import type { NodeObject } from '../cluster-snapshot.ts'
import { foundedRecord, NOW } from '../testing/sample-snapshot.ts'
import { absorbActReport } from './absorb-act-report.ts'
import type { ClusterAct } from './cluster-act.ts'
import { decideCordon, differingCordons, isCordonedByOthers } from './decide-cordons.ts'
import { openAct } from './testing/sample-act.ts'

const node = (change: Partial<NodeObject> = {}): NodeObject => ({
  name: 'd',
  uid: 'u-d',
  ready: true,
  version: '1.34.3',
  unschedulable: false,
  ...change,
})
const ours = node({ unschedulable: true, cordonedBy: 'act-1' })
const stored = { host: 'd', act: 'act-1', atMs: NOW - 60_000 }
const ended = (change: Partial<ClusterAct> = {}) =>
  openAct({ endedMs: NOW - 50_000, done: true, executor: 'm-a', ...change })
const uncordon = ended({ id: 'act-2', act: 'uncordon', endedMs: NOW - 40_000 })

describe('what is written down of cordons', () => {
  it('differs where a node has one of ours that is not known, has none any more, or another', () => {
    const differing = (nodes: readonly NodeObject[], known = [stored]) =>
      differingCordons({ asOfMs: NOW, nodes }, known).map(({ name }) => name)
    expect(differing([ours])).toEqual([])
    expect(differing([ours], [])).toEqual(['d'])
    expect(differing([node()])).toEqual(['d'])
    expect(differing([node({ ...ours, cordonedBy: 'act-7' })])).toEqual(['d'])
    // Somebody else's is not ours, and an agent that does not say anything says nothing.
    expect(differing([node({ unschedulable: true })], [])).toEqual([])
    expect(differing([node({ unschedulable: undefined })])).toEqual([])
    expect(differing([node({ ...ours, uid: '' })], [])).toEqual([])
  })

  it('finds one again that a store which was set back, or is new, knows nothing of', () => {
    expect(decideCordon(ours, NOW, undefined, [])).toEqual({ kind: 'found', host: 'd', act: 'act-1' })
    expect(decideCordon(ours, NOW, undefined, [ended()])).toMatchObject({ kind: 'found' })
  })

  it('forgets one that is gone, and whose mark somebody took off', () => {
    expect(decideCordon(node(), NOW, stored, [ended()])).toEqual({ kind: 'gone', host: 'd', act: 'act-1' })
    const taken = node({ unschedulable: true })
    expect(decideCordon(taken, NOW, stored, [])).toMatchObject({ kind: 'gone' })
    expect(isCordonedByOthers(taken)).toBe(true)
    expect([ours, node()].map(isCordonedByOthers)).toEqual([false, false])
  })

  it('lifts one again that was lifted, and came back with the datastore', () => {
    expect(decideCordon(ours, NOW, undefined, [uncordon, ended()])).toEqual({
      kind: 'lift',
      host: 'd',
      act: 'act-1',
      lifted: 'act-2',
    })
    // Lifted was another one, or it failed: whoever set this one may mean it to stay.
    for (const acts of [[uncordon], [{ ...uncordon, done: false }, ended()], [ended(), ended({ id: 'x' })]])
      expect(decideCordon(ours, NOW, undefined, acts)).toMatchObject({ kind: 'found' })
    const later = ended({ endedMs: NOW - 30_000 })
    expect(decideCordon(ours, NOW, undefined, [later, uncordon])).toMatchObject({ kind: 'found' })
  })

  it('says nothing while something is under way, and by what was seen before it was over', () => {
    expect(decideCordon(ours, NOW, undefined, [openAct({ id: 'x', act: 'uncordon' })])).toBeUndefined()
    expect(decideCordon(node(), NOW, stored, [openAct()])).toBeUndefined()
    expect(decideCordon(ours, NOW - 45_000, undefined, [uncordon, ended()])).toBeUndefined()
    expect(decideCordon(node(), NOW - 60_000, stored, [])).toBeUndefined()
  })
})

describe('lifting one again', () => {
  it('is tried until it is done, and not where the cordon is another’s by now', () => {
    const act = openAct({ act: 'uncordon', request: 'uncordon home d act-1 again after act-2' })
    const absorb = (kind: string) =>
      absorbActReport(
        act,
        create(ClusterStepEndedSchema, { done: false, class: kind, reason: 'no' }),
        foundedRecord(),
        NOW,
      ).act
    expect(absorb('unreadable')).toMatchObject({ endedMs: undefined, attempts: 1 })
    for (const kind of ['not-ours', 'not-found'])
      expect(absorb(kind)).toMatchObject({ endedMs: NOW, done: false })
  })
})
