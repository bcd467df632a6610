import { describe, expect, it } from 'vitest'
import { NodeUnderTest } from './testing/node-under-test.ts'
import { CURRENT, NEW, OLD, PROFILE, sampleMachine } from './testing/sample-machine.ts'

describe('what a node says of itself', () => {
  it('tells which system runs there soon after somebody has rebuilt it by hand', async () => {
    const system = sampleMachine()
    await using node = await NodeUnderTest.start(system)
    await node.stop()
    node.looks = { failedUnits: async () => [], lookEveryMs: 10 }
    await node.start()
    const current = () =>
      node.operations.nodeStatus().generations.find(generation => generation.current)?.storePath
    expect(current()).toBe(OLD)
    system.links.set(`${PROFILE}-2-link`, NEW)
    system.links.set(PROFILE, 'system-2-link')
    system.links.set(CURRENT, NEW)
    await expect.poll(current).toBe(NEW)
    expect(node.operations.nodeStatus().currentSystem).toBe(NEW)
  })

  it('tells a system that was only switched to for a test, and is none of its generations', async () => {
    const system = sampleMachine()
    await using node = await NodeUnderTest.start(system)
    await node.stop()
    node.looks = { failedUnits: async () => [], lookEveryMs: 10 }
    await node.start()
    expect(node.operations.nodeStatus().currentSystem).toBe(OLD)
    system.links.set(CURRENT, NEW)
    await expect.poll(() => node.operations.nodeStatus().currentSystem).toBe(NEW)
    expect(node.operations.nodeStatus().generations.some(({ current }) => current)).toBe(false)
  })
})
