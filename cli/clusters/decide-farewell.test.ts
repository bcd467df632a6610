import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { openAct, sampleAct } from '../testing/small-clusters.ts'
import {
  decideFarewell,
  type FarewellFacts,
  type FarewellStep,
  type FarewellWish,
} from './decide-farewell.ts'

const online = { id: 'ab'.repeat(32), online: true }
const joined = { cluster: 'home', joined: true, hasNode: true }
const facts: FarewellFacts = { host: 'olaf', machine: online, member: joined, drained: false, acts: [] }
const wish: FarewellWish = { dead: false, wipe: false, drain: true }

/** What a farewell does, each step done as it is told, from some facts on; ends at a refusal, too. */
function walk(from: FarewellFacts, wanted: FarewellWish): { steps: FarewellStep[]; end: FarewellFacts } {
  let now = from
  const steps: FarewellStep[] = []
  for (let turn = 0; turn < 10; turn++) {
    const farewell = decideFarewell(now, wanted)
    if (farewell.kind === 'refused' || farewell.next === undefined) return { steps, end: now }
    steps.push(farewell.next)
    now = after(now, farewell.next)
  }
  throw new Error(`does not end: ${steps.join(', ')}`)
}

function after(before: FarewellFacts, step: FarewellStep): FarewellFacts {
  if (step === 'evict') return { ...before, machine: undefined }
  const acts = [sampleAct({ act: step }), ...before.acts.filter(({ act, ended }) => act !== step || ended)]
  const member = before.member && { ...before.member, joined: before.member.joined && step !== 'leave' }
  return { ...before, acts, member, drained: before.drained || step === 'drain' }
}

describe('a farewell', () => {
  it('drains, leaves and evicts, in this order, and wipes before it evicts', () => {
    expect(walk(facts, wish).steps).toEqual(['drain', 'leave', 'evict'])
    expect(walk(facts, { ...wish, wipe: true }).steps).toEqual(['drain', 'leave', 'wipe', 'evict'])
  })

  it('goes on where it was, wherever it was cut off', () => {
    const wanted = { ...wish, wipe: true }
    const whole: FarewellStep[] = ['drain', 'leave', 'wipe', 'evict']
    let now = facts
    for (const [index, step] of whole.entries()) {
      expect(walk(now, wanted).steps).toEqual(whole.slice(index))
      now = after(now, step)
    }
    expect(decideFarewell(now, wanted)).toMatchObject({ kind: 'go', next: undefined })
  })

  it('follows what is under way, and asks for nothing twice', () => {
    const drain = openAct()
    const farewell = decideFarewell({ ...facts, acts: [drain] }, wish)
    expect(farewell).toMatchObject({ next: 'drain', follow: { id: drain.id } })
    const leave = openAct({ act: 'leave' })
    expect(decideFarewell({ ...facts, drained: true, acts: [leave] }, wish)).toMatchObject({
      next: 'leave',
      follow: { id: leave.id },
    })
  })

  it('tries a step again that was not done', () => {
    const failed = sampleAct({}, { done: false, class: 'blocked' })
    expect(decideFarewell({ ...facts, acts: [failed] }, wish)).toMatchObject({
      next: 'drain',
      follow: undefined,
    })
  })

  it('T37: counts anew what runs there when it is taken up again, whatever was drained and cordoned before', () => {
    expect(walk({ ...facts, acts: [sampleAct()] }, wish).steps).toEqual(['drain', 'leave', 'evict'])
    expect(walk({ ...facts, drained: true }, wish).steps).toEqual(['leave', 'evict'])
  })

  it('leaves again after it came back', () => {
    const back = [sampleAct({ act: 'return' }), sampleAct({ act: 'leave' }), sampleAct()]
    expect(walk({ ...facts, acts: back }, wish).steps).toEqual(['drain', 'leave', 'evict'])
    const away = { ...facts, acts: back, member: { ...joined, joined: false } }
    expect(walk(away, wish).steps).toEqual(['leave', 'evict'])
  })

  it('of a machine that is gone needs neither drain nor machine', () => {
    const dead = { ...wish, dead: true }
    expect(walk({ ...facts, machine: { ...online, online: false } }, dead).steps).toEqual(['leave', 'evict'])
    expect(walk({ ...facts, machine: undefined }, dead).steps).toEqual(['leave'])
  })

  it('is not begun for a machine that is away, nor as dead for one that is there', () => {
    const away = { ...facts, machine: { ...online, online: false } }
    expect(decideFarewell(away, wish)).toMatchObject({
      kind: 'refused',
      reason: expect.stringContaining('--dead'),
    })
    expect(decideFarewell(facts, { ...wish, dead: true })).toMatchObject({ kind: 'refused' })
    const left = { ...away, member: { ...joined, joined: false }, acts: [sampleAct({ act: 'leave' })] }
    expect(decideFarewell(left, { ...wish, wipe: true })).toMatchObject({
      kind: 'refused',
      reason: expect.stringContaining('--wipe'),
    })
    expect(walk(left, wish).steps).toEqual(['evict'])
  })

  it('of a host without a cluster is an eviction; without a node nothing is drained', () => {
    expect(walk({ ...facts, member: undefined }, { ...wish, wipe: true }).steps).toEqual(['evict'])
    expect(walk({ ...facts, member: { ...joined, hasNode: false } }, wish).steps).toEqual(['leave', 'evict'])
    expect(walk(facts, { ...wish, drain: false }).steps).toEqual(['leave', 'evict'])
  })

  it('whatever happened before, takes no identity from a machine whose node is in the cluster, and ends', () => {
    const word = fc.constantFrom('drain', 'uncordon', 'leave', 'return', 'wipe', 'snapshot')
    const act = fc
      .tuple(word, fc.constantFrom('done', 'failed', 'open'))
      .map(([name, end]) =>
        end === 'open'
          ? openAct({ act: name })
          : sampleAct({ act: name }, end === 'done' ? { done: true } : { done: false, class: 'command' }),
      )
    const machine = fc.constantFrom(undefined, online, { ...online, online: false })
    const bool = fc.boolean()
    fc.assert(
      fc.property(
        fc.array(act, { maxLength: 6 }),
        machine,
        bool,
        fc.record({ dead: bool, wipe: bool, drain: bool }),
        (acts, of, isJoined, wanted) => {
          const start = { ...facts, acts, machine: of, member: { ...joined, joined: isJoined } }
          const { steps, end } = walk(start, wanted)
          const evicted = steps.includes('evict')
          if (evicted) expect(end.member?.joined).toBe(false)
          if (evicted && wanted.wipe) expect(end.acts.some(each => each.act === 'wipe')).toBe(true)
          expect(new Set(steps).size).toBe(steps.length)
        },
      ),
    )
  })
})
