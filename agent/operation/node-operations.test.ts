import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create } from '@bufbuild/protobuf'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { OperationAckSchema, OrderSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { OutcomeClass, Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import { notFound, unavailable } from '../../shared/rpc/rpc-error.ts'
import { MAX_ATTEMPTS } from './next-step.ts'
import { expectUntouched } from './testing/expect-machine.ts'
import { inWords, NodeUnderTest } from './testing/node-under-test.ts'
import { NEW, sampleMachine, switchProgram } from './testing/sample-machine.ts'

const SWITCH = switchProgram(NEW)

let tree: string
beforeAll(async () => {
  tree = await mkdtemp(join(tmpdir(), 'tree-'))
  await writeFile(join(tree, 'flake.nix'), '{ outputs = _: { }; }')
})
afterAll(() => rm(tree, { recursive: true }))

/** Goes on as a program that was built at this time. */
async function builtAt(node: NodeUnderTest, ms: number): Promise<void> {
  await node.stop()
  node.built = new Date(ms)
  await node.start()
}

describe('the node’s operations', () => {
  it('take an id that is a path for none: no folder outside of theirs is ever removed', async () => {
    const system = sampleMachine()
    await using node = await NodeUnderTest.start(system)
    const revision = await node.publish(tree)
    for (const id of ['..', '.', '../..', 'a/b', '../trees', '', 'x'.repeat(65), 'a b'])
      await node.order(revision, id)
    expect(node.operations.history()).toEqual([])
    const id = await node.order(revision)
    expect(inWords(await node.outcome(id))).toBe('succeeded')
    expect(existsSync(join(node.stateDir, 'revisions.json'))).toBe(true)
  })

  it('T57: do an order once, however often it comes, and nothing else under its id', async () => {
    const system = sampleMachine()
    await using node = await NodeUnderTest.start(system)
    const revision = await node.publish(tree)
    const id = await node.order(revision)
    const other = await node.publish(tree, { number: 6 })
    await Promise.all([node.order(revision, id), node.order(other, id), node.order(revision, id)])
    await node.outcome(id)
    await node.order(other, id)
    expect(node.operations.history()).toHaveLength(1)
    expect(node.report(id)?.revision).toBe(5n)
    expect(system.commands.filter(line => line === `${SWITCH} test`)).toHaveLength(1)
    expect(node.lines.join('')).toContain('this id was used for another one')
  })

  it('T57: are told of anew when the coordinator asks for what it had acknowledged, and not done again', async () => {
    const system = sampleMachine()
    await using node = await NodeUnderTest.start(system)
    const revision = await node.publish(tree)
    const id = await node.order(revision)
    const { operations } = node
    await node.outcome(id)
    const acknowledge = async () => {
      const [{ phases } = { phases: [] }] = operations.reports()
      const sequence = phases.at(-1)?.sequence ?? 0n
      await operations.acknowledge(create(OperationAckSchema, { operationId: id, sequence, outcome: true }))
    }
    await acknowledge()
    expect(operations.reports()).toEqual([])
    for (const ask of [
      async () => void (await node.order(revision, id)),
      async () => operations.tellAgain(['never-heard-of', id]),
      async () => operations.tellAll(),
    ]) {
      await ask()
      expect(operations.reports()).toMatchObject([
        { operationId: id, outcome: { class: OutcomeClass.SUCCEEDED } },
      ])
      await acknowledge()
      expect(operations.reports()).toEqual([])
    }
    expect(system.commands.filter(line => line === `${SWITCH} test`)).toHaveLength(1)
  })

  it('T60: are passed over while nothing can be written down, and taken on as soon as it can', async () => {
    await using node = await NodeUnderTest.start(sampleMachine())
    const revision = await node.publish(tree)
    const reserve = join(node.stateDir, 'journal.jsonl.reserve')
    await mkdir(reserve)
    const id = await node.order(revision)
    expect(node.operations.history()).toEqual([])
    expect(node.lines.join()).toContain('order passed over: it cannot be recorded')
    const order = create(OrderSchema, { action: { case: 'hold', value: { reason: 'x' } } })
    await expect(node.operations.acceptLocal(order)).rejects.toThrow(/order: it cannot be recorded/)
    await rm(reserve, { recursive: true })
    await node.order(revision, id)
    expect(inWords(await node.outcome(id))).toBe('succeeded')
  })

  it('are bounded while they wait', async () => {
    const system = sampleMachine()
    await using node = await NodeUnderTest.start(system)
    node.connected = false
    const revision = await node.publish(tree)
    for (let count = 0; count < 40; count++) await node.order(revision)
    expect(node.operations.history()).toHaveLength(32)
    node.connected = true
  })

  it('an acknowledgement of more than there is does not damage the journal', async () => {
    const system = sampleMachine()
    await using node = await NodeUnderTest.start(system)
    const id = await node.order(await node.publish(tree))
    await node.outcome(id)
    const ack = { operationId: id, sequence: 2n ** 63n, outcome: true }
    await node.operations.acknowledge(create(OperationAckSchema, ack))
    await node.operations.acknowledge(create(OperationAckSchema, { ...ack, outcome: false }))
    const before = await node.journal()
    await node.operations.acknowledge(create(OperationAckSchema, ack))
    expect(await node.journal()).toBe(before)
    await node.stop()
    await node.start()
    expect(node.operations.reports()).toEqual([])
  })

  it('are taken up again after a stop in any phase before the switch, and end as if nothing had been', async () => {
    for (const command of ['nix-env --version', 'nixos-rebuild']) {
      const system = sampleMachine()
      await using node = await NodeUnderTest.start(system)
      const [name = ''] = command.split(' ')
      const whole = system.scripts.get(name)
      let begun = () => {}
      const isBegun = new Promise<void>(resolve => {
        begun = resolve
      })
      let end = () => {}
      system.scripts.set(name, async () => {
        begun()
        await new Promise<void>(resolve => {
          end = resolve
        })
        return { ending: { kind: 'cancelled' } }
      })
      const id = await node.order(await node.publish(tree))
      await isBegun
      const stopped = node.stop()
      end()
      await stopped
      if (whole) system.scripts.set(name, whole)
      expect(await node.journal()).not.toContain('"kind":"outcome"')
      await node.start()
      expect(inWords(await node.outcome(id))).toBe('succeeded')
    }
  })

  it('are given up after a few attempts, with the class of the phase they never left', async () => {
    const system = sampleMachine()
    await using node = await NodeUnderTest.start(system)
    const id = await node.order(await node.publish(tree, {}))
    await node.outcome(id)
    await node.stop()
    // The journal of a node that was cut off in each of its builds.
    const journal = (await node.journal()).split('\n')
    const build = journal.findIndex(
      line => line.includes('"kind":"started"') && line.includes(`"phase":${Phase.BUILD}`),
    )
    const once = journal.slice(1, build + 1)
    const lines = [journal[0], ...Array.from({ length: MAX_ATTEMPTS }, () => once).flat()]
    const numbered = lines.map((line, at) => JSON.stringify({ ...JSON.parse(line ?? '{}'), seq: at + 1 }))
    await writeFile(join(node.stateDir, 'journal.jsonl'), `${numbered.join('\n')}\n`)
    await node.start()
    const outcome = await node.outcome(id)
    expect(inWords(outcome)).toBe('build failed')
    expect(outcome.reason).toContain(`begun ${MAX_ATTEMPTS} times`)
  })

  it('are given up after a few attempts also where each ends in the very first phase, but not for stops of the agent', async () => {
    await using node = await NodeUnderTest.start(sampleMachine())
    const revision = await node.publish(tree)
    const { answer } = node
    // As a manifest that is too much for the agent.
    let letGo = () => {}
    node.answer = async () =>
      await new Promise((_, reject) => {
        letGo = () => reject(unavailable('its end'))
      })
    const ending = async (end: Promise<void>) => {
      letGo()
      await end
      await node.start()
    }
    const id = await node.order(revision)
    const begun = () => node.report(id)?.phases.length ?? 0
    for (let stops = 0; stops < MAX_ATTEMPTS + 1; stops++) {
      await expect.poll(begun).toBe(stops + 1)
      await ending(node.stop())
    }
    for (let kills = 1; kills < MAX_ATTEMPTS; kills++) {
      await expect.poll(begun).toBe(MAX_ATTEMPTS + 1 + kills)
      await ending(node.kill())
    }
    await expect.poll(begun).toBe(2 * MAX_ATTEMPTS + 1)
    node.answer = answer
    await ending(node.kill())
    const outcome = await node.outcome(id)
    expect(inWords(outcome)).toBe('refused agent-failed')
    expect(outcome.reason).toContain(`begun ${MAX_ATTEMPTS} times`)
  })

  it('say so when the agent itself fails, with the class of the phase: nothing was touched yet', async () => {
    const system = sampleMachine()
    await using node = await NodeUnderTest.start(system)
    const revision = await node.publish(tree)
    node.readFacts = async () => {
      throw new Error('no child could be started')
    }
    const outcome = await node.apply(revision)
    expect(inWords(outcome)).toBe('refused agent-failed')
    expect(outcome.reason).toContain('no child could be started')
    expectUntouched(system)
  })

  it('wait for the coordinator until the order expires', async () => {
    await using node = await NodeUnderTest.start(sampleMachine())
    const revision = await node.publish(tree)
    node.connected = false
    const id = await node.order(revision)
    await expect.poll(() => node.report(id)?.phases).toHaveLength(1)
    node.now = new Date(node.now.getTime() + 3_600_001)
    expect(inWords(await node.outcome(id))).toBe('refused expired')
  })

  it('try again while the coordinator fails, and believe it when it says no', async () => {
    await using node = await NodeUnderTest.start(sampleMachine())
    const revision = await node.publish(tree)
    const good = node.answer
    let failures = 3
    node.answer = number => {
      if (failures-- > 0) throw unavailable('restarting')
      return good(number)
    }
    expect(inWords(await node.apply(revision))).toBe('succeeded')
    node.answer = () => {
      throw notFound('no target')
    }
    expect(inWords(await node.apply(revision))).toBe('refused target-mismatch')
  })

  it('T11: refuse everything while the record of accepted revisions is missing or unreadable', async () => {
    const system = sampleMachine()
    await using node = await NodeUnderTest.start(system)
    const revision = await node.publish(tree)
    const file = join(node.stateDir, 'revisions.json')
    const good = await readFile(file)
    for (const text of [
      undefined,
      '',
      '{}',
      'null',
      '{"v":2}',
      '{"v":1,"highest":9,"highestDigest":"","floor":0}',
      '{"v":1,"highest":0,"highestDigest":"","floor":5}',
    ]) {
      await rm(file)
      if (text !== undefined) await writeFile(file, text)
      else await symlink('/no/such/file', file).then(() => rm(file))
      expect(inWords(await node.apply(revision))).toBe('refused missing-state')
      if (text === undefined) expect(existsSync(file)).toBe(false)
      await writeFile(file, good)
    }
    await rm(file)
    await mkdir(file)
    expect(inWords(await node.apply(revision))).toBe('refused missing-state')
    expectUntouched(system)
  })

  it('tell of an accepted revision as soon as a report does, not only when the operation ended', async () => {
    const system = sampleMachine()
    await using node = await NodeUnderTest.start(system)
    let seen: bigint | undefined
    const build = system.scripts.get('nixos-rebuild')
    system.scripts.set('nixos-rebuild', async (args, cwd) => {
      seen = node.operations.memory().highest
      return (await build?.(args, cwd)) ?? {}
    })
    await node.apply(await node.publish(tree))
    expect(seen).toBe(5n)
  })

  it.each([
    ['ahead of', 3_600_000],
    ['behind', -3_600_000],
  ])(
    'refuse while the clock is an hour %s the coordinator’s, whatever it makes of the order',
    async (words, skewMs) => {
      const system = sampleMachine()
      await using node = await NodeUnderTest.start(system)
      const revision = await node.publish(tree)
      const id = `op-skew-${words.slice(0, 5)}`
      node.skewMs = skewMs
      node.now = new Date(node.now.getTime() + skewMs)
      const outcome = await node.outcome(await node.order(revision, id))
      expect(inWords(outcome)).toBe('refused clock')
      expect(outcome.reason).toContain(`3600 s ${words}`)
      expectUntouched(system)
    },
  )

  it('refuse while the clock stands before this node’s own past, once it was waited for', async () => {
    const system = sampleMachine()
    await using node = await NodeUnderTest.start(system)
    // No coordinator has shown its time yet.
    node.skewMs = undefined
    await node.apply(await node.publish(tree))
    const revision = await node.publish(tree, { number: 6 })
    const good = node.now
    node.now = new Date(good.getTime() - 3_600_000)
    const outcome = await node.apply(revision)
    expect(inWords(outcome)).toBe('refused clock')
    expect(outcome.reason).toContain('it is not set')
  })

  it('refuse while the clock stands before the agent’s own build, once it was waited for', async () => {
    const system = sampleMachine()
    await using node = await NodeUnderTest.start(system)
    const revision = await node.publish(tree)
    node.skewMs = undefined
    await builtAt(node, node.now.getTime() + 1)
    const outcome = await node.apply(revision)
    expect(inWords(outcome)).toBe('refused clock')
    expect(outcome.reason).toContain('when this agent was built: it is not set')
    expectUntouched(system)
    await builtAt(node, node.now.getTime())
    expect(inWords(await node.apply(revision))).toBe('succeeded')
  })

  it('refuse what had expired when the agent was built, whatever clock and coordinator agree on', async () => {
    const system = sampleMachine()
    await using node = await NodeUnderTest.start(system)
    const revision = await node.publish(tree)
    node.skewMs = 0
    await builtAt(node, node.now.getTime() + 30 * 86_400_000)
    expect(inWords(await node.apply(revision))).toBe('refused expired')
    expectUntouched(system)
  })

  it('wait for a clock that is not set yet', async () => {
    await using node = await NodeUnderTest.start(sampleMachine(), { clockWaitMs: 20_000 })
    // No coordinator has shown its time yet.
    node.skewMs = undefined
    await node.apply(await node.publish(tree))
    const good = node.now
    const revision = await node.publish(tree, { number: 6 })
    node.now = new Date(good.getTime() - 60_000)
    const id = await node.order(revision)
    await expect.poll(() => node.report(id)?.phases).toHaveLength(1)
    node.now = good
    expect(inWords(await node.outcome(id))).toBe('succeeded')
  })

  it('wait for a clock that is not set yet also where the coordinator shows how far it is off', async () => {
    await using node = await NodeUnderTest.start(sampleMachine(), { clockWaitMs: 20_000 })
    await node.apply(await node.publish(tree))
    const good = node.now
    const revision = await node.publish(tree, { number: 6 })
    node.now = new Date(good.getTime() - 360_000)
    node.skewMs = -360_000
    const id = await node.order(revision)
    await expect.poll(() => node.report(id)?.phases).toHaveLength(1)
    await new Promise(resolve => setTimeout(resolve, 1_000))
    expect(node.report(id)?.outcome).toBeUndefined()
    node.now = good
    node.skewMs = 0
    expect(inWords(await node.outcome(id))).toBe('succeeded')
  })

  it('keep only the newest few builds from the garbage collector', async () => {
    await using node = await NodeUnderTest.start(sampleMachine())
    const revision = await node.publish(tree)
    const ids: string[] = []
    for (let count = 0; count < 5; count++) {
      const id = await node.order(revision)
      await node.outcome(id)
      ids.push(id)
    }
    const kept = () => ids.filter(id => existsSync(join(node.stateDir, 'builds', id)))
    await expect.poll(kept).toEqual(ids.slice(-3))
  })
})
