import { describe, expect, it } from 'vitest'
import type { ClusterRecord, Leave } from '../cluster-record.ts'
import { AUTHORITY, foundedRecord, type HostChange, NOW, sampleSnapshot } from '../testing/sample-snapshot.ts'
import type { ClusterAct } from './cluster-act.ts'
import { adoptRequest, type ManifestsWish, planActs, standDownRequest } from './plan-acts.ts'
import { openAct } from './testing/sample-act.ts'

function plan(
  input: {
    readonly changes?: Readonly<Record<string, HostChange>>
    readonly record?: Partial<ClusterRecord>
    readonly open?: readonly ClusterAct[]
    readonly adopted?: readonly string[]
    readonly manifests?: ManifestsWish
    readonly stoodDown?: readonly string[]
  } = {},
) {
  const { changes, record, open = [], adopted = [], manifests, stoodDown = [] } = input
  const snapshot = sampleSnapshot(changes, record)
  return planActs(
    { snapshot, waiting: [], open, adopted: new Set(adopted), stoodDown: new Set(stoodDown), manifests },
    NOW,
  )
}

describe('an act under way', () => {
  it('T47: is left alone until its time is over or who does it was sent away', () => {
    expect(plan({ open: [openAct()] })).toEqual([])
    expect(plan({ open: [openAct({ expiresMs: NOW })] })).toMatchObject([{ kind: 'end', class: 'expired' }])
    expect(plan({ changes: { a: { gone: true } }, open: [openAct()] })).toMatchObject([
      { kind: 'end', done: false, class: 'executor-gone' },
    ])
  })
})

describe('a leave', () => {
  const leave: Leave = {
    request: 'act-1',
    host: 'd',
    machine: 'm-d',
    server: false,
    dead: false,
    attempt: undefined,
    failures: 0,
    notBeforeMs: 0,
    signed: undefined,
    reason: '',
  }
  const act = openAct({ act: 'leave', executor: '', executorHost: '', operation: '', expiresMs: undefined })
  const left = {
    left: new Map([['d', 'm-d']]),
    attempts: new Map([['m-d', { failures: 0, notBeforeMs: 0, overMs: NOW - 20_000, reason: '' }]]),
  }
  const out = { data: { kind: 'none' } } as const

  it('shows what it waits for, and who does it', () => {
    expect(plan({ record: { leaves: [leave] }, open: [act] })).toMatchObject([{ kind: 'show', executor: '' }])
    const attempt = { operation: 'op', executor: 'm-d' }
    const shown = plan({ record: { leaves: [{ ...leave, attempt }] }, open: [act] })
    expect(shown).toMatchObject([{ kind: 'show', executor: 'm-d', executorHost: 'd' }])
    const [step] = shown
    const same = step?.kind === 'show' ? { ...act, ...step, id: act.id } : act
    expect(plan({ record: { leaves: [{ ...leave, attempt }] }, open: [same] })).toEqual([])
  })

  it('is over when a server that looked afterwards knows the Node no more', () => {
    const ends = (change: HostChange) => plan({ changes: { d: change }, record: left, open: [act] })
    expect(ends({ ...out, ready: false })).toMatchObject([{ kind: 'show' }])
    expect(ends(out)).toMatchObject([{ kind: 'end', done: true }])
    const early = { ...left, settledMs: NOW - 5_000 }
    expect(plan({ changes: { d: out }, record: early, open: [act] })).toMatchObject([{ kind: 'show' }])
  })

  it('that the planner forgot has failed', () => {
    expect(plan({ open: [act] })).toMatchObject([{ kind: 'end', done: false, class: 'given-up' }])
  })
})

describe('after an adoption', () => {
  const founding = { ...foundedRecord().founding!, adopted: true }

  it('each machine with the cluster’s data takes itself in, once, and nobody in a cluster that we founded', () => {
    expect(plan()).toEqual([])
    const changes = { e: { data: { kind: 'none' } }, d: { connected: false } } as const
    const steps = plan({ changes, record: { founding }, adopted: [adoptRequest('home', 'm-a', AUTHORITY)] })
    expect(steps.map(step => step.kind === 'new' && step.host)).toEqual(['b', 'c', 'd'])
  })

  it('waits for one that is away, and begins with it when it is there', () => {
    const act = openAct({
      act: 'adopt',
      request: adoptRequest('home', 'm-d', AUTHORITY),
      executor: '',
      executorHost: '',
      operation: '',
      expiresMs: undefined,
    })
    expect(plan({ changes: { d: { connected: false } }, open: [act] })).toEqual([])
    expect(plan({ open: [act] })).toMatchObject([{ kind: 'begin', executor: 'm-d', executorHost: 'd' }])
    expect(plan({ open: [{ ...act, notBeforeMs: NOW + 1 }] })).toEqual([])
  })
})

describe('manifests', () => {
  const wish = { revision: 3, digest: 'x', isDue: true, restoredBy: '' }
  const act = openAct({
    act: 'manifests',
    host: '',
    machine: '',
    request: 'manifests home 2',
    parameter: 'w',
    executor: '',
    executorHost: '',
    operation: '',
    expiresMs: undefined,
  })

  it('are brought for a revision that is due, and an older attempt is given up for it', () => {
    expect(plan({ manifests: { ...wish, isDue: false } })).toEqual([])
    expect(plan({ manifests: wish, open: [act] })).toMatchObject([
      { kind: 'end', class: 'superseded' },
      { kind: 'new', act: 'manifests', request: 'manifests home 3', parameter: 'x' },
    ])
    expect(plan({ manifests: wish, record: { founding: undefined } })).toEqual([])
  })

  it('are brought once more after the datastore was set back', () => {
    expect(plan({ manifests: { ...wish, restoredBy: 'act-9' } })).toMatchObject([
      { kind: 'new', act: 'manifests', request: 'manifests home 3 after act-9', parameter: 'x' },
    ])
  })

  it('go to another server when the one that had them was sent away', () => {
    const begun = { ...act, executor: 'm-a', executorHost: 'a', operation: 'op' }
    expect(plan({ open: [begun] })).toEqual([])
    expect(plan({ changes: { a: { gone: true } }, open: [begun] })).toMatchObject([
      { kind: 'begin', executor: 'm-b' },
    ])
  })
})

describe('a server that comes back with what there was before the datastore was set back', () => {
  const record = { count: 5, setBackAt: 5 }
  const request = standDownRequest({ ...foundedRecord(), ...record }, 'm-b')
  const act = openAct({
    act: 'stand-down',
    host: 'b',
    machine: 'm-b',
    request,
    parameter: '',
    executor: '',
    executorHost: '',
    operation: '',
    expiresMs: undefined,
  })
  const others = ['m-c'].map(machine => standDownRequest({ ...foundedRecord(), ...record }, machine))

  it('is told to stand down, once, and who was minted for since then is not', () => {
    expect(plan({ record })).toMatchObject([
      { kind: 'new', act: 'stand-down', host: 'b', machine: 'm-b' },
      { kind: 'new', act: 'stand-down', host: 'c', machine: 'm-c' },
    ])
    expect(plan({ record, stoodDown: [request, ...others] })).toEqual([])
    expect(plan()).toEqual([])
    const attempts = new Map(
      ['m-b', 'm-c'].map(machine => [
        machine,
        { failures: 0, notBeforeMs: 0, overMs: 0, reason: '', mintedAt: 6 },
      ]),
    )
    expect(plan({ record: { ...record, attempts } })).toEqual([])
  })

  it('does it itself when it is there, and is not waited for when it was wiped or sent away', () => {
    const rest = { record, stoodDown: [request, ...others] }
    expect(plan({ ...rest, open: [act] })).toMatchObject([{ kind: 'begin', executor: 'm-b' }])
    expect(plan({ ...rest, open: [act], changes: { b: { connected: false } } })).toEqual([])
    for (const change of [{ data: { kind: 'none' } }, { gone: true }] satisfies HostChange[])
      expect(plan({ ...rest, open: [act], changes: { b: change } })).toMatchObject([
        { kind: 'end', class: 'given-up' },
      ])
  })
})
