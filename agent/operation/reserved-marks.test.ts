import { mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { armFolder, beginArmFolder, prepareArmFolder, SLOTS, slotPath } from '../safety/operation-folder.ts'
import { readSlot, writeSlot } from '../safety/slot.ts'
import { inWords, NodeUnderTest } from './testing/node-under-test.ts'
import { sampleMachine } from './testing/sample-machine.ts'

let tree: string
let dir: string
beforeAll(async () => {
  tree = await mkdtemp(join(tmpdir(), 'tree-'))
  dir = await mkdtemp(join(tmpdir(), 'marks-'))
  await writeFile(join(tree, 'flake.nix'), '{ outputs = _: { }; }')
})
afterAll(async () => {
  await rm(tree, { recursive: true })
  await rm(dir, { recursive: true })
})

/** Which file each slot of the first round is: one that was made anew is another. */
async function filesOf(stateDir: string, operation: string): Promise<readonly number[]> {
  const folder = armFolder(stateDir, operation, 1)
  return await Promise.all(SLOTS.map(async name => (await stat(slotPath(folder, name))).ino))
}

it('the space for the marks of a change is taken with its order, and kept until they are written', async () => {
  await using node = await NodeUnderTest.start(sampleMachine())
  const id = await node.order(await node.publish(tree))
  const reserved = await filesOf(node.stateDir, id)
  expect(inWords(await node.outcome(id))).toBe('succeeded')
  expect(await filesOf(node.stateDir, id)).toEqual(reserved)
  expect((await readSlot(slotPath(armFolder(node.stateDir, id, 1), 'switch.end'))).kind).toBe('value')
})

it('an order that finds no space for its marks is accepted all the same, and asks again when it arms', async () => {
  await using node = await NodeUnderTest.start(sampleMachine())
  const folder = armFolder(node.stateDir, 'full', 1)
  // No slot can be made through a file that is none.
  await mkdir(join(folder.path, '.switch.start.tmp'), { recursive: true })
  await expect(prepareArmFolder(folder, node.stateDir)).rejects.toThrow(/directory/)
  const id = await node.order(await node.publish(tree), 'full')
  expect(inWords(await node.outcome(id))).toBe('succeeded')
  expect((await readSlot(slotPath(folder, 'switch.end'))).kind).toBe('value')
})

it('a round that begins anew gives up nothing that was reserved, and takes over nothing that was written', async () => {
  const folder = armFolder(dir, 'op', 1)
  await prepareArmFolder(folder, dir)
  const reserved = await filesOf(dir, 'op')
  await beginArmFolder(folder, dir)
  expect(await filesOf(dir, 'op')).toEqual(reserved)
  await writeSlot(slotPath(folder, 'switch.start'), { of: 'an earlier try' })
  await writeFile(join(folder.path, 'arm.json'), '{}')
  await beginArmFolder(folder, dir)
  for (const name of SLOTS) expect(await readSlot(slotPath(folder, name))).toEqual({ kind: 'empty' })
  await expect(stat(join(folder.path, 'arm.json'))).rejects.toThrow('ENOENT')
})
