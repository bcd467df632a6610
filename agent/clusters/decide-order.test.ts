import { create } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type ClusterOrder, ClusterOrderSchema } from '../../shared/gen/muster/v1/cluster_pb.ts'
import { VERBS } from '../config.ts'
import {
  ACTIONS,
  acknowledge,
  type ClusterAction,
  type ClusterOperation,
  endOperation,
  isOpen,
  newOperation,
  owe,
  readOperation,
  writeOperation,
} from './cluster-operation.ts'
import {
  decideOrder,
  decideResume,
  MAX_OPEN,
  type OrderContext,
  type OrderView,
  VERB_OF,
} from './decide-order.ts'
import { whatToForget } from './operation-store.ts'

const ALL = { nowMs: 0, allow: VERBS, held: undefined, busy: undefined, open: 0, running: false }
const orderOf = (operationId: string, action: ClusterAction): ClusterOrder =>
  create(ClusterOrderSchema, {
    operationId,
    cluster: 'home',
    expires: timestampFromMs(1_000),
    action: { case: action, value: {} },
  })
const viewOf = (action: ClusterAction, change: Partial<OrderView> = {}): OrderView => ({
  operation: 'o1',
  cluster: 'home',
  action,
  expiresMs: 1_000,
  hasSecret: true,
  ...change,
})
const action = fc.constantFrom(...ACTIONS)

describe('whether an order is taken', () => {
  it('is once for each id, and never after its end, without leave, or while the node is held', () => {
    fc.assert(
      fc.property(
        action,
        fc.integer({ min: -10, max: 2_000 }),
        fc.subarray([...VERBS]),
        fc.option(fc.constant('why'), { nil: undefined }),
        fc.option(fc.constant('why'), { nil: undefined }),
        fc.option(action, { nil: undefined }),
        (wanted, nowMs, allow, held, busy, before) => {
          const known = before && newOperation(orderOf('o1', before), before, 0)
          const context: OrderContext = { ...ALL, nowMs, allow, held, busy }
          const decision = decideOrder(viewOf(wanted), known, context)
          if (decision.kind !== 'take') return
          const verb = VERB_OF[wanted]
          expect(known).toBeUndefined()
          expect(nowMs).toBeLessThan(1_000)
          expect(verb === undefined || (allow.includes(verb) && held === undefined)).toBe(true)
        },
      ),
    )
  })

  it('is no question for what has no usable id, no end, another cluster or another action under its id', () => {
    const known = newOperation(orderOf('o1', 'mint'), 'mint', 0)
    for (const operation of ['', '..', '../x', 'a/b', 'x'.repeat(129)])
      expect(decideOrder(viewOf('found', { operation }), undefined, ALL).kind).toBe('pass-over')
    expect(decideOrder(viewOf('mint', { cluster: 'other' }), known, ALL).kind).toBe('pass-over')
    expect(decideOrder(viewOf('found'), known, ALL).kind).toBe('pass-over')
    expect(decideOrder(viewOf('mint', { action: undefined }), undefined, ALL).kind).toBe('pass-over')
    expect(decideOrder(viewOf('found', { expiresMs: undefined }), undefined, ALL)).toMatchObject({
      class: 'expired',
    })
    expect(decideOrder(viewOf('found'), undefined, { ...ALL, open: MAX_OPEN }).kind).toBe('pass-over')
  })
})

/** What is remembered after an order, as the engine does it, and over a kill: only what was written counts. */
function remember(
  known: ClusterOperation | undefined,
  order: ClusterOrder,
  nowMs: number,
): ClusterOperation | undefined {
  const wanted = order.action.case
  if (wanted === undefined) return known
  const decision = decideOrder(viewOf(wanted, { expiresMs: 1_000 }), known, { ...ALL, nowMs })
  const operation = known ?? newOperation(order, wanted, nowMs)
  switch (decision.kind) {
    case 'pass-over':
    case 'repeat':
      return known
    case 'take':
      return operation
    case 'refuse':
      return endOperation(operation, nowMs)
    case 'bar':
      return {
        ...(operation.stage === 'begun' ? operation : endOperation(operation, nowMs)),
        token: 'to-delete',
      }
  }
}

type Event = { readonly order: ClusterAction } | { readonly tick: 'begin' | 'end' | 'kill' | 'late' }
const events = (wanted: ClusterAction) =>
  fc.array(
    fc.oneof(
      fc.constantFrom<Event>({ order: wanted }, { order: 'stop' }, { order: 'deleteSecret' }),
      fc.constantFrom<Event>({ tick: 'begin' }, { tick: 'end' }, { tick: 'kill' }, { tick: 'late' }),
    ),
    { maxLength: 30 },
  )

describe('an operation over orders that come twice, late and in any order, and over kills', () => {
  it.each(['join', 'found', 'mint'] as const)(
    '%s: is begun once at most, and never after it was taken back',
    wanted => {
      fc.assert(
        fc.property(events(wanted), happenings => {
          let known: ClusterOperation | undefined
          let nowMs = 0
          let begun = 0
          let takenBack = false
          for (const event of happenings) {
            if ('order' in event) {
              if (event.order === 'stop' && known?.stage !== 'begun') takenBack = true
              if (event.order === 'deleteSecret' && wanted === 'mint' && known?.stage !== 'begun')
                takenBack = true
              known = remember(known, orderOf('o1', event.order), nowMs)
            } else if (event.tick === 'late') {
              nowMs += 400
            } else if (event.tick === 'begin' && known?.stage === 'accepted') {
              begun += 1
              expect(takenBack).toBe(false)
              expect(known.action).toBe(wanted)
              known = { ...known, stage: 'begun', begunMs: nowMs }
            } else if (event.tick === 'end' && known?.stage === 'begun') {
              known = endOperation(known, nowMs)
            } else if (event.tick === 'kill' && known) {
              known = readOperation(writeOperation(known))
              const resumed = decideResume(known, 1_000, nowMs)
              if (resumed.kind === 'end') known = endOperation(known, nowMs)
              if (resumed.kind === 'go-on') expect(known.stage === 'begun' || nowMs < 1_000).toBe(true)
            }
          }
          expect(begun).toBeLessThanOrEqual(1)
        }),
        { numRuns: 400 },
      )
    },
  )
})

const RESULTS = {
  minted: { case: 'minted', value: { $typeName: 'muster.v1.SecretMinted', tokenId: 'abc' } },
  received: { case: 'received', value: { $typeName: 'muster.v1.SecretReceived' } },
  ended: {
    case: 'ended',
    value: {
      ...({ $typeName: 'muster.v1.ClusterStepEnded', done: false, class: 'quorum' } as const),
      reason: 'none',
      authority: '',
      value: { case: undefined },
    },
  },
} as const

describe('the record of an operation', () => {
  const arbitrary = fc.record({
    action,
    stage: fc.constantFrom('accepted' as const, 'begun' as const, 'ended' as const),
    begunMs: fc.option(fc.nat(), { nil: undefined }),
    token: fc.constantFrom('kept' as const, 'to-delete' as const, 'deleted' as const),
    tokenId: fc.option(fc.string(), { nil: undefined }),
    secret: fc.option(fc.uint8Array({ maxLength: 50 }), { nil: undefined }),
    spent: fc.option(fc.record({ digest: fc.string(), expiresMs: fc.nat() }), { nil: undefined }),
    operatorOrder: fc.option(fc.record({ id: fc.string(), expiresMs: fc.nat() }), { nil: undefined }),
    reports: fc.subarray(['minted', 'received', 'ended'] as const),
    acknowledged: fc.boolean(),
  })

  it('comes back from its file as it was written, with what is owed under the same digests', () => {
    fc.assert(
      fc.property(arbitrary, ({ reports, acknowledged, secret, ...change }) => {
        let operation: ClusterOperation = {
          ...newOperation(orderOf('o1', change.action), change.action, 5),
          ...change,
          secret: secret && Buffer.from(secret),
        }
        for (const kind of reports) operation = owe(operation, RESULTS[kind])
        const [first] = operation.reports
        if (acknowledged && first) operation = acknowledge(operation, first.digest)
        const read = readOperation(writeOperation(operation))
        expect(writeOperation(read)).toBe(writeOperation(operation))
        expect(read.reports.filter(owed => !owed.acknowledged)).toEqual(
          operation.reports.filter(owed => !owed.acknowledged),
        )
      }),
    )
  })

  it('is an error when it is damaged, and never another operation', () => {
    const text = writeOperation(newOperation(orderOf('o1', 'found'), 'found', 5))
    fc.assert(
      fc.property(fc.nat({ max: text.length - 2 }), at => {
        expect(() => readOperation(text.slice(0, at))).toThrow()
      }),
    )
  })

  it('is kept as long as anything is owed, and a fortnight longer', () => {
    const day = 86_400_000
    const operation = newOperation(orderOf('o1', 'found'), 'found', 0)
    const owed = owe(endOperation(operation, 0), {
      case: 'received',
      value: { $typeName: 'muster.v1.SecretReceived' },
    })
    const told = acknowledge(owed, owed.reports[0]?.digest ?? '')
    expect([operation, owed, told].map(isOpen)).toEqual([true, true, false])
    expect(whatToForget([operation, owed], 400 * day)).toEqual([])
    expect(whatToForget([told], 14 * day)).toEqual([])
    expect(whatToForget([told], 15 * day)).toEqual(['o1'])
    // So many that the oldest go earlier, but none within a day.
    const many = Array.from({ length: 1_002 }, (_, at) => ({ ...told, id: `o${at}`, endedMs: at }))
    expect(whatToForget(many, 2 * day)).toEqual(['o1', 'o0'])
    expect(whatToForget(many, day - 1)).toEqual([])
  })
})
