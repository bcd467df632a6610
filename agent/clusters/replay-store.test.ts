import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ReplayStore } from './replay-store.ts'
import { MAX_ORDERS, readSeenOrders, type SeenOrders, seeOrder, writeSeenOrders } from './seen-orders.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'muster-replay-'))
})
afterEach(async () => await rm(folder, { recursive: true }))

const id = (at: number) => at.toString(16).padStart(32, '0')

describe('what counts once on this node', () => {
  it('is remembered over restarts', async () => {
    const store = await ReplayStore.open(folder, true)
    expect(await store.spend({ digest: 'a'.repeat(64), expiresMs: 1_000 }, 0)).toBeUndefined()
    expect(await store.see({ id: id(1), expiresMs: 1_000, operation: 'o1', done: false }, 0)).toBeUndefined()
    const again = await ReplayStore.open(folder, false)
    expect(again.spent?.has('a'.repeat(64))).toBe(true)
    expect(again.orders?.get(id(1))).toEqual({ expiresMs: 1_000, operation: 'o1', done: false })
  })

  it('lets nothing pass when its record is damaged, or has gone from where things were done', async () => {
    await ReplayStore.open(folder, true)
    await writeFile(join(folder, 'spent.json'), '{}')
    await rm(join(folder, 'operator-orders.json'))
    const store = await ReplayStore.open(folder, false)
    expect([store.spent, store.orders]).toEqual([undefined, undefined])
    expect(await store.spend({ digest: 'a'.repeat(64), expiresMs: 1_000 }, 0)).toContain('cannot be read')
    expect(await store.see({ id: id(1), expiresMs: 1, operation: 'o', done: false }, 0)).toContain(
      'cannot be read',
    )
  })
})

describe('an operator’s order', () => {
  it('that was obeyed is never obeyed again while it could be good, whatever comes in between', () => {
    const day = 86_400_000
    fc.assert(
      fc.property(
        fc.array(
          fc.record({
            at: fc.nat({ max: 5 }),
            operation: fc.constantFrom('a', 'b'),
            done: fc.boolean(),
            later: fc.nat({ max: day }),
          }),
          { maxLength: 20 },
        ),
        tries => {
          let orders: SeenOrders = new Map()
          let nowMs = 0
          const obeyed = new Map<number, string>()
          for (const { at, operation, done, later } of tries) {
            nowMs += later
            const expiresMs = 7 * day
            if (nowMs >= expiresMs) break
            const seeing = seeOrder(orders, { id: id(at), expiresMs, operation, done }, nowMs)
            const by = obeyed.get(at)
            if (by !== undefined && !(done && by === operation)) expect(seeing.kind).toBe('refused')
            if (seeing.kind === 'refused') continue
            orders = readSeenOrders(writeSeenOrders(seeing.orders)) ?? new Map()
            if (done) obeyed.set(at, operation)
          }
        },
      ),
    )
  })

  it('is refused when more are remembered than people sign', () => {
    const many = Array.from(
      { length: MAX_ORDERS },
      (_, at) => [id(at), { expiresMs: 9, operation: 'o', done: true }] as const,
    )
    const orders = new Map(many)
    const next = { id: id(9_999), expiresMs: 9, operation: 'p', done: false }
    expect(seeOrder(orders, next, 0).kind).toBe('refused')
    expect(seeOrder(orders, next, 2 * 86_400_000).kind).toBe('seen')
  })

  it('is not known from a file that says anything else', () => {
    for (const text of [
      '',
      '[]',
      '{"orders":[]}',
      '{"orders":{"x":{}}}',
      `{"orders":{"${id(1)}":{"expiresMs":"1"}}}`,
    ])
      expect(readSeenOrders(text)).toBeUndefined()
  })
})
