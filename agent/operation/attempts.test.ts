import { create } from '@bufbuild/protobuf'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { OrderSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import { foldJournal } from './fold.ts'
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
