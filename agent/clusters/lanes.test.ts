import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ACTIONS } from './cluster-operation.ts'
import { type Lane, laneOf, type Placed, whatMayStart } from './lanes.ts'

const lane = fc.constantFrom<Lane>(
  'machine',
  'members',
  'snapshot',
  'manifests',
  'read',
  'token',
  'node n4',
  'node n5',
)
const isWait = (each: Placed) => each.lane.startsWith('node ')
const place = (lanes: readonly Lane[], prefix: string): Placed[] =>
  lanes.map((each, index) => ({ operation: `${prefix}${index}`, lane: each }))

describe('which acts run beside which', () => {
  it('never runs two of a lane, nor anything but waits beside what changes the machine', () => {
    fc.assert(
      fc.property(
        fc.array(lane, { maxLength: 20 }),
        fc.array(fc.nat({ max: 30 }), { maxLength: 60 }),
        (lanes, ends) => {
          const waiting = place(lanes, 'o')
          let running: Placed[] = []
          const done = new Set<string>()
          for (const end of [...ends, ...Array.from({ length: 40 }, () => 0)]) {
            const started = whatMayStart(
              running,
              waiting.filter(each => !done.has(each.operation) && !running.includes(each)),
            )
            running = [...running, ...started]
            const lanesNow = running.map(each => each.lane)
            expect(new Set(lanesNow).size).toBe(lanesNow.length)
            if (lanesNow.includes('machine')) expect(running.filter(each => !isWait(each))).toHaveLength(1)
            const over = running[end % Math.max(1, running.length)]
            if (over) done.add(over.operation)
            running = running.filter(each => each !== over)
          }
          // Each had its turn in the end.
          expect([...done].sort()).toEqual(waiting.map(each => each.operation).sort())
        },
      ),
    )
  })

  it('lets a drain keep nobody waiting, and what changes the machine not wait for ever', () => {
    const running = place(['node n4', 'members'], 'r')
    const waiting = place(['members', 'machine', 'snapshot', 'node n4', 'node n5'], 'w')
    expect(whatMayStart(running, waiting).map(each => each.lane)).toEqual(['node n5'])
    expect(whatMayStart(place(['node n4'], 'r'), waiting).map(each => each.lane)).toEqual([
      'members',
      'node n5',
    ])
    expect(whatMayStart([], place(['machine', 'members'], 'w')).map(each => each.lane)).toEqual(['machine'])
  })

  it('puts every action somewhere', () => {
    for (const action of ACTIONS) expect(laneOf(action, 'n4', 'n1')).toMatch(/./)
    expect(laneOf('leave', 'n1', 'n1')).toBe('machine')
    expect(laneOf('leave', 'n2', 'n1')).toBe('members')
  })
})
