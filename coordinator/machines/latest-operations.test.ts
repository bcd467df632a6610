import { create } from '@bufbuild/protobuf'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'
import { GiveOrdersRequestSchema } from '../../shared/gen/muster/v1/order_pb.ts'
import { giveOrders } from '../api/give-orders.ts'
import { ANNA, FiveHosts, MACHINES } from '../rollouts/testing/five-hosts.ts'
import { latestOperations } from './latest-operations.ts'

const [N1 = '', N2 = ''] = MACHINES

let five: FiveHosts
beforeEach(async () => {
  five = await FiveHosts.start()
})
afterEach(() => five[Symbol.asyncDispose]())

it('a plan hides no outcome of what changed a machine, but is shown while it is made and where there is nothing else', async () => {
  const { deps, give } = await five.prepare()
  const { db } = five.fleet.store
  const action = { case: 'apply', value: { revision: 0n } } as const
  await giveOrders(give)(create(GiveOrdersRequestSchema, { refs: ['n1'], requestId: 'one', action }), ANNA)
  await five.end(deps, ['n1'], OutcomeClass.ROLLED_BACK)
  const latest = async (machine: string) => {
    const { action: word, outcome_class: outcome } = (await latestOperations(db, MACHINES)).get(machine) ?? {}
    return [word, outcome]
  }
  expect(await latest(N1)).toEqual(['apply', OutcomeClass.ROLLED_BACK])
  expect(await latest(N2)).toEqual([undefined, undefined])
  const [row] = await db.selectFrom('operations').selectAll().where('action', '=', 'apply').execute()
  if (!row) throw new Error('nothing was ordered')
  const plan = { ...row, action: 'plan', ordered: row.ordered + 1_000, signed_outcome: null }
  const begun = { outcome: null, outcome_class: 0, ended: null }
  for (const [machine, id] of [
    [N1, 'plan-1'],
    [N2, 'plan-2'],
  ] as const) {
    await db
      .insertInto('operations')
      .values({ ...plan, ...begun, machine, id })
      .execute()
    expect(await latest(machine)).toEqual(['plan', 0])
    await db.updateTable('operations').set({ outcome_class: 1, ended: 1 }).where('id', '=', id).execute()
  }
  expect(await latest(N1)).toEqual(['apply', OutcomeClass.ROLLED_BACK])
  expect(await latest(N2)).toEqual(['plan', OutcomeClass.SUCCEEDED])
})
