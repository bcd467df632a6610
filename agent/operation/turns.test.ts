import { create } from '@bufbuild/protobuf'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { OrderSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import { foldJournal, type OperationState } from './fold.ts'
import type { JournalRecord, NewRecord } from './journal-record.ts'
import { givesWay, isLocal, nextTurn } from './turns.ts'

const BEFORE: readonly Phase[] = [Phase.VERIFY, Phase.PREFLIGHT, Phase.FETCH, Phase.BUILD, Phase.PLAN]
const AFTER: readonly Phase[] = [Phase.ARM, Phase.ACTIVATE, Phase.REBOOT, Phase.PROVE, Phase.KUBERNETES]

/** How far an operation is, as the journal tells it. */
const far = fc.oneof(
  fc.constant<readonly Phase[]>([]),
  fc.subarray([...BEFORE], { minLength: 1 }),
  fc.constantFrom(...AFTER).map(phase => [...BEFORE, phase]),
)
const operations = fc
  .array(fc.record({ local: fc.boolean(), phases: far, kubernetes: fc.boolean() }), { maxLength: 6 })
  .map(all =>
    all.map(({ local, phases, kubernetes }, number) =>
      stateOf(`${local ? 'local-' : 'op-'}${number}`, phases, kubernetes && phases.length > 0),
    ),
  )

function stateOf(operation: string, phases: readonly Phase[], kubernetes = false): OperationState {
  const records: NewRecord[] = [
    { operation, kind: 'accepted', order: create(OrderSchema, { operationId: operation }) },
    ...phases.map(phase => ({ operation, kind: 'started', phase }) as const),
    ...(kubernetes
      ? [{ operation, kind: 'upgrade', kubernetes: { server: false, from: '', to: '' } } as const]
      : []),
  ]
  const numbered = records.map(
    (record, at): JournalRecord => ({ ...record, sequence: at + 1, at: new Date(0) }),
  )
  const state = foldJournal(numbered).get(operation)
  if (!state) throw new Error('the operation is not in its journal')
  return state
}

const idOf = ({ order }: OperationState) => order.operationId
const isTouched = ({ phases, kubernetes }: OperationState) =>
  kubernetes !== undefined || AFTER.includes(phases.at(-1)?.phase ?? Phase.UNSPECIFIED)

describe('turns', () => {
  it('go first to what the machine is in the middle of, then to root, then in the order of acceptance', () => {
    fc.assert(
      fc.property(operations, waiting => {
        const next = nextTurn(waiting)
        const touched = waiting.find(isTouched)
        const own = waiting.find(state => isLocal(idOf(state)))
        expect(next).toBe((touched ?? own ?? waiting[0])?.order.operationId)
      }),
    )
  })

  it('are given up for root alone, by no order of root’s, and never once anything may have been touched', () => {
    fc.assert(
      fc.property(operations, ([running, ...waiting]) => {
        if (!running || !givesWay(running, waiting)) return
        expect(isLocal(idOf(running))).toBe(false)
        expect(isTouched(running)).toBe(false)
        expect(waiting.some(state => isLocal(idOf(state)))).toBe(true)
      }),
    )
    const own = stateOf('local-1', [])
    for (const phases of [[], [Phase.VERIFY], BEFORE]) {
      expect(givesWay(stateOf('op-1', phases), [own])).toBe(true)
      expect(givesWay(stateOf('op-1', phases), [stateOf('op-2', [])])).toBe(false)
    }
  })
})
