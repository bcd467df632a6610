import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { describe, expect, it } from 'vitest'
import { GiveOrdersRequestSchema } from '../../shared/gen/muster/v1/order_pb.ts'
import {
  ACTIONS,
  actionColumns,
  actionOfRow,
  CHANGES,
  type DecidedAction,
  isChange,
  needsRevision,
  orderAction,
  readAction,
} from './order-action.ts'

const read = (request: MessageInitShape<typeof GiveOrdersRequestSchema>) =>
  readAction(create(GiveOrdersRequestSchema, request))
const decided = (word: (typeof ACTIONS)[number]): DecidedAction => {
  if (word === 'hold') return { word, reason: 'disk' }
  return word === 'rollback' ? { word, to: 'op-1', before: true } : { word }
}

describe('an action', () => {
  it('is kept in its row, so that the order can be sent again from that alone', () => {
    for (const word of ACTIONS) {
      const columns = actionColumns(decided(word))
      expect(columns.action).toBe(word)
      expect(actionOfRow({ order_action: Buffer.from(columns.order_action) })).toMatchObject(
        orderAction(decided(word)),
      )
    }
  })

  it('moves Kubernetes alone, or only brings it there, which changes nothing', () => {
    expect(read({ action: { case: 'upgrade', value: { revision: 7n } } })).toEqual({ word: 'upgrade' })
    expect(read({ action: { case: 'upgrade', value: { fetchOnly: true } } })).toEqual({ word: 'fetch' })
    expect(orderAction({ word: 'fetch' })).toEqual({ case: 'upgrade', value: { fetchOnly: true } })
    expect([isChange('upgrade'), isChange('fetch')]).toEqual([true, false])
    expect(ACTIONS.filter(needsRevision)).toEqual(['apply', 'plan', 'upgrade', 'fetch'])
    expect(read({ action: { case: 'restart', value: {} } })).toEqual({ word: 'restart' })
    expect(ACTIONS.filter(isChange)).toEqual(
      [...CHANGES].toSorted((a, b) => ACTIONS.indexOf(a) - ACTIONS.indexOf(b)),
    )
    expect(read({})).toContain('must be one of apply, upgrade')
  })
})
