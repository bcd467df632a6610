import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { describe, expect, it } from 'vitest'
import { OrderSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { agentTime } from './agent-time.ts'
import { foldJournal } from './fold.ts'
import type { JournalRecord } from './journal-record.ts'

const NOW = new Date('2026-11-30T12:00:00Z')
const AHEAD = new Date('2037-01-01T00:00:00Z')

/** The agent's time on a node whose journal says that an order's target was known at a moment. */
function timeAfter(order: MessageInitShape<typeof OrderSchema>, at: Date): Date {
  const operation = 'op'
  const records: readonly JournalRecord[] = [
    { sequence: 1, operation, at, kind: 'accepted', order: create(OrderSchema, order) },
    { sequence: 2, operation, at, kind: 'target', host: 'olaf', targetDigest: '', previous: '' },
  ]
  const clock = { now: () => NOW }
  return agentTime({ clock, built: undefined }, foldJournal(records).values())
}

describe('the agent’s time', () => {
  it('is not before a revision was accepted, which a coordinator’s clock has confirmed', () => {
    const order = { operationId: 'op', revision: 4n, action: { case: 'apply', value: {} } } as const
    expect(timeAfter(order, AHEAD)).toEqual(AHEAD)
    expect(timeAfter(order, new Date(0))).toEqual(NOW)
  })

  it('does not go by a rollback that root ordered while the clock was years ahead: no order would be in time again', () => {
    const order = { operationId: 'op', action: { case: 'rollback', value: { operationId: 'x' } } } as const
    expect(timeAfter(order, AHEAD)).toEqual(NOW)
  })
})
