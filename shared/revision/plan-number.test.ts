import { describe, expect, it } from 'vitest'
import { generateSigningKey } from '../envelope/keys.ts'
import { planNumber } from './plan-number.ts'
import { sampleRevision, sampleTrust } from './sample-fleet.ts'

const five = sampleRevision()
const { trust } = sampleTrust
const plan = (newest: typeof five | undefined, seen?: { number: number; digest: string }) =>
  planNumber({ newest: newest?.envelope, trust, seen })

describe('planNumber', () => {
  it('begins with one and goes on from the newest', () => {
    expect(plan(undefined)).toMatchObject({ kind: 'ok', number: 1, predecessor: '' })
    expect(plan(five)).toMatchObject({ kind: 'ok', number: 6, predecessor: five.manifest.digest, floor: 3 })
    expect(plan(five, { number: 4, digest: 'x' })).toMatchObject({ kind: 'ok', number: 6 })
    expect(plan(five, five.manifest)).toMatchObject({ kind: 'ok', number: 6 })
  })

  it('does not let a coordinator choose the number', () => {
    const forged = sampleRevision({ number: 2 ** 50 }, generateSigningKey())
    expect(plan(forged)).toMatchObject({ kind: 'refused', class: 'signature' })
  })

  it('notices a coordinator that went back or tells another story', () => {
    expect(plan(five, { number: 6, digest: 'x' })).toMatchObject({ class: 'went-back' })
    expect(plan(undefined, { number: 1, digest: 'x' })).toMatchObject({ class: 'went-back' })
    expect(plan(five, { number: 5, digest: 'e'.repeat(64) })).toMatchObject({ class: 'fork' })
  })
})
