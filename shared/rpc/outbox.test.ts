import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Outbox } from './outbox.ts'

async function drain(outbox: Outbox<number>): Promise<number[]> {
  const items: number[] = []
  for await (const item of outbox) items.push(item)
  return items
}

describe('an outbox', () => {
  it('never holds more than its bound and gives what it took in order, to the last', async () => {
    const steps = fc.array(fc.constantFrom('push', 'take'), { maxLength: 60 })
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 5 }), steps, async (limit, actions) => {
        const outbox = new Outbox<number>(limit)
        const reader = outbox[Symbol.asyncIterator]()
        const taken: number[] = []
        const got: number[] = []
        for (const [number, action] of actions.entries()) {
          const room = outbox.size < limit
          if (action === 'push') {
            expect(outbox.push(number)).toBe(room)
            if (room) taken.push(number)
          } else if (outbox.size > 0) {
            const next = await reader.next()
            if (!next.done) got.push(next.value)
          }
          expect(outbox.size).toBeLessThanOrEqual(limit)
        }
        outbox.close()
        for await (const item of { [Symbol.asyncIterator]: () => reader }) got.push(item)
        expect(got).toEqual(taken)
      }),
    )
  })

  it('wakes a reader that waits, for each item and for the end', async () => {
    const outbox = new Outbox<number>(2)
    const reading = drain(outbox)
    for (const item of [1, 2, 3]) {
      await expect.poll(() => outbox.size).toBe(0)
      outbox.push(item)
    }
    outbox.close()
    expect(await reading).toEqual([1, 2, 3])
  })

  it('takes nothing once it is closed, and still gives what it has', async () => {
    const outbox = new Outbox<number>(5)
    outbox.push(1)
    outbox.close()
    expect(outbox.push(2)).toBe(false)
    expect(outbox.closed).toBe(true)
    expect(await drain(outbox)).toEqual([1])
  })

  it('fails at once, drops what waits, and keeps the first end it came to', async () => {
    const outbox = new Outbox<number>(5)
    outbox.push(1)
    outbox.fail(new Error('evicted'))
    outbox.fail(new Error('later'))
    await expect(drain(outbox)).rejects.toThrow('evicted')
    const closed = new Outbox<number>(5)
    const reading = drain(closed)
    closed.close()
    closed.fail(new Error('too late'))
    expect(await reading).toEqual([])
  })

  it('fails a reader that waits', async () => {
    const outbox = new Outbox<number>(5)
    const reading = drain(outbox)
    outbox.fail(new Error('evicted'))
    await expect(reading).rejects.toThrow('evicted')
  })
})
