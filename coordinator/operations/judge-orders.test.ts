import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { OutcomeClass, Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import { judgeOrders, type OpenOrder, type OrderCandidate, type WantedOrder } from './judge-orders.ts'
import { ACTIONS, isChange, needsRevision, type WantedAction } from './order-action.ts'
import { type PastOperation, reachedRevision } from './reached-revision.ts'

const NOW = new Date(1_000)
const target = {
  revision: 2,
  expires: new Date(2_000),
  hosts: new Set(['olaf', 'nas']),
  groups: new Set(['edge']),
}
const host = (name: string) => ({ kind: 'host', host: name, group: '', boundBy: 'key' }) as const

const candidate = (machine: string, change: Partial<OrderCandidate> = {}): OrderCandidate => ({
  ref: machine,
  machine,
  state: 'active',
  held: undefined,
  onHold: undefined,
  assignment: host(machine),
  allowed: ['apply', 'upgrade', 'rollback', 'reboot', 'restart'],
  open: [],
  history: [],
  foreign: undefined,
  isOwnHost: false,
  ...change,
})

const open = (id: string, change: Partial<OpenOrder> = {}): OpenOrder => ({
  id,
  action: 'apply',
  revision: 2,
  rollbackTo: '',
  rollbackBefore: false,
  waitingRetry: false,
  ...change,
})

const past = (id: string, revision: number, change: Partial<PastOperation> = {}): PastOperation => ({
  id,
  action: 'apply',
  revision,
  outcomeClass: OutcomeClass.SUCCEEDED,
  phase: Phase.PROMOTE,
  rollbackTo: '',
  rollbackBefore: false,
  ...change,
})

const actionOf = (word: (typeof ACTIONS)[number]): WantedAction => {
  if (word === 'hold') return { word, reason: 'disk' }
  return word === 'rollback' ? { word, to: 'op-1', before: false } : { word }
}
const wanted = (word: (typeof ACTIONS)[number], change: Partial<WantedOrder> = {}): WantedOrder => ({
  action: actionOf(word),
  target: needsRevision(word) ? target : undefined,
  floor: 1,
  ...change,
})
const judge = (order: WantedOrder, ...all: OrderCandidate[]) => judgeOrders(order, all, NOW)

describe('judgeOrders', () => {
  it('orders all that are named, with what each is to reach', () => {
    expect(judge(wanted('apply'), candidate('olaf'), candidate('nas'))).toMatchObject({
      kind: 'ok',
      decisions: [
        { kind: 'order', machine: 'olaf', host: 'olaf', revision: 2, action: { word: 'apply' } },
        { kind: 'order', machine: 'nas' },
      ],
    })
  })

  it.each(['apply', 'plan'] as const)('has no system installed where it is somebody else’s: %s', word => {
    expect(judge(wanted(word), candidate('olaf'), candidate('nas', { foreign: 'home' }))).toEqual({
      kind: 'refused',
      problems: [
        "nas: no system can be installed on nas, it is somebody else's; `muster cluster upgrade home` moves its Kubernetes",
      ],
    })
    expect(judge(wanted('upgrade'), candidate('nas', { foreign: 'home' }))).toMatchObject({ kind: 'ok' })
    expect(judge(wanted('reboot'), candidate('nas', { foreign: 'home' }))).toMatchObject({ kind: 'ok' })
  })

  it.each(['apply', 'rollback', 'reboot', 'upgrade'] as const)(
    'minds that a node’s own settings forbid %s',
    word => {
      const allowed = ['apply', 'rollback', 'reboot', 'upgrade'].filter(verb => verb !== word)
      const history = [past('op-1', 1)]
      expect(judge(wanted(word), candidate('olaf', { allowed, history }))).toEqual({
        kind: 'refused',
        problems: [
          `olaf: its own configuration forbids ${word}: add it to services.muster.agent.allow there`,
        ],
      })
      // To allow nothing is to say so; a node that has not said is ordered, and refuses by itself.
      expect(judge(wanted(word), candidate('olaf', { allowed: [], history })).kind).toBe('refused')
      expect(judge(wanted(word), candidate('olaf', { allowed: undefined, history })).kind).toBe('ok')
    },
  )

  it.each(['plan', 'hold', 'resume', 'retry'] as const)('always allows %s', word => {
    expect(judge(wanted(word), candidate('olaf', { allowed: ['nothing'] })).kind).toBe('ok')
  })

  it('gives a node on hold nothing but resume, retry and plan', () => {
    for (const word of ACTIONS) {
      const verdict = judge(wanted(word), candidate('olaf', { onHold: 'disk', history: [past('op-1', 1)] }))
      expect({ word, kind: verdict.kind }).toEqual({
        word,
        kind: ['resume', 'retry', 'plan'].includes(word) ? 'ok' : 'refused',
      })
    }
  })

  it('makes changes one by one, and lets everything else be ordered beside them', () => {
    const busy = candidate('olaf', {
      open: [open('running', { action: 'reboot', revision: 0 })],
      history: [past('op-1', 1)],
    })
    for (const word of ACTIONS) {
      const verdict = judge(wanted(word), busy)
      if (word === 'reboot') expect(verdict).toMatchObject({ decisions: [{ kind: 'running' }] })
      else if (isChange(word)) {
        expect(verdict).toEqual({
          kind: 'refused',
          problems: ['olaf: operation running (reboot) is not done yet'],
        })
      } else expect(verdict.kind).toBe('ok')
    }
  })

  it('has a retry that waits give way to a change or a hold, and to nothing else', () => {
    const waiting = candidate('olaf', {
      open: [open('again', { waitingRetry: true })],
      history: [past('op-1', 1)],
    })
    for (const word of ACTIONS) {
      expect(judge(wanted(word), waiting)).toMatchObject({
        decisions: [{ kind: 'order', supersedes: isChange(word) || word === 'hold' ? ['again'] : [] }],
      })
    }
  })

  it('the coordinator’s own host moves alone', () => {
    const own = candidate('olaf', { isOwnHost: true, history: [past('op-1', 1)] })
    const other = candidate('nas', { history: [past('op-1', 1)] })
    for (const word of ACTIONS) {
      expect(judge(wanted(word), own).kind).toBe('ok')
      const both = judge(wanted(word), own, other)
      expect(both.kind).toBe(isChange(word) ? 'refused' : 'ok')
      if (both.kind === 'refused') {
        expect(both.problems).toEqual([expect.stringMatching(/^olaf: .* order the others first/)])
      }
    }
  })
})

describe('a rollback', () => {
  const back = (to = '', before = false): WantedOrder =>
    wanted('rollback', { action: { word: 'rollback', to, before } })
  const history = [past('op-3', 3), past('failed', 9, { outcomeClass: 8 }), past('op-1', 1)]

  it('leads to before the newest change that succeeded, where nothing is said', () => {
    expect(judge(back(), candidate('olaf', { history }))).toMatchObject({
      decisions: [{ action: { word: 'rollback', to: 'op-3', before: true }, revision: 1 }],
    })
  })

  it.each<[string, Partial<PastOperation>, string, number]>([
    ['passes over one that found its system running', { phase: Phase.PLAN }, 'op-3', 1],
    [
      'counts one whose Kubernetes failed, for its system stays',
      { outcomeClass: OutcomeClass.ACTIVATION_FAILED, phase: Phase.KUBERNETES },
      'op-4',
      3,
    ],
    [
      'counts one that could not be taken back',
      { outcomeClass: OutcomeClass.ROLLBACK_FAILED, phase: Phase.RETURN },
      'op-4',
      3,
    ],
    [
      'counts one of which nobody knows what it did',
      { outcomeClass: OutcomeClass.UNKNOWN, phase: Phase.UNSPECIFIED },
      'op-4',
      3,
    ],
  ])('%s', (_, change, to, revision) => {
    const newest = past('op-4', 4, change)
    expect(judge(back(), candidate('olaf', { history: [newest, ...history] }))).toMatchObject({
      decisions: [{ action: { word: 'rollback', to, before: true }, revision }],
    })
  })

  it('knows the revision of what ran before by the newest that had that system, and none over an end that nobody knows', () => {
    const same = past('op-4', 4, { phase: Phase.PLAN })
    const lost = past('op-4', 4, { outcomeClass: OutcomeClass.UNKNOWN, phase: Phase.ACTIVATE })
    const before = { operation: 'op-5', before: true }
    expect(reachedRevision([past('op-5', 5), same, ...history], before)).toBe(4)
    expect(reachedRevision([past('op-5', 5), lost, ...history], before)).toBeUndefined()
  })

  it('leads to what an operation reached, where one is named', () => {
    expect(judge(back('op-1'), candidate('olaf', { history }))).toMatchObject({
      decisions: [{ action: { word: 'rollback', to: 'op-1', before: false }, revision: 1 }],
    })
  })

  it('needs an operation of this very machine', () => {
    expect(judge(back('foreign'), candidate('olaf', { history }), candidate('nas', { history: [] }))).toEqual(
      {
        kind: 'refused',
        problems: [
          'olaf: no operation foreign of it is known here; `muster operations` lists them',
          'nas: no operation foreign of it is known here; `muster operations` lists them',
        ],
      },
    )
    expect(judge(back(), candidate('olaf', { history: [past('failed', 3, { outcomeClass: 8 })] })).kind).toBe(
      'refused',
    )
  })

  it('T4: refuses what lies below the fleet’s floor, where that is known', () => {
    expect(judge({ ...back(), floor: 2 }, candidate('olaf', { history }))).toMatchObject({
      problems: [expect.stringContaining("revision 1, below the fleet's floor 2")],
    })
    // Nothing is known of what ran before: the node judges by its own journal.
    expect(judge({ ...back('op-1', true), floor: 2 }, candidate('olaf', { history }))).toMatchObject({
      decisions: [{ revision: 0 }],
    })
  })

  it('is followed through other rollbacks, and never for ever', () => {
    const twice = [
      past('back', 0, { action: 'rollback', rollbackTo: 'op-3', rollbackBefore: true }),
      ...history,
    ]
    expect(reachedRevision(twice, { operation: 'back', before: false })).toBe(1)
    expect(reachedRevision(twice, { operation: 'back', before: true })).toBe(3)
    const loop = [
      past('a', 0, { action: 'rollback', rollbackTo: 'b' }),
      past('b', 0, { action: 'rollback', rollbackTo: 'a' }),
    ]
    expect(reachedRevision(loop, { operation: 'a', before: false })).toBeUndefined()
  })
})

describe('orders as a property', () => {
  const candidates = fc.record<OrderCandidate>({
    ref: fc.constantFrom('a', 'b', 'c'),
    machine: fc.constantFrom('m1', 'm2', 'm3', 'm4'),
    state: fc.constantFrom('active', 'active', 'active', 'enrolled', 'banned'),
    held: fc.constantFrom(undefined, undefined, undefined, 'clone'),
    onHold: fc.constantFrom(undefined, undefined, undefined, 'disk'),
    assignment: fc.constantFrom<OrderCandidate['assignment']>(
      host('olaf'),
      host('olaf'),
      { kind: 'host', host: 'edge-1', group: 'edge', boundBy: 'rule' },
      host('gone'),
      { kind: 'none', reason: '' },
      { kind: 'conflict', reason: '' },
    ),
    allowed: fc.constantFrom(undefined, [], ['apply'], ['reboot', 'rollback']),
    open: fc.array(
      fc.record<OpenOrder>({
        id: fc.constantFrom('o1', 'o2', 'o3'),
        action: fc.constantFrom(...ACTIONS),
        revision: fc.integer({ min: 0, max: 3 }),
        rollbackTo: fc.constantFrom('', 'op-1'),
        rollbackBefore: fc.boolean(),
        waitingRetry: fc.boolean(),
      }),
      { maxLength: 2 },
    ),
    history: fc.constantFrom([], [past('op-1', 1)]),
    foreign: fc.constantFrom(undefined, undefined, undefined, 'home'),
    isOwnHost: fc.boolean(),
  })

  it('T57: never orders a machine that may not be touched, and orders all or none', () => {
    fc.assert(
      fc.property(
        fc.array(candidates, { maxLength: 6 }),
        fc.constantFrom(...ACTIONS),
        fc.integer({ min: 1_990, max: 2_010 }),
        (all, word, now) => {
          const verdict = judgeOrders(wanted(word), all, new Date(now))
          if (verdict.kind === 'refused') {
            expect(verdict.problems.length).toBeGreaterThan(0)
            return
          }
          if (word === 'apply' || word === 'plan') expect(now).toBeLessThan(2_000)
          const last = new Map(all.map(one => [one.machine, one]))
          const machines = verdict.decisions.map(decision => decision.machine)
          expect(new Set(machines)).toEqual(new Set(last.keys()))
          expect(machines.length).toBe(last.size)
          for (const decision of verdict.decisions) {
            const one = last.get(decision.machine)
            expect(one).toMatchObject({ state: 'active', held: undefined, assignment: { kind: 'host' } })
            if (word === 'apply' || word === 'plan') expect(one?.foreign).toBeUndefined()
            if (isChange(word)) {
              expect(one?.onHold).toBeUndefined()
              expect(one?.allowed?.includes(word) ?? true).toBe(true)
              expect(one?.isOwnHost && last.size > 1).toBe(false)
              const others = one?.open.filter(order => isChange(order.action) && !order.waitingRetry) ?? []
              if (decision.kind === 'order') expect(others).toEqual([])
            }
          }
        },
      ),
    )
  })
})
