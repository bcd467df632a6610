import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'
import { armFolder } from '../safety/operation-folder.ts'
import { readReturnEnd, writeReturnEnd } from '../safety/return-end.ts'
import type { UnitStart } from '../units/units.ts'
import { inWords, NodeUnderTest } from './testing/node-under-test.ts'
import { bootDefault, CURRENT, NEW, OLD, sampleMachine, switchProgram } from './testing/sample-machine.ts'

let tree: string
beforeAll(async () => {
  tree = await mkdtemp(join(tmpdir(), 'tree-'))
  await writeFile(join(tree, 'flake.nix'), '{ outputs = _: { }; }')
})
afterAll(() => rm(tree, { recursive: true }))

const isReturn = (name: string) => name.startsWith('muster-return-')

/**
 * A node whose new system does not come up whole; `begin` stands for the service manager when it is asked for the way back. Undefined: it does
 * what it should.
 */
async function made(begin: (count: number, node: NodeUnderTest) => Promise<UnitStart | undefined>) {
  const system = sampleMachine()
  system.scripts.set(switchProgram(NEW), ([action]) => {
    if (action === 'test') system.links.set(CURRENT, NEW)
    return { exitCode: 2, stderr: ['activating the configuration...'] }
  })
  const node = await NodeUnderTest.start(system, { bootDeadlineMs: 300 })
  const { units } = node
  const { start, startLoaded } = {
    start: units.start.bind(units),
    startLoaded: units.startLoaded.bind(units),
  }
  let count = 0
  units.startLoaded = async name => {
    if (!isReturn(name)) return await startLoaded(name)
    count += 1
    return (await begin(count, node)) ?? (await startLoaded(name))
  }
  units.start = async unit =>
    isReturn(unit.name) ? { kind: 'failed', reason: 'Connection timed out' } : await start(unit)
  return { system, node }
}

describe('a way back', () => {
  it.each<[string, UnitStart, string]>([
    ['that the service manager does not start', { kind: 'failed', reason: 'busy' }, 'could not be started'],
    ['that is cut before its end', { kind: 'started' }, 'was cut before its end'],
  ])('%s is begun again until it is walked, and stays armed', async (_, answer, told) => {
    const armed: boolean[] = []
    const { system, node } = await made(async (count, { units }) => {
      armed.push(units.armed.some(isReturn))
      return count < 6 ? answer : undefined
    })
    await using __ = node
    const outcome = await node.apply(await node.publish(tree))
    expect(inWords(outcome)).toBe('rolled back')
    expect(outcome.firstCause).toBe(OutcomeClass.ACTIVATION_FAILED)
    expect(armed).toEqual([true, true, true, true, true, true])
    expect([system.links.get(CURRENT), bootDefault(system), node.units.armed]).toEqual([OLD, OLD, []])
    expect(node.output.join('\n')).toContain(told)
  })

  it('that waits for a boot which does not come has failed', async () => {
    const { node } = await made(async (_, { operations, stateDir }) => {
      const folder = armFolder(stateDir, operations.history()[0]?.operationId ?? '', 1)
      const end = { kind: 'booting', bootId: 'boot-1', reason: 'boots into the old system' } as const
      if (!(await readReturnEnd(folder))) await writeReturnEnd(folder, end)
      return { kind: 'started' }
    })
    await using _ = node
    const outcome = await node.apply(await node.publish(tree))
    expect(inWords(outcome)).toBe('rollback failed')
    expect(outcome.reason).toContain('boots into the old system, but it did not boot anew within')
  })
})
