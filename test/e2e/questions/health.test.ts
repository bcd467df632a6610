import { join } from 'node:path'
import { create } from '@bufbuild/protobuf'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openSqlite } from '../../../coordinator/store/sqlite.ts'
import { OperationReportSchema, OutcomeClass, Phase } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { randomId } from '../../../shared/ids.ts'
import { type Fleet, startFleet } from '../../support/fleet.ts'
import { addOperator, type Operator } from '../../support/operator.ts'
import { RawMachine } from '../../support/raw-machine.ts'
import { makeToken, until, untilActive } from '../../support/shown.ts'
import { waitUntil } from '../../support/wait-until.ts'

const HOUR_MS = 3_600_000

let fleet: Fleet
let owner: Operator

beforeAll(async () => {
  fleet = await startFleet()
  owner = await addOperator(fleet)
})
afterAll(async () => {
  await fleet?.[Symbol.asyncDispose]()
  await owner?.[Symbol.asyncDispose]()
})

describe('the invariants of a real fleet', () => {
  it('hold for a fleet in which nothing is wrong', async () => {
    await untilActive(fleet, await fleet.addAgent('steady', { token: await makeToken(fleet) }))
    const { code, stdout, stderr } = await fleet.muster('health')
    expect({ code, stdout }).toEqual({ code: 0, stdout: '' })
    expect(stderr).toContain('every invariant of the fleet holds')
  })

  it('name a machine whose agent comes and goes, in health and in status', async () => {
    const agent = await fleet.addAgent('flapper', { token: await makeToken(fleet) })
    const { id } = await untilActive(fleet, agent)
    for (let count = 0; count < 6; count++) {
      await agent.kill()
      agent.start()
      await waitUntil('its session', async () => {
        const { machines } = await fleet.api.listMachines({})
        return machines.find(machine => machine.id === id)?.online ? true : undefined
      })
    }
    const found = await waitUntil('flapping', async () => {
      const { code, stdout } = await fleet.muster('health', '-o', 'json')
      const [problem] = JSON.parse(stdout)
      return problem ? { code, problem } : undefined
    })
    expect(found.code).toBe(1)
    expect(found.problem).toMatchObject({ class: 'flapping', machine: id })
    expect(found.problem.reason).toMatch(/began [6-8] times within an hour/)
    expect(await fleet.ok('status')).toContain('flapping: its session began')
    const { health } = await fleet.json('status')
    expect(health).toHaveLength(1)
  })

  it('tell a monitor what is wrong with the coordinator, which status does not say twice', async () => {
    const expires = new Date(Date.now() + 3 * 24 * HOUR_MS)
    await owner.publish({ toml: '[hosts.olaf]\n', manifest: { expires } })
    const { code, stdout } = await fleet.muster('health', '-o', 'json')
    const own = JSON.parse(stdout).filter((problem: { class: string }) => problem.class === 'coordinator')
    expect([code, own]).toEqual([
      1,
      [
        expect.objectContaining({
          reason: expect.stringMatching(/^revision 1 expires at .*publish --renew/),
        }),
      ],
    ])
    const said = (await fleet.ok('status')).match(/revision 1 expires/g)
    expect(said).toHaveLength(1)
  })
})

describe('the invariants of a fleet in which hours pass', () => {
  let slow: Fleet
  let operator: Operator
  let olaf: RawMachine
  beforeAll(async () => {
    slow = await startFleet({ heartbeatSeconds: 60 })
    operator = await addOperator(slow)
    // What was ordered is over as soon as it is done, and the planner looks at it no more.
    await operator.publish({ toml: '[rollout]\nsoak = "0s"\n[hosts.olaf]\n' })
    olaf = await RawMachine.make(slow)
    await olaf.enrol({ token: await makeToken(slow, { host: 'olaf' }) })
    await (await open())[Symbol.asyncDispose]()
  })
  afterAll(async () => {
    await slow?.[Symbol.asyncDispose]()
    await operator?.[Symbol.asyncDispose]()
  })

  const open = async () => {
    const { number, digest } = operator.revisions[0] ?? { number: 0, digest: '' }
    const session = await olaf.session({ highestRevision: BigInt(number), highestDigest: digest })
    await session.untilReceived('welcome')
    return session
  }

  /** The store says that things were longer ago than they were, as if that time had passed. */
  async function hoursPass(sql: string, ...values: readonly (string | number)[]): Promise<void> {
    await slow.coordinator?.kill('SIGTERM')
    const store = openSqlite(join(slow.coordinatorState, 'store.sqlite'))
    const { changes } = store.prepare(sql).run(...values)
    store.close()
    expect(changes).toBeGreaterThan(0)
    await slow.startCoordinator()
  }

  /** What is told, by class. */
  const problems = async () => (await slow.api.getHealth({})).problems
  const ofClass = async (kind: string) => (await problems()).filter(one => one.class === kind)

  /** Has an order given to olaf, and reports on it: that it began, or how it ended. */
  async function change(outcome?: OutcomeClass): Promise<string> {
    await using session = await open()
    const { operations } = await slow.api.giveOrders({
      refs: ['olaf'],
      requestId: randomId(),
      action: { case: 'apply', value: {} },
    })
    const id = operations[0]?.operationId ?? ''
    await session.untilReceived('order')
    const phase = outcome ? Phase.DONE : Phase.BUILD
    const value = create(OperationReportSchema, {
      operationId: id,
      revision: 1n,
      manifestDigest: operator.revisions[0]?.digest ?? '',
      host: 'olaf',
      phases: [{ sequence: 1n, phase }],
      ...(outcome && { outcome: { class: outcome, phase, reason: 'as the test wants it' } }),
    })
    session.send({ message: { case: 'operation', value } })
    await session.untilReceived('operationAck')
    return id
  }

  it('name a machine that was let in and never came', async () => {
    const never = await RawMachine.make(slow)
    await never.enrol({ token: await makeToken(slow) })
    expect(await ofClass('never-active')).toEqual([])
    await hoursPass('update machines set admitted_at = admitted_at - ? where id = ?', HOUR_MS, never.id)
    expect(await ofClass('never-active')).toMatchObject([{ machine: never.id }])
    await slow.api.evictMachine({ ref: never.id, reason: 'it never came' })
    expect(await problems()).toEqual([])
  })

  it('name a certificate near its end that was not renewed', async () => {
    const before = 'update machines set certificate_not_after = certificate_not_after - ? where id = ?'
    const { machines } = await slow.api.listMachines({ where: '' })
    const left =
      Number(machines.find(({ id }) => id === olaf.id)?.certificateExpires?.seconds ?? 0n) * 1_000 -
      Date.now()
    expect(left).toBeGreaterThan(HOUR_MS)
    await hoursPass(before, left - HOUR_MS, olaf.id)
    const [problem] = await ofClass('certificate')
    expect(problem).toMatchObject({
      machine: olaf.id,
      reason: expect.stringMatching(/ends at .* was not renewed/),
    })
    await hoursPass(before, HOUR_MS - left, olaf.id)
    expect(await problems()).toEqual([])
  })

  it('name a cordon of ours that nothing needs any more', async () => {
    const sql = 'insert into cluster_cordons (cluster, host, act, asked_by, at) values (?, ?, ?, ?, ?)'
    await hoursPass(sql, 'home', 'olaf', 'an-act-that-is-over', 'ada', Date.now() - 2 * HOUR_MS)
    expect(await ofClass('stale-cordon')).toMatchObject([
      { host: 'olaf', reason: expect.stringContaining('cluster home is cordoned by us') },
    ])
    await hoursPass('delete from cluster_cordons')
  })

  it('name an operation that was begun and of which nothing was heard since', async () => {
    const id = await change()
    expect(await ofClass('no-outcome')).toEqual([])
    const sql = 'update operations set ordered = ordered - ?, delivered = delivered - ? where id = ?'
    await hoursPass(sql, 3 * HOUR_MS, 3 * HOUR_MS, id)
    expect(await ofClass('no-outcome')).toMatchObject([
      { host: 'olaf', machine: olaf.id, reason: expect.stringContaining(id) },
    ])
    // Its end is told at last.
    await using session = await open()
    session.send({
      message: {
        case: 'operation',
        value: create(OperationReportSchema, {
          operationId: id,
          revision: 1n,
          phases: [{ sequence: 2n, phase: Phase.DONE }],
          outcome: { class: OutcomeClass.SUCCEEDED, phase: Phase.DONE, reason: 'late' },
        }),
      },
    })
    await until('its outcome', async () => ((await ofClass('no-outcome')).length === 0 ? true : undefined))
    expect(await problems()).toEqual([])
  })

  it('name a grant of a rollout that was never closed', async () => {
    const { rollouts } = await slow.rollouts.listRollouts({})
    const rollout = rollouts[0]?.id ?? ''
    const sql =
      'insert into rollout_grants (rollout, host, step, attempt, machine, granted, operation, closed, outcome, reason) values (?, ?, ?, ?, ?, ?, ?, null, ?, ?)'
    const agoMs = Date.now() - 3 * HOUR_MS
    await hoursPass(sql, rollout, 'olaf', 'drain', 9, olaf.id, agoMs, 'an-act-that-nobody-knows', '', '')
    expect(await ofClass('no-outcome')).toMatchObject([
      { host: 'olaf', reason: expect.stringContaining(`the step "drain" of rollout ${rollout}`) },
    ])
    await hoursPass("delete from rollout_grants where operation = 'an-act-that-nobody-knows'")
  })

  it('say when nothing succeeds any more, and hold again with the first success', async () => {
    await hoursPass('update operations set ended = ended - ? where ended is not null', 7 * HOUR_MS)
    for (let count = 0; count < 2; count++) await change(OutcomeClass.ROLLED_BACK)
    expect(await ofClass('nothing-succeeds')).toEqual([])
    await change(OutcomeClass.ACTIVATION_FAILED)
    expect(await ofClass('nothing-succeeds')).toMatchObject([
      { machine: '', reason: expect.stringMatching(/^3 changes ended .* none succeeded$/) },
    ])
    expect(await slow.ok('status')).toContain('none succeeded')
    await change(OutcomeClass.SUCCEEDED)
    expect(await problems()).toEqual([])
  })
})
