import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { readEndMark, readStartMark, writeEndMark, writeStartMark } from './marks.ts'
import { clearSlot, reserveSlot, writeSlot } from './slot.ts'

let dir: string
let slot: string
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'marks-'))
  slot = join(dir, 'mark')
})
afterAll(() => rm(dir, { recursive: true }))
beforeEach(async () => {
  await reserveSlot(slot)
  await clearSlot(slot)
})

const at = new Date('2026-11-20T12:00:00Z')

describe('the marks of a unit', () => {
  it('N2: hold what the unit was told of its own end, and are there only when it wrote them', async () => {
    expect(await readEndMark(slot)).toEqual({ kind: 'unmarked' })
    await writeEndMark(slot, { SERVICE_RESULT: 'exit-code', EXIT_CODE: 'exited', EXIT_STATUS: '4' }, at)
    expect(await readEndMark(slot)).toEqual({
      kind: 'marked',
      mark: { at, result: 'exit-code', code: 'exited', status: '4' },
    })
    expect(await readStartMark(join(dir, 'none'))).toEqual({ kind: 'unmarked' })
    await writeStartMark(slot, at, undefined)
    expect(await readStartMark(slot)).toEqual({ kind: 'marked', mark: { at, boot: undefined } })
    const boot = { bootId: 'one', uptimeMs: 5 }
    await writeStartMark(slot, at, boot)
    expect(await readStartMark(slot)).toEqual({ kind: 'marked', mark: { at, boot } })
  })

  it('of a command that was never run are empty, and no text of another makes them long', async () => {
    await writeEndMark(slot, {}, at)
    expect(await readEndMark(slot)).toMatchObject({ mark: { result: '', code: '', status: '' } })
    await writeEndMark(slot, { EXIT_STATUS: 'x'.repeat(100_000) }, at)
    expect(await readEndMark(slot)).toMatchObject({ mark: { status: 'x'.repeat(64) } })
  })

  it('T22: that cannot be read are neither missing nor an end', async () => {
    await writeFile(slot, 'torn')
    expect(await readEndMark(slot)).toMatchObject({ kind: 'unreadable' })
    expect(await readStartMark(slot)).toMatchObject({ kind: 'unreadable' })
    for (const value of [null, 7, {}, { at: 'never' }, { at: at.toISOString() }]) {
      await rm(slot)
      await reserveSlot(slot)
      await writeSlot(slot, value)
      expect(await readEndMark(slot)).toMatchObject({ kind: 'unreadable' })
    }
  })
})
