import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create } from '@bufbuild/protobuf'
import { durationFromMs } from '@bufbuild/protobuf/wkt'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { SafetySchema } from '../../shared/gen/muster/v1/manifest_pb.ts'
import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'
import { pause } from '../../shared/lifecycle.ts'
import { outcomeName } from '../../shared/operation-names.ts'
import { sampleTarget } from '../../shared/revision/testing/sample-fleet.ts'
import { rearmUnder } from './testing/boot-under-test.ts'
import { NodeUnderTest } from './testing/node-under-test.ts'
import {
  bootAnew,
  bootDefault,
  CURRENT,
  goodSwitch,
  NEW,
  OLD,
  sampleMachine,
  switchProgram,
} from './testing/sample-machine.ts'

let tree: string
beforeAll(async () => {
  tree = await mkdtemp(join(tmpdir(), 'tree-'))
  await writeFile(join(tree, 'flake.nix'), '{ outputs = _: { }; }')
})
afterAll(() => rm(tree, { recursive: true }))

interface Life {
  readonly ends: 0 | 1 | 2 | 4 | 101 | 'hangs'
  readonly coordinator: boolean
  readonly events: readonly { readonly afterMs: number; readonly kind: 'kill' | 'cut' }[]
}

/** One operation on one machine, with the real engine, whatever happens in it. */
async function live({ ends, coordinator, events }: Life) {
  const system = sampleMachine()
  let switches = 0
  system.scripts.set(switchProgram(NEW), async (args, cwd, signal) => {
    if (args[0] === 'boot') return {}
    switches += 1
    if (!(await pause(100, signal))) return {}
    if (ends === 'hangs') return await new Promise<never>(() => {})
    return { ...(await goodSwitch(system, NEW)(args, cwd)), exitCode: ends }
  })
  await using node = await NodeUnderTest.start(system, { switchDeadlineMs: 1_500 })
  node.units.onRestart = async () => node.becomeAnother()
  if (!coordinator) node.confirm = async () => ({ confirmed: false, reason: 'does not know it' })
  const safety = create(SafetySchema, { soak: durationFromMs(0), confirmWithin: durationFromMs(5_000) })
  const id = await node.order(await node.publish(tree, { targets: [sampleTarget({ safety })] }))
  for (const { afterMs, kind } of events) {
    await pause(afterMs)
    if (node.report(id)?.outcome) break
    await node.kill()
    if (kind === 'cut') {
      await node.units.cut()
      bootAnew(system)
      await rearmUnder(node)
    }
    await node.start()
  }
  const outcome = await node.outcome(id)
  // At this very moment: an agent that is killed now takes nothing away any more.
  const { armed } = node.units
  const journal = await node.journal()
  await node.units.idle()
  return {
    outcome,
    journal,
    switches,
    armed,
    current: system.links.get(CURRENT),
    profile: bootDefault(system),
  }
}

it('an operation of a node that is killed and cut off at any moment ends, in truth: N12, N36, T26, T28', async () => {
  const life: fc.Arbitrary<Life> = fc.record({
    ends: fc.oneof(
      { weight: 3, arbitrary: fc.constant(0 as const) },
      fc.constantFrom(...([1, 2, 4, 101, 'hangs'] as const)),
    ),
    coordinator: fc.oneof({ weight: 4, arbitrary: fc.constant(true) }, fc.constant(false)),
    events: fc.array(
      fc.record({ afterMs: fc.integer({ min: 1, max: 500 }), kind: fc.constantFrom('kill', 'kill', 'cut') }),
      { minLength: 1, maxLength: 4 },
    ),
  })
  await fc.assert(
    fc.asyncProperty(life, async given => {
      const { outcome, journal, switches, armed, current, profile } = await live(given)
      expect(armed).toEqual([])
      const good = outcome.class === OutcomeClass.SUCCEEDED
      const name = outcomeName(outcome.class)
      expect([name, current, profile]).toEqual(good ? [name, NEW, NEW] : [name, OLD, OLD])
      expect(outcome.runs).toBe(current)
      if (good) expect(given.coordinator).toBe(true)
      // Rounds that a boot broke off before the switch began are begun again; a switch that began is not.
      expect(switches).toBeLessThanOrEqual(1)
      expect(journal.match(/"kind":"outcome"/g)).toHaveLength(1)
      const kinds: readonly OutcomeClass[] = [
        ...[OutcomeClass.SUCCEEDED, OutcomeClass.ROLLED_BACK, OutcomeClass.UNCONFIRMED],
      ]
      expect(kinds, outcome.reason).toContain(outcome.class)
    }),
    { numRuns: 10, interruptAfterTimeLimit: 90_000 },
  )
}, 180_000)
