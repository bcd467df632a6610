import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { durationFromMs } from '@bufbuild/protobuf/wkt'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { OrderSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { SafetySchema } from '../../shared/gen/muster/v1/manifest_pb.ts'
import { OutcomeClass, OutcomeSchema, Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import { outcomeName } from '../../shared/operation-names.ts'
import { verifyOutcome } from '../../shared/outcome/signed-outcome.ts'
import { sampleTarget } from '../../shared/revision/testing/sample-fleet.ts'
import { cutTooOften } from './conclude.ts'
import type { OperationsConfig } from './context.ts'
import { foldJournal, type OperationState } from './fold.ts'
import type { NewRecord } from './journal-record.ts'
import { chooseRollback } from './phases/rollback.ts'
import { inWords, NodeUnderTest } from './testing/node-under-test.ts'
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
import type { ScriptedSystem } from './testing/scripted-system.ts'

let tree: string
beforeAll(async () => {
  tree = await mkdtemp(join(tmpdir(), 'tree-'))
  await writeFile(join(tree, 'flake.nix'), '{ outputs = _: { }; }')
})
afterAll(() => rm(tree, { recursive: true }))

type Action = NonNullable<MessageInitShape<typeof OrderSchema>['action']>
const ALL = ['apply', 'rollback', 'reboot']
const start = (system: ScriptedSystem, config: Partial<OperationsConfig> = {}) =>
  NodeUnderTest.start(system, { allow: ALL, ...config })

async function local(node: NodeUnderTest, action: Action) {
  return await node.outcome(await node.operations.acceptLocal(create(OrderSchema, { action })))
}
const hasty = (confirmMs: number) =>
  sampleTarget({
    safety: create(SafetySchema, { soak: durationFromMs(0), confirmWithin: durationFromMs(confirmMs) }),
  })

describe('an order to a node', () => {
  it('to hold has it obey nothing else, over a restart, until it resumes', async () => {
    await using node = await start(sampleMachine())
    const revision = await node.publish(tree)
    expect(inWords(await local(node, { case: 'hold', value: { reason: 'disk is being copied' } }))).toBe(
      'succeeded',
    )
    await node.stop()
    await node.start()
    const refused = await node.apply(revision)
    expect(inWords(refused)).toBe('refused held')
    expect(refused.reason).toContain('disk is being copied')
    for (const action of ['rollback', 'reboot'] as const) {
      expect(inWords(await local(node, { case: action, value: {} }))).toBe('refused held')
    }
    expect(node.operations.nodeStatus().held?.reason).toBe('disk is being copied')
    expect((await local(node, { case: 'resume', value: {} })).reason).toBe('obeys again')
    expect((await local(node, { case: 'resume', value: {} })).reason).toBe('obeyed already')
    expect(inWords(await node.apply(revision))).toBe('succeeded')
  })

  it('T56: to retry lets what failed be tried again, whatever number it came under', async () => {
    const system = sampleMachine()
    system.scripts.set(switchProgram(NEW), () => ({
      exitCode: 2,
      stderr: ['activating the configuration...'],
    }))
    await using node = await start(system)
    expect(inWords(await node.apply(await node.publish(tree)))).toBe('rolled back')
    const again = await node.publish(tree, { number: 9 })
    expect(inWords(await node.apply(again))).toBe('refused quarantined')
    expect(node.operations.nodeStatus().quarantined).toMatchObject([{ storePath: NEW, revision: 5n }])
    await node.stop()
    await node.start()
    expect(inWords(await node.apply(again))).toBe('refused quarantined')
    system.scripts.set(switchProgram(NEW), goodSwitch(system, NEW))
    expect((await local(node, { case: 'retry', value: {} })).reason).toContain('1 systems')
    expect(inWords(await node.apply(again))).toBe('succeeded')
  })

  it('N5: to roll back leads to one place, however often it comes', async () => {
    const system = sampleMachine()
    await using node = await start(system)
    const id = await node.order(await node.publish(tree))
    await node.outcome(id)
    const before: Action = { case: 'rollback', value: { operationId: id, before: true } }
    // Below the floor of what it accepted: what came from no revision at all is older than all.
    expect(inWords(await local(node, before))).toBe('refused below-floor')
    expect(system.links.get(CURRENT)).toBe(NEW)
    const reached = await local(node, { case: 'rollback', value: { operationId: id, before: false } })
    expect(reached.reason).toContain('nothing was done')
    expect(inWords(await local(node, { case: 'rollback', value: { operationId: 'none' } }))).toBe(
      'refused unknown-operation',
    )
  })

  it('N5: that names what an earlier operation reached goes there by path, and then nowhere further', async () => {
    const system = sampleMachine()
    await using node = await start(system)
    const first = await node.order(await node.publish(tree))
    await node.outcome(first)
    system.scripts.set('nixos-rebuild', (_, cwd) => {
      system.links.set(join(cwd ?? '', 'result'), OLD)
      return { stdout: [OLD] }
    })
    const second = await node.order(await node.publish(tree, { number: 6 }))
    expect(inWords(await node.outcome(second))).toBe('succeeded')
    expect(system.links.get(CURRENT)).toBe(OLD)
    const order: Action = { case: 'rollback', value: { operationId: second, before: true } }
    for (const word of [`runs ${NEW}`, 'nothing was done', 'nothing was done']) {
      const outcome = await local(node, order)
      expect([inWords(outcome), outcome.reason]).toEqual(['succeeded', expect.stringContaining(word)])
      expect([system.links.get(CURRENT), bootDefault(system)]).toEqual([NEW, NEW])
    }
    expect(system.commands.join('\n')).not.toContain('--rollback')
  })

  it.each<[string, (node: NodeUnderTest) => void, RegExp]>([
    ['never comes', () => {}, /did not boot anew within 1 s/],
    [
      'is refused',
      node => {
        node.units.reboot = async () => ({ kind: 'failed', reason: 'inhibited by a person' })
      },
      /the reboot was refused: inhibited/,
    ],
  ])('T52: to reboot fail where the boot %s', async (_, arrange, reason) => {
    await using node = await NodeUnderTest.start(sampleMachine(), { allow: ALL, bootDeadlineMs: 1_000 })
    arrange(node)
    const outcome = await node.outcome(
      await node.operations.acceptLocal(create(OrderSchema, { action: { case: 'reboot', value: {} } })),
    )
    expect(inWords(outcome)).toBe('activation failed')
    expect(outcome.reason).toMatch(reason)
  })

  it('T52: to reboot ends in another boot, and not before', async () => {
    const system = sampleMachine()
    await using node = await start(system)
    const id = await node.operations.acceptLocal(
      create(OrderSchema, { action: { case: 'reboot', value: {} } }),
    )
    await expect.poll(() => node.report(id)?.phases).toMatchObject([{ phase: Phase.REBOOT }])
    expect(node.report(id)?.outcome).toBeUndefined()
    await node.stop()
    bootAnew(system)
    await node.start()
    const outcome = await node.outcome(id)
    expect([inWords(outcome), outcome.storePath]).toEqual(['succeeded', OLD])
  })

  it('of root on the machine itself can not be to apply, and needs no coordinator', async () => {
    await using node = await start(sampleMachine(), { allow: [] })
    node.connected = false
    await expect(node.operations.acceptLocal(create(OrderSchema))).rejects.toThrow(
      /comes from the coordinator alone/,
    )
    expect(inWords(await local(node, { case: 'hold', value: {} }))).toBe('succeeded')
    expect(inWords(await local(node, { case: 'reboot', value: {} }))).toBe('refused not-allowed')
  })
})

describe('a change that waits for its coordinator', () => {
  const silent = async () => ({ confirmed: false, reason: 'who?' })

  it('is taken back as unconfirmed, is not to blame, and may come again', async () => {
    const system = sampleMachine()
    await using node = await start(system)
    const good = node.confirm
    node.confirm = silent
    const revision = await node.publish(tree, { targets: [hasty(5_000)] })
    expect(inWords(await node.apply(revision))).toBe('unconfirmed')
    expect([system.links.get(CURRENT), bootDefault(system)]).toEqual([OLD, OLD])
    node.confirm = good
    expect(inWords(await node.apply(revision))).toBe('succeeded')
  })

  it('is confirmed by root on the machine, for the operation that waits and no other', async () => {
    await using node = await start(sampleMachine())
    node.confirm = silent
    const id = await node.order(await node.publish(tree, { targets: [hasty(30_000)] }))
    const waits = () => node.report(id)?.phases.at(-1)?.phase
    expect(() => node.operations.confirmByHand('')).toThrow(/no operation waits/)
    await expect.poll(waits).toBe(Phase.CONFIRM)
    expect(() => node.operations.confirmByHand('another')).toThrow(/does not wait to be confirmed/)
    await expect
      .poll(() => {
        try {
          return node.operations.confirmByHand('')
        } catch {
          return ''
        }
      })
      .toBe(id)
    expect(inWords(await node.outcome(id))).toBe('succeeded')
    expect(await node.journal()).toContain('"by":"hand"')
  })

  it('waits longer for one that restarts as it said, once and within the bound', async () => {
    await using node = await start(sampleMachine(), { restartBoundMs: 4_000 })
    node.confirm = silent
    const startedMs = performance.now()
    const id = await node.order(await node.publish(tree, { targets: [hasty(5_000)] }))
    await expect.poll(() => node.report(id)?.phases.at(-1)?.phase).toBe(Phase.CONFIRM)
    await node.operations.coordinatorRestarts(3_600_000)
    await node.operations.coordinatorRestarts(3_600_000)
    expect((await node.journal()).match(/"kind":"extended","byMs":4000/g)).toHaveLength(1)
    expect(inWords(await node.outcome(id))).toBe('unconfirmed')
    const tookMs = performance.now() - startedMs
    expect(tookMs).toBeGreaterThan(8_500)
    expect(tookMs).toBeLessThan(30_000)
  })
})

it('an outcome is signed with the machine’s key, over this very operation', async () => {
  await using node = await start(sampleMachine())
  const id = await node.order(await node.publish(tree))
  const outcome = await node.outcome(id)
  const signed = node.report(id)?.signedOutcome
  if (!signed) throw new Error('the outcome is not signed')
  const verdict = verifyOutcome(node.publicKey, signed)
  if (verdict.kind !== 'verified') throw new Error(verdict.reason)
  expect(verdict.statement).toMatchObject({ operationId: id, revision: 5n, machine: node.machineId })
  expect(verdict.statement.outcome).toMatchObject({
    class: OutcomeClass.SUCCEEDED,
    runs: NEW,
    reason: outcome.reason,
  })
  const altered = { ...signed, statement: signed.statement.map((byte, at) => (at === 40 ? byte ^ 1 : byte)) }
  expect(verifyOutcome(node.publicKey, altered).kind).toBe('refused')
})

/** Operations that ended, oldest first. */
function states(
  ends: readonly {
    kind: OutcomeClass
    storePath?: string
    previous?: string
    first?: OutcomeClass
    revision?: number
  }[],
): OperationState[] {
  const records = ends.flatMap(
    ({ kind, storePath = NEW, previous = OLD, first, revision = 1 }, index): NewRecord[] => {
      const operation = `op-${index}`
      const order = create(OrderSchema, { operationId: operation, revision: BigInt(revision) })
      const outcome = create(OutcomeSchema, {
        class: kind,
        ...(first !== undefined && { firstCause: first }),
      })
      return [
        { operation, kind: 'accepted', order },
        { operation, kind: 'target', host: 'olaf', targetDigest: '', previous },
        { operation, kind: 'system', storePath },
        { operation, kind: 'outcome', outcome },
      ]
    },
  )
  return [
    ...foldJournal(records.map((record, at) => ({ ...record, sequence: at + 1, at: new Date(0) }))).values(),
  ]
}

describe('the system to go back to', () => {
  const { SUCCEEDED, ROLLED_BACK, DEGRADED } = OutcomeClass
  const three = states([
    { kind: SUCCEEDED, storePath: 'a', previous: 'factory', revision: 3 },
    { kind: DEGRADED, storePath: 'b', previous: 'a', revision: 4 },
    { kind: ROLLED_BACK, storePath: 'c', previous: 'b', revision: 5 },
    { kind: SUCCEEDED, storePath: 'a', previous: 'b', revision: 0 },
  ])
  const choose = (operationId: string, before: boolean, floor = 1) => {
    const choice = chooseRollback({ operationId, before }, three, floor)
    return choice.kind === 'found' ? `${choice.storePath} as ${choice.provedBy ?? 'nothing'}` : choice.class
  }

  it.each([
    ['op-1', false, 1, 'b as op-1'],
    ['op-1', true, 1, 'a as op-0'],
    ['op-0', true, 1, 'factory as nothing'],
    ['op-2', false, 1, 'not-reached'],
    ['op-2', true, 1, 'b as op-1'],
    ['op-9', false, 1, 'unknown-operation'],
    ['op-1', false, 4, 'b as op-1'],
    ['op-1', true, 4, 'below-floor'],
    ['op-0', true, 2, 'below-floor'],
    // One that went back brought nothing of its own.
    ['op-3', false, 3, 'a as op-0'],
    ['op-3', true, 4, 'b as op-1'],
  ] as const)('of %s (before: %s, floor %i) is %s', (operation, before, floor, expected) => {
    expect(choose(operation, before, floor)).toBe(expected)
    expect(choose(operation, before, floor)).toBe(expected)
  })
})

describe('a target with which the machine was cut off', () => {
  const { ROLLED_BACK, UNKNOWN, ACTIVATION_FAILED, SUCCEEDED } = OutcomeClass
  const cut = { kind: ROLLED_BACK, first: UNKNOWN }
  const now = {
    class: ROLLED_BACK,
    refusal: '',
    reason: '',
    phase: Phase.RETURN,
    storePath: NEW,
    firstCause: UNKNOWN,
  }

  it.each<[string, Parameters<typeof states>[0], boolean]>([
    ['once', [], false],
    ['twice', [cut], false],
    ['three times', [cut, cut], true],
    ['three times, with another target between', [cut, { ...cut, storePath: 'x' }, cut], true],
    ['with a success between', [cut, { kind: SUCCEEDED }, cut], false],
    ['with another failure between', [cut, { kind: ROLLED_BACK, first: ACTIVATION_FAILED }, cut], false],
  ])('%s', (_, before, blamed) => {
    expect(cutTooOften(now, states(before))).toBe(blamed)
    expect(cutTooOften({ ...now, class: OutcomeClass.UNCONFIRMED }, states(before))).toBe(false)
    expect(outcomeName(now.class)).toBe('rolled back')
  })
})
