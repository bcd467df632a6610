import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { liveMadeUpUnits } from '../../../scripts/made-up-units.ts'
import { OutcomeClass, Phase } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { phaseName } from '../../../shared/operation-names.ts'
import { hasNix } from '../../nix/nix-library.ts'
import { until, untilActive } from '../../support/shown.ts'
import { ApplyingFleet, allAt, inWords, type NixNode } from './applying-fleet.ts'

let applying: ApplyingFleet
let slow: NixNode
let slowswitch: NixNode
let exit4: NixNode

beforeAll(async () => {
  if (!hasNix) return
  applying = await ApplyingFleet.start()
  await applying.publish()
  slow = await applying.addNode('slow')
  slowswitch = await applying.addNode('slowswitch')
  exit4 = await applying.addNode('exit4')
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

const BEFORE_THE_SWITCH = [Phase.VERIFY, Phase.PREFLIGHT, Phase.FETCH, Phase.BUILD, Phase.PLAN, Phase.ARM]
const AFTER_THE_SWITCH = [Phase.PROVE, Phase.CONFIRM, Phase.PROMOTE]

/** The process that stands for the unit of the switch, once its program runs. */
async function switchUnit(node: NixNode, id: string): Promise<number | undefined> {
  const entry = JSON.parse(
    await readFile(join(node.agent.stateDir, `units/muster-switch-${id}-1.json`), 'utf8'),
  )
  const leader: unknown = entry.pid
  if (typeof leader !== 'number') return undefined
  return (await programsOf(leader)).length > 0 ? leader : undefined
}

/** Children of a unit's process that are the switch program and not its mark. */
async function programsOf(leader: number): Promise<readonly number[]> {
  const children = await readFile(`/proc/${leader}/task/${leader}/children`, 'utf8')
  const pids = children
    .split(' ')
    .filter(text => text !== '')
    .map(Number)
  const lines = await Promise.all(
    pids.map(async pid => await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')),
  )
  return pids.filter((_, at) => lines[at]?.includes('switch-to-configuration'))
}

async function killChildren(leader: number): Promise<void> {
  for (const pid of await programsOf(leader)) process.kill(pid, 'SIGKILL')
}

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

    it('T22, N1: in the middle of a switch: the switch outlives it, and is judged by its own marks', async () => {
      await applying.publish()
      const [id = ''] = await applying.order(['slowswitch'])
      await reaches(slowswitch, id, Phase.ACTIVATE)
      await slowswitch.agent.kill('SIGKILL')
      slowswitch.agent.start()
      const outcome = await applying.outcome(id)
      expect(inWords(outcome)).toBe('succeeded')
      expect(slowswitch.state()).toEqual(allAt(outcome.storePath))
      await expectOnce(slowswitch, id, 1)
    })

    it('T22: in the middle of a switch, and started again only when that is long over', async () => {
      await applying.publish()
      const [id = ''] = await applying.order(['slowswitch'])
      await reaches(slowswitch, id, Phase.ACTIVATE)
      await slowswitch.agent.kill('SIGKILL')
      await until('the end of the switch', async () =>
        (await liveMadeUpUnits(slowswitch.agent.stateDir)).length <= 1 ? true : undefined,
      )
      slowswitch.agent.start()
      const outcome = await applying.outcome(id)
      expect(inWords(outcome)).toBe('succeeded')
      await expectOnce(slowswitch, id, 1)
    })

    it.each(AFTER_THE_SWITCH.map(phase => [phaseName(phase), phase] as const))(
      'in phase %s: it goes on, and the change counts once',
      async (_, phase) => {
        await applying.publish()
        const [id = ''] = await applying.order(['slowswitch'])
        await reaches(slowswitch, id, phase)
        await slowswitch.agent.kill('SIGKILL')
        slowswitch.agent.start()
        const outcome = await applying.outcome(id)
        expect(inWords(outcome)).toBe('succeeded')
        expect(slowswitch.state()).toEqual(allAt(outcome.storePath))
        await expectOnce(slowswitch, id, 1)
      },
    )

    it('on the way back: it ends in what ran before, with the first cause', async () => {
      await applying.publish()
      const before = exit4.state()
      const [id = ''] = await applying.order(['exit4'])
      await reaches(exit4, id, Phase.RETURN)
      await exit4.agent.kill('SIGKILL')
      exit4.agent.start()
      const outcome = await applying.outcome(id)
      expect(inWords(outcome)).toBe('rolled back')
      expect(outcome.firstCause).toBe(OutcomeClass.ACTIVATION_FAILED)
      expect(exit4.state()).toEqual(before)
      await expectOnce(exit4, id, 1)
    })

    it('for good, before the change is proved: the machine goes back by itself, and tells of it when the agent is there again', async () => {
      const lines = 'disk = { serial = "DISK-slowswitch" }\nsoak = "4s"\nconfirm-within = "12s"'
      await applying.publish({ directory: applying.flake(undefined, { slowswitch: lines }) })
      const before = slowswitch.state()
      const [id = ''] = await applying.order(['slowswitch'])
      await reaches(slowswitch, id, Phase.PROVE)
      await slowswitch.agent.kill('SIGKILL')
      expect(slowswitch.state().current).not.toBe(before.current)
      await until('what ran before', () => (slowswitch.state().current === before.current ? true : undefined))
      slowswitch.agent.start()
      const outcome = await applying.outcome(id)
      expect(inWords(outcome)).toBe('rolled back')
      expect(outcome.firstCause).toBe(OutcomeClass.ACTIVATION_FAILED)
      expect(outcome.reason).toContain('was not proved in time')
      expect(slowswitch.state()).toEqual(before)
      await expectOnce(slowswitch, id, 1)
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

    it('by the service manager, in the middle of a switch: it stops at once, and the switch goes on', async () => {
      await applying.publish()
      const [id = ''] = await applying.order(['slowswitch'])
      await reaches(slowswitch, id, Phase.ACTIVATE)
      const stopped = await slowswitch.agent.kill('SIGTERM')
      expect(stopped?.code).toBe(0)
      expect((await slowswitch.journal()).some(line => line.op === id && line.kind === 'outcome')).toBe(false)
      slowswitch.agent.start()
      const outcome = await applying.outcome(id)
      expect(inWords(outcome)).toBe('succeeded')
      expect(slowswitch.state()).toEqual(allAt(outcome.storePath))
      await expectOnce(slowswitch, id, 1)
    })
  },
)

describe.skipIf(!hasNix)(
  `kill -9 of the switch ${hasNix ? '' : 'skipped: the command nix is missing'}`,
  () => {
    it.each<[string, (leader: number) => Promise<void>]>([
      ['its program alone, whose activation would go on without it', killChildren],
      [
        'its whole unit, which then leaves no word of how it ended',
        async leader => void process.kill(-leader, 'SIGKILL'),
      ],
    ])('N2: %s: unknown is never success, and the machine goes back', async (_, kill) => {
      await applying.publish()
      const before = slowswitch.state()
      const [id = ''] = await applying.order(['slowswitch'])
      await reaches(slowswitch, id, Phase.ACTIVATE)
      await kill(await until('the switch', () => switchUnit(slowswitch, id)))
      const outcome = await applying.outcome(id)
      expect(inWords(outcome)).toBe('rolled back')
      expect(outcome.firstCause).toBe(OutcomeClass.UNKNOWN)
      expect(slowswitch.state()).toEqual(before)
      await expectOnce(slowswitch, id, 1)
      // One cut says nothing of the system: it may be tried again.
      expect(inWords(await applying.apply('slowswitch'))).toBe('succeeded')
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

    it.each(AFTER_THE_SWITCH.map(phase => [phaseName(phase), phase] as const))(
      'while the node is in phase %s: the node goes on, and the change counts once',
      async (_, phase) => {
        // Long enough for a coordinator that starts on a busy machine: what is waited for is its word, not the time.
        const lines = 'disk = { serial = "DISK-slowswitch" }\nsoak = "1s"\nconfirm-within = "60s"'
        await applying.publish({ directory: applying.flake(undefined, { slowswitch: lines }) })
        const [id = ''] = await applying.order(['slowswitch'])
        await reaches(slowswitch, id, phase)
        await applying.fleet.coordinator?.kill('SIGKILL')
        await applying.fleet.startCoordinator()
        const outcome = await applying.outcome(id)
        expect(inWords(outcome)).toBe('succeeded')
        expect(slowswitch.state()).toEqual(allAt(outcome.storePath))
        await expectOnce(slowswitch, id, 1)
        const confirmed = (await slowswitch.journal()).filter(
          line => line.op === id && line.kind === 'confirmed',
        )
        expect(confirmed).toHaveLength(1)
      },
    )

    it('while the node goes back: it ends in what ran before, and its outcome arrives once', async () => {
      await applying.publish()
      const before = exit4.state()
      const [id = ''] = await applying.order(['exit4'])
      await reaches(exit4, id, Phase.RETURN)
      await applying.fleet.coordinator?.kill('SIGKILL')
      await applying.fleet.startCoordinator()
      const outcome = await applying.outcome(id)
      expect(inWords(outcome)).toBe('rolled back')
      expect(outcome.firstCause).toBe(OutcomeClass.ACTIVATION_FAILED)
      expect(exit4.state()).toEqual(before)
      await expectOnce(exit4, id, 1)
    })

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

    it('while it is away for the whole operation, where the gates alone decide: outcome and output arrive when it is back', async () => {
      await untilActive(applying.fleet, slow.agent)
      const lines = 'disk = { serial = "DISK-slow" }\nconfirm = "local"'
      await applying.publish({ directory: applying.flake(undefined, { slow: lines }) })
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
