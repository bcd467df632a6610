import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { pause } from '../../shared/lifecycle.ts'
import type { UnitStart } from '../units/units.ts'
import { rearmUnder } from './testing/boot-under-test.ts'
import { inWords, NodeUnderTest } from './testing/node-under-test.ts'
import { bootAnew, bootDefault, CURRENT, NEW, sampleMachine } from './testing/sample-machine.ts'

let tree: string
beforeAll(async () => {
  tree = await mkdtemp(join(tmpdir(), 'tree-'))
  await writeFile(join(tree, 'flake.nix'), '{ outputs = _: { }; }')
})
afterAll(() => rm(tree, { recursive: true }))

// A dead man that is in no journal has nobody who confirms it. It must not take back what came later.
it.each<[string, (node: NodeUnderTest) => Promise<void>]>([
  [
    'could not be armed',
    async node => {
      const { startTimer } = node.units
      node.units.startTimer = async (): Promise<UnitStart> => ({ kind: 'failed', reason: 'no bus' })
      expect(inWords(await node.apply(await node.publish(tree)))).toBe('refused not-armed')
      node.units.startTimer = startTimer
    },
  ],
  [
    'was armed by an agent that was killed before it wrote that down',
    async node => {
      const { startTimer } = node.units
      const armed = new Promise<void>(resolve => {
        node.units.startTimer = async unit => {
          const started = await startTimer.call(node.units, unit)
          resolve()
          return await new Promise<UnitStart>((_, reject) => {
            setTimeout(() => reject(new Error(`killed: ${started.kind}`)), 50)
          })
        }
      })
      const id = await node.order(await node.publish(tree))
      await armed
      await node.kill()
      expect(await node.journal()).not.toContain('"kind":"armed"')
      expect(node.units.armed).toHaveLength(1)
      node.units.startTimer = startTimer
      // By the time it is back, the order counts no more.
      node.now = new Date(node.now.getTime() + 2 * 3_600_000)
      await node.start()
      expect(inWords(await node.outcome(id))).toBe('refused expired')
      await pause(50)
    },
  ],
])('an operation that %s leaves nothing behind that takes a later one back', async (_, broken) => {
  const system = sampleMachine()
  await using node = await NodeUnderTest.start(system)
  await broken(node)
  expect(node.units.armed).toEqual([])
  expect(inWords(await node.apply(await node.publish(tree)))).toBe('succeeded')
  await node.kill()
  await node.units.cut()
  bootAnew(system)
  await rearmUnder(node)
  await node.units.idle()
  expect([system.links.get(CURRENT), bootDefault(system), node.units.armed]).toEqual([NEW, NEW, []])
})
