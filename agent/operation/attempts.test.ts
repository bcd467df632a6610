import { create } from '@bufbuild/protobuf'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { OrderSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import { BROKEN_OFF, foldJournal } from './fold.ts'
import type { JournalRecord, NewRecord } from './journal-record.ts'

it('T55: what is reported again or acknowledged, however often, is no further attempt at the work', () => {
  const operation = 'op'
  const at = new Date('2026-11-20T12:00:00Z')
  const telling: fc.Arbitrary<NewRecord> = fc.record({
    operation: fc.constant(operation),
    kind: fc.constant('acknowledged' as const),
    upTo: fc.nat(),
    outcome: fc.boolean(),
  })
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 4 }), fc.array(telling, { maxLength: 50 }), (begun, told) => {
      const records: NewRecord[] = [
        { operation, kind: 'accepted', order: create(OrderSchema, { operationId: operation }) },
        ...told,
        ...Array.from({ length: begun }, () => ({
          operation,
          kind: 'started' as const,
          phase: Phase.VERIFY,
        })),
        ...told,
      ]
      const numbered: JournalRecord[] = records.map((record, i) => ({ ...record, sequence: i + 1, at }))
      expect(foldJournal(numbered).get(operation)?.attempts).toBe(begun)
    }),
    { numRuns: 100 },
  )
})

it('counts what was cut off, and not what was broken off on purpose, in whatever phase', () => {
  const operation = 'op'
  const ended = (phase: Phase, detail: string) =>
    ({ operation, kind: 'ended', phase, detail, exitCode: undefined }) as const
  const started = (phase: Phase) => ({ operation, kind: 'started', phase }) as const
  const attempt = fc.constantFrom(
    { counts: true, records: [started(Phase.VERIFY)] },
    { counts: true, records: [started(Phase.VERIFY), ended(Phase.VERIFY, 'good'), started(Phase.BUILD)] },
    { counts: false, records: [started(Phase.VERIFY), ended(Phase.VERIFY, BROKEN_OFF)] },
    {
      counts: false,
      records: [
        ...[started(Phase.VERIFY), ended(Phase.VERIFY, 'good')],
        ...[started(Phase.BUILD), ended(Phase.BUILD, BROKEN_OFF)],
      ],
    },
  )
  fc.assert(
    fc.property(fc.array(attempt, { maxLength: 10 }), attempts => {
      const records: NewRecord[] = [
        { operation, kind: 'accepted', order: create(OrderSchema, { operationId: operation }) },
        ...attempts.flatMap(({ records }) => records),
      ]
      const numbered = records.map(
        (record, i): JournalRecord => ({
          ...record,
          sequence: i + 1,
          at: new Date(0),
        }),
      )
      const counted = attempts.filter(({ counts }) => counts).length
      expect(foldJournal(numbered).get(operation)?.attempts).toBe(counted)
    }),
  )
})
