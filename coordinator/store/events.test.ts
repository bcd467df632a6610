import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { ChainCheck } from '../../shared/audit/event-chain.ts'
import { recordEvent } from './events.ts'
import { openStore } from './store.ts'

it('what is hashed of an event is what the store keeps, whatever words it was given', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'muster-events-'))
  try {
    await using store = await openStore(join(folder, 'store.sqlite'), new Date())
    const half = fc.integer({ min: 0xd800, max: 0xdfff }).map(code => String.fromCharCode(code))
    const words = fc.array(fc.oneof(half, fc.string({ unit: 'binary' })), { maxLength: 5 })
    const text = words.map(parts => parts.join(''))
    const long = fc.integer({ min: 3_990, max: 4_000 }).map(length => `${'x'.repeat(length)}😀`)
    const event = fc.record({
      class: text,
      machine: text,
      host: text,
      reason: fc.oneof(text, long),
      actor: text,
    })
    await fc.assert(
      fc.asyncProperty(event, async one => {
        await store.transact(tx => recordEvent(tx, { ...one, at: new Date() }))
      }),
      {
        numRuns: 60,
        examples: [[{ class: 'x', machine: '', host: '', reason: `${'x'.repeat(3_999)}😀`, actor: '' }]],
      },
    )
    const check = new ChainCheck()
    for (const row of await store.db.selectFrom('events').selectAll().orderBy('id').execute()) check.add(row)
    expect(check.problems).toEqual([])
    expect(check.count).toBe(60)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
})
