import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'
import { writeEndMark } from '../safety/marks.ts'
import type { UnitSpec, UnitStart } from '../units/units.ts'
import { inWords, NodeUnderTest } from './testing/node-under-test.ts'
import { bootDefault, CURRENT, OLD, sampleMachine } from './testing/sample-machine.ts'

let tree: string
beforeAll(async () => {
  tree = await mkdtemp(join(tmpdir(), 'tree-'))
  await writeFile(join(tree, 'flake.nix'), '{ outputs = _: { }; }')
})
afterAll(() => rm(tree, { recursive: true }))

const refuses = async (): Promise<UnitStart> => ({ kind: 'failed', reason: 'systemd-run: deadline' })

/** A node whose switch the service manager says it could not start, the first time. */
async function made(start: (node: NodeUnderTest, launch: () => Promise<UnitStart>) => Promise<UnitStart>) {
  const system = sampleMachine()
  const node = await NodeUnderTest.start(system)
  const launch = node.units.start.bind(node.units)
  let asked = false
  node.units.start = async unit => {
    if (asked || !unit.name.startsWith('muster-switch-')) return await launch(unit)
    asked = true
    return await start(node, () => launch(unit))
  }
  return { system, node }
}

describe('a switch whose start fails', () => {
  it('is refused as not started only when nothing of it is there and it wrote no mark', async () => {
    const { system, node } = await made(refuses)
    await using _ = node
    const outcome = await node.apply(await node.publish(tree))
    expect(inWords(outcome)).toBe('refused not-started')
    expect(system.commands.filter(line => line.includes('switch-to-configuration'))).toEqual([])
  })

  it('and that began all the same is taken back: nobody knows how far it came', async () => {
    const { system, node } = await made(async (_, launch) => {
      await launch()
      return await refuses()
    })
    await using _ = node
    const outcome = await node.apply(await node.publish(tree))
    expect(inWords(outcome)).toBe('rolled back')
    expect(outcome.firstCause).toBe(OutcomeClass.UNKNOWN)
    expect(outcome.reason).toContain('it began all the same, and was stopped')
    expect([system.links.get(CURRENT), bootDefault(system)]).toEqual([OLD, OLD])
    expect(node.operations.nodeStatus().quarantined).toEqual([])
  })

  it('and of which something is left is taken back too', async () => {
    const { node } = await made(async ({ units }) => {
      const stop = units.stop.bind(units)
      units.stop = async name => {
        units.stop = stop
        return { kind: 'alive', reason: `${name}.service is still there` } as never
      }
      return await refuses()
    })
    await using _ = node
    const outcome = await node.apply(await node.publish(tree))
    expect(outcome.firstCause).toBe(OutcomeClass.UNKNOWN)
    expect(outcome.reason).toContain('is still there')
  })

  it.each<[string, (unit: UnitSpec) => Promise<void>]>([
    ['says nothing of its end', async () => {}],
    [
      'tells that nothing was run in it',
      // As systemd has it of a service whose ExecStartPre failed.
      async ({ after }) =>
        await writeEndMark(after?.at(-1) ?? '', { SERVICE_RESULT: 'exit-code' }, new Date()),
    ],
  ])('only in the service manager, whose unit %s, is refused as well, and not blamed', async (_, end) => {
    const { system, node } = await made(async () => ({ kind: 'started' }))
    await using __ = node
    const start = node.units.start
    node.units.start = async unit => {
      if (unit.name.startsWith('muster-switch-')) await end(unit)
      return await start(unit)
    }
    const revision = await node.publish(tree)
    const outcome = await node.apply(revision)
    expect(inWords(outcome)).toBe('refused not-started')
    expect(outcome.reason).toMatch(/^the switch could not be started.*; nothing was touched$/)
    expect(node.operations.nodeStatus().quarantined).toEqual([])
    expect([system.links.get(CURRENT), bootDefault(system)]).toEqual([OLD, OLD])
    expect(inWords(await node.apply(revision))).toBe('succeeded')
  })

  it.each([
    ['began all the same', true, 'rolled back'],
    ['never began', false, 'refused not-started'],
  ])(
    'and %s is judged so, too, by an agent that goes on where another was cut off',
    async (_, began, words) => {
      let again = false
      const { node } = await made(async ({ units }, launch) => {
        const start = units.start
        units.start = async unit => {
          if (again || !unit.name.startsWith('muster-switch-')) return await start(unit)
          again = true
          if (began) await launch()
          return await refuses()
        }
        throw new Error('cut off before it asked')
      })
      await using __ = node
      expect(inWords(await node.apply(await node.publish(tree)))).toBe(words)
      expect(again).toBe(true)
    },
  )
})
