import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create } from '@bufbuild/protobuf'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { RebootPolicy, SafetySchema } from '../../shared/gen/muster/v1/manifest_pb.ts'
import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'
import { sampleTarget } from '../../shared/revision/testing/sample-fleet.ts'
import { durationFromMs } from '../../shared/time.ts'
import { parseArmRecord } from '../safety/arm-record.ts'
import { armFolder } from '../safety/operation-folder.ts'
import { rearmUnder } from './testing/boot-under-test.ts'
import { inWords, NodeUnderTest } from './testing/node-under-test.ts'
import { bootAnew, bootDefault, CURRENT, NEW, OLD, sampleMachine } from './testing/sample-machine.ts'

let tree: string
beforeAll(async () => {
  tree = await mkdtemp(join(tmpdir(), 'tree-'))
  await writeFile(join(tree, 'flake.nix'), '{ outputs = _: { }; }')
})
afterAll(() => rm(tree, { recursive: true }))

const safety = create(SafetySchema, {
  soak: durationFromMs(0),
  confirmWithin: durationFromMs(60_000),
  reboot: RebootPolicy.REQUIRED,
})

/** What is armed, as a newer program writes it and reads it, and this one does not. */
function newerRecord(node: NodeUnderTest, operation: string) {
  const path = join(armFolder(node.stateDir, operation, 1).path, 'arm.json')
  let text = ''
  node.units.readRecord = async () => (text === '' ? undefined : parseArmRecord(text))
  return {
    write: async () => {
      text ||= await readFile(path, 'utf8')
      const { profile, confirmMs, ...rest } = JSON.parse(text)
      await writeFile(path, JSON.stringify({ ...rest, v: 2, wasDefault: { profile }, confirm: [confirmMs] }))
    },
    /** As for the newer program, which runs in the system before. */
    read: async () => await writeFile(path, text),
  }
}

describe('a change to a system whose agent is too old for what a newer one armed', () => {
  it('is taken back at once by the newer program, and says why', async () => {
    const system = sampleMachine()
    await using node = await NodeUnderTest.start(system)
    const id = await node.order(await node.publish(tree, { targets: [sampleTarget({ safety })] }))
    const record = newerRecord(node, id)
    const becomeAnother = node.units.onRestart
    node.units.onRestart = async () => {
      await record.write()
      await becomeAnother()
    }
    const outcome = await node.outcome(id)
    expect([inWords(outcome), outcome.firstCause]).toEqual(['rolled back', OutcomeClass.UNKNOWN])
    expect(outcome.reason).toContain(`the agent of ${NEW} is too old to go on with this change`)
    expect(outcome.reason).toContain('a newer agent wrote it (v: 2, this one knows 1)')
    expect([system.links.get(CURRENT), bootDefault(system)]).toEqual([OLD, OLD])
    expect(node.operations.nodeStatus().quarantined).toEqual([])
  })

  it('is so too where it was booted, by its dead man and without an agent', async () => {
    const system = sampleMachine()
    system.files.set(join(NEW, 'init-interface-version'), 'other\n')
    await using node = await NodeUnderTest.start(system, { allow: ['apply', 'reboot'] })
    let asked = 0
    node.units.onReboot = async () => {
      asked += 1
    }
    const target = sampleTarget({ safety: { ...safety, noTrial: true } })
    const id = await node.order(await node.publish(tree, { targets: [target] }))
    await vi.waitUntil(() => asked === 1, { timeout: 20_000 })
    const record = newerRecord(node, id)
    await record.write()
    await node.kill()
    await node.units.cut()
    bootAnew(system, NEW)
    await rearmUnder(node)
    await vi.waitUntil(() => asked === 2, { timeout: 20_000 })
    expect(bootDefault(system)).toBe(OLD)
    await node.units.cut()
    bootAnew(system, OLD)
    await record.read()
    await rearmUnder(node)
    await node.start()
    const outcome = await node.outcome(id)
    expect(inWords(outcome)).toBe('rolled back')
    expect([system.links.get(CURRENT), bootDefault(system)]).toEqual([OLD, OLD])
  })
})
