import { create } from '@bufbuild/protobuf'
import { describe, expect, it } from 'vitest'
import { OrderSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { OutcomeClass, OutcomeSchema, Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import { alreadyReached } from './already-reached.ts'
import { foldJournal } from './fold.ts'

const RUNS = '/nix/store/runs'
const OTHER = '/nix/store/other'

/** How operations ended that had changed the machine: class, phase of the end, and what ran then. */
type Ended = readonly [OutcomeClass, Phase, string?]
/** By what they changed it. */
type Way = typeof Phase.ACTIVATE | typeof Phase.REBOOT
const ROUND = { kind: 'armed', round: 1, bootId: 'boot-1', target: RUNS, failedBefore: [] } as const

function reachedBy(way: Way, ended: readonly Ended[], armed = true): boolean {
  const mode = way === Phase.ACTIVATE ? ('switch' as const) : ('trial' as const)
  const records = ended.flatMap(([kind, phase, runs = RUNS], index) => {
    const operation = `op-${index}`
    return [
      { operation, kind: 'accepted' as const, order: create(OrderSchema, { operationId: operation }) },
      ...(armed ? [{ ...ROUND, operation, mode }] : []),
      { operation, kind: 'started' as const, phase: way },
      { operation, kind: 'outcome' as const, outcome: create(OutcomeSchema, { class: kind, phase, runs }) },
    ]
  })
  const numbered = records.map((record, index) => ({ ...record, sequence: index + 1, at: new Date(0) }))
  const others = [...foldJournal(numbered).values()]
  return alreadyReached({ storePath: RUNS, current: RUNS, profile: RUNS, others })
}

const good: Ended = [OutcomeClass.SUCCEEDED, Phase.DONE]
const half: Ended = [OutcomeClass.UNKNOWN, Phase.RETURN]

describe.each<readonly [string, Way]>([
  ['a switch', Phase.ACTIVATE],
  ['a boot', Phase.REBOOT],
])('what runs and is the boot default is reached, by %s,', (_, way) => {
  const reached = (...ended: readonly Ended[]) => reachedBy(way, ended)

  it('where nothing was ever changed, and after what ended well or went back to it', () => {
    expect(reached()).toBe(true)
    expect(reached(good)).toBe(true)
    expect(reached([OutcomeClass.ROLLED_BACK, Phase.RETURN])).toBe(true)
    expect(reached([OutcomeClass.ROLLED_BACK, Phase.RETURN, OTHER])).toBe(false)
    expect(reached(half)).toBe(false)
  })

  it.each([
    ['whose way back failed', OutcomeClass.ROLLBACK_FAILED, Phase.RETURN],
    ['of which nobody knows the end', OutcomeClass.UNKNOWN, Phase.RETURN],
    ['whose Kubernetes failed', OutcomeClass.ACTIVATION_FAILED, Phase.KUBERNETES],
  ])('T25: not after a change %s', (_, kind, phase) => {
    expect(reached([kind, phase])).toBe(false)
    expect(reached(good, [kind, phase])).toBe(false)
    expect(reached([kind, phase], good)).toBe(true)
  })

  it.each([
    OutcomeClass.BUSY,
    OutcomeClass.REBOOT_REQUIRED,
    OutcomeClass.REFUSED,
    OutcomeClass.ACTIVATION_FAILED,
  ])('also after one that touched nothing (%s), if it was before', kind => {
    const untouched: Ended = [kind, way]
    expect(reached(untouched)).toBe(true)
    expect(reached(good, untouched, untouched)).toBe(true)
    expect(reached(half, untouched)).toBe(false)
    expect(reached(good, [kind, way, OTHER])).toBe(false)
    expect(reached(good, [kind, Phase.KUBERNETES])).toBe(false)
  })
})

it('a reboot that was ordered for itself says nothing of what is reached', () => {
  expect(reachedBy(Phase.REBOOT, [[OutcomeClass.ACTIVATION_FAILED, Phase.REBOOT, OTHER]], false)).toBe(true)
})
