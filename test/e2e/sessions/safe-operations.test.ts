// What nodes and operators need of the coordinator for safe operations, over real mutual TLS: a machine whose agent is
// played by the test, so that it may do what no agent of ours does.
import { create } from '@bufbuild/protobuf'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { AgentService } from '../../../shared/gen/muster/v1/agent_pb.ts'
import { OperationReportSchema, OutcomeClass, Phase } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { randomId } from '../../../shared/ids.ts'
import { signOutcome } from '../../../shared/outcome/signed-outcome.ts'
import { type Fleet, startFleet } from '../../support/fleet.ts'
import { addOperator, type Operator } from '../../support/operator.ts'
import { RawMachine, type RawSession } from '../../support/raw-machine.ts'
import { makeToken, shownMachine, until, untilEvent } from '../../support/shown.ts'

let fleet: Fleet
let operator: Operator
let olaf: RawMachine

beforeAll(async () => {
  // The sessions of this file say nothing by themselves: they must not end for their silence while commands are run.
  fleet = await startFleet({ restartExpectedSeconds: 45, heartbeatSeconds: 60 })
  operator = await addOperator(fleet)
  await operator.publish({ toml: '[hosts.olaf]\n' })
  olaf = await RawMachine.make(fleet)
  await olaf.enrol({ token: await makeToken(fleet, { host: 'olaf' }) })
  const first = await open()
  await first.untilReceived('welcome')
  await first[Symbol.asyncDispose]()
})
afterAll(async () => {
  await fleet?.[Symbol.asyncDispose]()
  await operator?.[Symbol.asyncDispose]()
})

async function orderApply(): Promise<string> {
  const action = { case: 'apply' as const, value: {} }
  const { operations } = await fleet.api.giveOrders({ refs: ['olaf'], requestId: randomId(), action })
  return operations[0]?.operationId ?? ''
}

const operationOf = async (id: string) =>
  (await fleet.api.listOperations({ operationIds: [id] })).operations[0]

/** A session of an agent that has accepted the revision. */
const open = (hello: { instance?: string } = {}) =>
  olaf.session({ highestRevision: 1n, highestDigest: operator.revisions[0]?.digest ?? '', ...hello })

/** Tells how far an operation is; the first phase that is named runs, those before are over. */
function report(session: RawSession, operationId: string, phase: Phase, outcome?: OutcomeClass): void {
  const { digest = '' } = operator.revisions[0] ?? {}
  const ended = outcome && { class: outcome, phase, reason: 'as the test wants it' }
  const statement = { machine: olaf.id, fleetId: operator.fleetId, operationId, revision: 1n }
  const signedOutcome =
    ended && signOutcome(olaf.key.privateKeyPem, { ...statement, manifestDigest: digest, outcome: ended })
  const value = create(OperationReportSchema, {
    operationId,
    revision: 1n,
    manifestDigest: digest,
    host: 'olaf',
    phases: [{ sequence: BigInt(phase), phase }],
    ...(ended && { outcome: ended }),
    ...(signedOutcome && { signedOutcome }),
  })
  session.send({ message: { case: 'operation', value } })
}

describe('an operation', () => {
  it('N35, N37: is confirmed to the new process of its own machine alone, and its signed outcome is evidence', async () => {
    const id = await orderApply()
    using client = await olaf.fleetClient(AgentService)
    const ask = async (instance: string, bootId = 'boot-1') =>
      await client.confirmOperation({ operationId: id, instance, bootId, storePath: '/nix/store/x' })
    {
      await using before = await open({ instance: 'before' })
      await before.untilReceived('order')
      report(before, id, Phase.ARM)
      await until('phase', async () => ((await operationOf(id))?.phase === Phase.ARM ? true : undefined))
      expect(await ask('before')).toMatchObject({
        confirmed: false,
        reason: expect.stringMatching(/new process/),
      })
    }
    await until('offline', async () => ((await shownMachine(fleet, olaf.id))?.online ? undefined : true))
    expect(await ask('after')).toMatchObject({
      confirmed: false,
      reason: expect.stringMatching(/no session/),
    })
    await using after = await open({ instance: 'after' })
    await after.untilReceived('welcome')
    expect(await ask('after', 'boot-2')).toMatchObject({
      confirmed: false,
      reason: expect.stringMatching(/another boot/),
    })
    expect(await ask('after')).toMatchObject({ confirmed: true })
    expect(await ask('after')).toMatchObject({ confirmed: true })
    expect((await operationOf(id))?.confirmed).toBeDefined()
    await untilEvent(fleet, olaf.id, 'confirmed', new RegExp(id))
    report(after, id, Phase.DONE, OutcomeClass.SUCCEEDED)
    await until('outcome', async () => (await operationOf(id))?.outcome)
    expect(await operationOf(id)).toMatchObject({ badlySigned: false, signedOutcome: expect.anything() })
    expect(await ask('after')).toMatchObject({ confirmed: false, reason: expect.stringMatching(/has ended/) })
    expect(await fleet.ok('verify', 'olaf', '--trust-pin', operator.trustPin)).toMatch(/succeeded +good/)
  })

  it('that ended unconfirmed waits to be ordered again, not before its time, and gives way to an operator', async () => {
    const id = await orderApply()
    await using session = await open()
    await session.untilReceived('order')
    report(session, id, Phase.RETURN, OutcomeClass.UNCONFIRMED)
    const waiting = await until('retry', async () => {
      const { rollouts } = await fleet.rollouts.listRollouts({ open: true })
      const { rollout } = await fleet.rollouts.getRollout({ id: rollouts[0]?.id ?? '' })
      const gate = rollout?.hosts[0]?.waits.find(wait => wait.gate === 'retry')
      return gate && { id: rollout?.id ?? '', opens: gate.opens }
    })
    expect(Date.parse(waiting.opens.replace('it is ', ''))).toBeGreaterThan(Date.now() + 30_000)
    const { operations } = await fleet.api.listOperations({ ref: 'olaf' })
    expect(operations.filter(({ outcome }) => !outcome)).toEqual([])
    // What an operator orders now takes its place.
    await orderApply()
    const { rollout } = await fleet.rollouts.getRollout({ id: waiting.id })
    expect(rollout?.reason).toMatch(/ordered something else/)
  })
})

describe('a node', () => {
  it('that says it is on hold is given nothing but what it obeys, and is shown so', async () => {
    await using session = await open()
    await session.untilReceived('welcome')
    session.send({ message: { case: 'status', value: { held: { reason: 'the disk is replaced' } } } })
    await until('held', async () => (await shownMachine(fleet, olaf.id))?.held)
    const refused = await fleet.muster('reboot', 'olaf')
    expect(refused).toMatchObject({
      code: 4,
      stderr: expect.stringContaining('on hold (the disk is replaced)'),
    })
    expect(await fleet.ok('status')).toContain('held: the disk is replaced')
    const resumed = await fleet.json('resume', 'olaf', '--no-wait')
    expect(resumed).toMatchObject([{ action: 'resume', host: 'olaf' }])
    await until('order', () =>
      session.received.find(
        ({ message }) => message.case === 'order' && message.value.action.case === 'resume',
      ),
    )
    session.send({ message: { case: 'status', value: {} } })
    await untilEvent(fleet, olaf.id, 'resumed', /obeys again/)
  })

  it('hears of a planned restart before its session ends', async () => {
    await using session = await open()
    await session.untilReceived('welcome')
    expect(await fleet.coordinator?.kill('SIGTERM')).toMatchObject({ code: 0 })
    await session.untilEnded()
    const notice = session.received.find(({ message }) => message.case === 'restart')
    expect(notice?.message).toMatchObject({ value: { expected: { seconds: 45n } } })
    await fleet.startCoordinator()
  })
})
