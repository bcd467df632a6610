import { create } from '@bufbuild/protobuf'
import { expect, it } from 'vitest'
import { OrderSchema } from '../../../shared/gen/muster/v1/agent_pb.ts'
import { OutcomeClass, OutcomeSchema, Phase } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { foldJournal } from '../fold.ts'
import type { JournalRecord, NewRecord } from '../journal-record.ts'
import { neededSystems } from './make-room.ts'

function statesAfter(records: readonly NewRecord[]) {
  const whole = records.map(
    (record, at): JournalRecord => ({ ...record, sequence: at + 1, at: new Date(at) }),
  )
  return [...foldJournal(whole).values()]
}

function operation(id: string, previous: string, target: string, armed: boolean, end?: OutcomeClass) {
  const phase = !armed ? Phase.PLAN : end === OutcomeClass.ACTIVATION_FAILED ? Phase.KUBERNETES : Phase.DONE
  const ended: NewRecord[] =
    end === undefined
      ? []
      : [{ operation: id, kind: 'outcome', outcome: create(OutcomeSchema, { class: end, phase }) }]
  const order = create(OrderSchema, { operationId: id })
  const round = { operation: id, round: 1, mode: 'switch', bootId: 'b', target, failedBefore: [] } as const
  const records: NewRecord[] = [
    { operation: id, kind: 'accepted', order },
    { operation: id, kind: 'target', host: 'olaf', targetDigest: '', previous },
    { operation: id, kind: 'system', storePath: target },
    ...(armed ? [{ ...round, kind: 'armed' } as const] : []),
    ...ended,
  ]
  return records
}

it('what ran before the last change is needed, whatever was planned, refused or begun since', () => {
  const states = statesAfter([
    ...operation('1', '/zero', '/one', true, OutcomeClass.SUCCEEDED),
    ...operation('2', '/one', '/two', true, OutcomeClass.DEGRADED),
    ...operation('3', '/two', '/planned', false, OutcomeClass.SUCCEEDED),
    ...operation('4', '/two', '/bad', true, OutcomeClass.ROLLED_BACK),
    ...operation('5', '/two', '/next', false),
  ])
  expect(new Set(neededSystems(states))).toEqual(new Set(['/one', '/two', '/next']))
})

it.each([
  ['whose Kubernetes failed', OutcomeClass.ACTIVATION_FAILED],
  ['that could not be taken back', OutcomeClass.ROLLBACK_FAILED],
])('what ran before a change %s is needed, for a rollback leads there', (_, end) => {
  const states = statesAfter([
    ...operation('1', '/zero', '/one', true, OutcomeClass.SUCCEEDED),
    ...operation('2', '/one', '/two', true, end),
    ...operation('3', '/two', '/same', false, OutcomeClass.SUCCEEDED),
  ])
  expect(neededSystems(states)).toContain('/one')
})
