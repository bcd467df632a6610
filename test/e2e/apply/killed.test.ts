import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { Phase } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { phaseName } from '../../../shared/operation-names.ts'
import { hasNix } from '../../nix/nix-library.ts'
import { until, untilActive } from '../../support/shown.ts'
import { ApplyingFleet, allAt, inWords, type NixNode } from './applying-fleet.ts'

let applying: ApplyingFleet
let slow: NixNode
let slowswitch: NixNode

beforeAll(async () => {
  if (!hasNix) return
  applying = await ApplyingFleet.start()
  await applying.publish()
  slow = await applying.addNode('slow')
  slowswitch = await applying.addNode('slowswitch')
})
afterAll(async () => await applying?.[Symbol.asyncDispose]())

/** The moment at which the journal of a node shows that an operation came to a phase. */
async function reaches(node: NixNode, id: string, phase: Phase): Promise<void> {
  await vi.waitUntil(
    async () =>
      (await node.journal()).some(line => line.op === id && line.kind === 'started' && line.phase === phase),
    { timeout: 30_000, interval: 1 },
  )
}

/** Nothing of an operation is doubled: one record says it was accepted, at most one that it was activated, one how it ended. */
async function expectOnce(node: NixNode, id: string, activations: number): Promise<void> {
  const lines = (await node.journal()).filter(line => line.op === id)
  expect(lines.filter(({ kind }) => kind === 'accepted')).toHaveLength(1)
  expect(lines.filter(({ kind }) => kind === 'outcome')).toHaveLength(1)
  const begun = lines.filter(({ kind, phase }) => kind === 'started' && phase === Phase.ACTIVATE)
  expect(begun).toHaveLength(activations)
  const { events } = await applying.fleet.api.listEvents({ ref: node.host, limit: 1000 })
  expect(events.filter(event => event.class === 'went-back').map(({ reason }) => reason)).toEqual([])
  const { operations } = await applying.fleet.api.listOperations({ ref: node.host, limit: 1000 })
  expect(operations.filter(({ operationId }) => operationId === id)).toHaveLength(1)
  // The next order is not held up by anything that was left.
  expect(operations.filter(({ outcome }) => !outcome)).toEqual([])
}

const BEFORE_THE_SWITCH = [Phase.VERIFY, Phase.PREFLIGHT, Phase.FETCH, Phase.BUILD, Phase.PLAN]

describe.skipIf(!hasNix)(
  `kill -9 of the agent ${hasNix ? '' : 'skipped: the command nix is missing'}`,
  () => {
    it.each(BEFORE_THE_SWITCH.map(phase => [phaseName(phase), phase] as const))(
      'in phase %s: it begins again by itself, and reaches the revision once',
      async (_, phase) => {
        await applying.publish()
        const [id = ''] = await applying.order(['slow'])
        await reaches(slow, id, phase)
        await slow.agent.kill('SIGKILL')
        slow.agent.start()
        const outcome = await applying.outcome(id)
        expect(inWords(outcome)).toBe('succeeded')
        expect(slow.state()).toEqual(allAt(outcome.storePath))
        await expectOnce(slow, id, 1)
        // What the second attempt said follows what the first one said.
        expect((await applying.output('slow', id)).join('\n')).toContain('activating the configuration')
      },
    )

    it('before it could acknowledge the order: the order comes again and is done once', async () => {
      await applying.publish()
      await slow.agent.kill('SIGKILL')
      const [id = ''] = await applying.order(['slow'])
      slow.agent.start()
      await vi.waitUntil(async () => (await slow.journal()).some(({ op }) => op === id), {
        timeout: 30_000,
        interval: 1,
      })
      await slow.agent.kill('SIGKILL')
      slow.agent.start()
      expect(inWords(await applying.outcome(id))).toBe('succeeded')
      await expectOnce(slow, id, 1)
    })

    it('in the middle of a switch: the outcome is unknown, never success, and is not tried again by itself', async () => {
      await applying.publish()
      const before = slowswitch.state()
      const [id = ''] = await applying.order(['slowswitch'])
      await reaches(slowswitch, id, Phase.ACTIVATE)
      await slowswitch.agent.kill('SIGKILL')
      slowswitch.agent.start()
      const outcome = await applying.outcome(id)
      expect(inWords(outcome)).toBe('unknown')
      expect(outcome.phase).toBe(Phase.ACTIVATE)
      expect(outcome.reason).toContain('in the middle of the switch')
      expect(outcome.storePath).not.toBe('')
      // Whatever the cut switch still did, the boot default stays what was proved (T30).
      const { profile, bootDefault } = slowswitch.state()
      expect({ profile, bootDefault }).toEqual({ profile: before.profile, bootDefault: before.bootDefault })
      await expectOnce(slowswitch, id, 1)
      const { machines } = await applying.fleet.api.listMachines({})
      expect(Number(machines.find(({ host }) => host === 'slowswitch')?.appliedRevision)).toBe(0)
      // A person's next order finishes it.
      expect(inWords(await applying.apply('slowswitch'))).toMatch(/^(succeeded|busy)$/)
    })

    it('by the service manager, in the middle of a build: it stops at once and goes on afterwards', async () => {
      await applying.publish()
      const [id = ''] = await applying.order(['slow'])
      await reaches(slow, id, Phase.BUILD)
      const stopped = await slow.agent.kill('SIGTERM')
      expect(stopped?.code).toBe(0)
      expect((await slow.journal()).some(line => line.op === id && line.kind === 'outcome')).toBe(false)
      slow.agent.start()
      expect(inWords(await applying.outcome(id))).toBe('succeeded')
      await expectOnce(slow, id, 1)
    })

    it('by the service manager, in the middle of a switch: the switch comes to its end first', async () => {
      await applying.publish()
      const [id = ''] = await applying.order(['slowswitch'])
      await reaches(slowswitch, id, Phase.ACTIVATE)
      await slowswitch.agent.kill('SIGTERM')
      expect((await slowswitch.journal()).some(line => line.op === id && line.kind === 'outcome')).toBe(true)
      slowswitch.agent.start()
      const outcome = await applying.outcome(id)
      expect(inWords(outcome)).toBe('succeeded')
      expect(slowswitch.state()).toEqual(allAt(outcome.storePath))
    })
  },
)

describe.skipIf(!hasNix)(
  `kill -9 of the coordinator ${hasNix ? '' : 'skipped: the command nix is missing'}`,
  () => {
    const phases = [...BEFORE_THE_SWITCH, Phase.ACTIVATE]
    it.each(phases.map(phase => [phaseName(phase), phase] as const))(
      'while the node is in phase %s: the node goes on, and its outcome arrives once',
      async (_, phase) => {
        await applying.publish()
        const node = phase === Phase.ACTIVATE ? slowswitch : slow
        const [id = ''] = await applying.order([node.host])
        await reaches(node, id, phase)
        await applying.fleet.coordinator?.kill('SIGKILL')
        await applying.fleet.startCoordinator()
        const outcome = await applying.outcome(id)
        expect(inWords(outcome)).toBe('succeeded')
        await expectOnce(node, id, 1)
        expect(node.state()).toEqual(allAt(outcome.storePath))
        const output = (await applying.output(node.host, id)).filter(line => /step 1 of 4/.test(line))
        if (node === slow) expect(output).toHaveLength(1)
      },
    )

    it('right after an order was taken: the order is there, is delivered, and a repeated request is the same one', async () => {
      await applying.publish()
      const requestId = 'one-intent-over-a-restart'
      const [id = ''] = await applying.order(['slow'], 0n, requestId)
      await applying.fleet.coordinator?.kill('SIGKILL')
      await applying.fleet.startCoordinator()
      expect(await applying.order(['slow'], 0n, requestId)).toEqual([id])
      expect(inWords(await applying.outcome(id))).toBe('succeeded')
      await expectOnce(slow, id, 1)
    })

    it('while it is away for the whole operation: the outcome and the output arrive when it is back', async () => {
      await untilActive(applying.fleet, slow.agent)
      await applying.publish()
      const [id = ''] = await applying.order(['slow'])
      await reaches(slow, id, Phase.BUILD)
      await applying.fleet.coordinator?.kill('SIGKILL')
      await until('the end in the journal', async () =>
        (await slow.journal()).some(line => line.op === id && line.kind === 'outcome') ? true : undefined,
      )
      await applying.fleet.startCoordinator()
      expect(inWords(await applying.outcome(id))).toBe('succeeded')
      await expectOnce(slow, id, 1)
      expect((await applying.output('slow', id)).join('\n')).toMatch(
        /step 4 of 4[\s\S]*activating the configuration/,
      )
    })

    it('and of the agent together, in the middle of a build: both go on', async () => {
      await applying.publish()
      const [id = ''] = await applying.order(['slow'])
      await reaches(slow, id, Phase.BUILD)
      await Promise.all([applying.fleet.coordinator?.kill('SIGKILL'), slow.agent.kill('SIGKILL')])
      slow.agent.start()
      await applying.fleet.startCoordinator()
      expect(inWords(await applying.outcome(id))).toBe('succeeded')
      await expectOnce(slow, id, 1)
    })
  },
)

describe.skipIf(!hasNix)(
  `a machine that is away ${hasNix ? '' : 'skipped: the command nix is missing'}`,
  () => {
    it('finds its order when it comes back', async () => {
      await applying.publish()
      await slow.agent.kill('SIGTERM')
      const [id = ''] = await applying.order(['slow'])
      expect((await applying.operation(id))?.delivered).toBe(false)
      slow.agent.start()
      expect(inWords(await applying.outcome(id))).toBe('succeeded')
    })
  },
)
