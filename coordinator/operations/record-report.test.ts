import { generateKeyPairSync } from 'node:crypto'
import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import { status } from '@grpc/grpc-js'
import fc from 'fast-check'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ConfirmOperationRequestSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import {
  OperationReportSchema,
  OutcomeClass,
  Phase,
  PhaseRecordSchema,
  type SignedOutcome,
} from '../../shared/gen/muster/v1/operation_pb.ts'
import { signOutcome } from '../../shared/outcome/signed-outcome.ts'
import { keyId } from '../../shared/x509/key-id.ts'
import { MachineDirectory } from '../machines/directory.ts'
import { addMachine, type SampleFleet, START, sampleFleet } from '../revisions/testing/sample-fleet.ts'
import { listEventRows } from '../store/events.ts'
import { findMachine } from '../store/machines.ts'
import { findOperation, insertOperations, outcomeOf, phasesOf, signedOutcomeOf } from '../store/operations.ts'
import { ChangeFeed } from './change-feed.ts'
import { confirmOperation } from './confirm-operation.ts'
import { abandonOperations, expireOrders, markDelivered, pendingOrders } from './orders.ts'
import { mergePhases, recordReport } from './record-report.ts'
import { SILENCE_MS } from './transition.ts'

const OLAF = 'a'.repeat(64)
const NAS = 'b'.repeat(64)
const HOUR_MS = 3_600_000

let fleet: SampleFleet
let deps: SampleFleet & { operationFeed: ChangeFeed }
beforeEach(async () => {
  fleet = await sampleFleet()
  deps = { ...fleet, operationFeed: new ChangeFeed() }
  await addMachine(fleet.store, OLAF)
  await addMachine(fleet.store, NAS)
})
afterEach(() => fleet[Symbol.asyncDispose]())

async function order(id: string, machine: string, revision: number): Promise<string> {
  await fleet.store.transact(tx =>
    insertOperations(tx, [
      {
        id,
        machine,
        host: 'olaf',
        revision,
        manifest_digest: 'd'.repeat(64),
        ordered: fleet.clock.at.getTime(),
        ordered_by: 'anna',
        expires: fleet.clock.at.getTime() + HOUR_MS,
        delivered: null,
        phase: 0,
        outcome: null,
        outcome_class: 0,
        ended: null,
      },
    ]),
  )
  return id
}

const started = (sequence: number, phase: Phase, ended = false) =>
  create(PhaseRecordSchema, {
    sequence: BigInt(sequence),
    phase,
    started: timestampFromDate(START),
    ...(ended && { ended: timestampFromDate(START), exitCode: 0 }),
  })

function report(
  operationId: string,
  revision: number,
  change: MessageInitShape<typeof OperationReportSchema> = {},
) {
  return create(OperationReportSchema, { operationId, revision: BigInt(revision), host: 'olaf', ...change })
}

const outcome = (kind: OutcomeClass, reason = 'as ordered') => ({ class: kind, reason, phase: Phase.DONE })
const pass = (ms: number) => {
  fleet.clock.at = deps.clock.at = new Date(fleet.clock.at.getTime() + ms)
}

describe('reports of operations', () => {
  it('keeps phases and outcome however often and in whatever pieces they are told', async () => {
    await order('one', OLAF, 3)
    const early = report('one', 3, { phases: [started(4, Phase.VERIFY)] })
    const whole = report('one', 3, {
      phases: [started(4, Phase.VERIFY, true), started(6, Phase.BUILD, true)],
      outcome: outcome(OutcomeClass.SUCCEEDED),
    })
    expect(await recordReport(deps, OLAF, early)).toEqual({
      operationId: 'one',
      sequence: 4n,
      outcome: false,
    })
    for (let time = 0; time < 3; time++) {
      expect(await recordReport(deps, OLAF, whole)).toEqual({
        operationId: 'one',
        sequence: 6n,
        outcome: true,
      })
    }
    // A report that was overtaken takes nothing back.
    expect(await recordReport(deps, OLAF, early)).toMatchObject({ sequence: 6n, outcome: false })
    const phases = (await phasesOf(fleet.store.db, ['one'])).get('one') ?? []
    expect(phases.map(({ sequence, ended }) => [sequence, ended !== undefined])).toEqual([
      [4n, true],
      [6n, true],
    ])
    expect((await findMachine(fleet.store.db, OLAF))?.applied_revision).toBe(3)
    const events = await listEventRows(fleet.store.db, { machine: OLAF, limit: 10 })
    expect(events.map(event => event.class)).toEqual(['operation'])
  })

  it('follows a node to a system that stays though its Kubernetes failed, and not back from there', async () => {
    const applied = async () => (await findMachine(fleet.store.db, OLAF))?.applied_revision
    await order('one', OLAF, 3)
    pass(1_000)
    await order('two', OLAF, 4)
    const failed = { ...outcome(OutcomeClass.ACTIVATION_FAILED), phase: Phase.KUBERNETES }
    await recordReport(deps, OLAF, report('two', 4, { outcome: failed }))
    expect(await applied()).toBe(4)
    await recordReport(deps, OLAF, report('one', 3, { outcome: outcome(OutcomeClass.SUCCEEDED) }))
    expect(await applied()).toBe(4)
  })

  it('writes an outcome once: a later one changes nothing and is shown', async () => {
    await order('one', OLAF, 3)
    await recordReport(deps, OLAF, report('one', 3, { outcome: outcome(OutcomeClass.BUILD_FAILED, 'no') }))
    await recordReport(deps, OLAF, report('one', 3, { outcome: outcome(OutcomeClass.UNKNOWN) }))
    const row = await findOperation(fleet.store.db, 'one')
    expect(row && outcomeOf(row)).toMatchObject({ class: OutcomeClass.BUILD_FAILED, reason: 'no' })
    const [newest] = await listEventRows(fleet.store.db, { machine: OLAF, limit: 1 })
    expect(newest?.class).toBe('late-report')
  })

  it('takes no word about another machine’s operation, and shows who tried', async () => {
    await order('one', OLAF, 3)
    const forged = report('one', 3, { outcome: outcome(OutcomeClass.SUCCEEDED) })
    for (let time = 0; time < 3; time++) {
      await expect(recordReport(deps, NAS, forged)).rejects.toMatchObject({ code: status.PERMISSION_DENIED })
    }
    expect((await findOperation(fleet.store.db, 'one'))?.outcome_class).toBe(0)
    const events = await listEventRows(fleet.store.db, { machine: NAS, limit: 10 })
    expect(events.map(event => event.class)).toEqual(['foreign-operation'])
  })

  it('T62: takes in operations that a restored store does not know, up to a bound', async () => {
    const done = { outcome: outcome(OutcomeClass.SUCCEEDED) }
    expect(await recordReport(deps, OLAF, report('lost', 7, done))).toMatchObject({ outcome: true })
    expect(await findOperation(fleet.store.db, 'lost')).toMatchObject({ ordered_by: 'unknown', revision: 7 })
    expect((await findMachine(fleet.store.db, OLAF))?.applied_revision).toBe(7)
    for (let number = 0; number < 120; number++) {
      expect(await recordReport(deps, OLAF, report(`flood-${number}`, 7, done))).toMatchObject({
        outcome: true,
      })
    }
    const rows = await fleet.store.db.selectFrom('operations').select('id').execute()
    expect(rows.length).toBe(100)
  })

  it('knows every phase there is', async () => {
    const all = Object.values(Phase).filter(phase => phase !== Phase.UNSPECIFIED)
    for (const [at, phase] of all.entries()) {
      await recordReport(deps, OLAF, report('one', 3, { phases: [started(at + 1, phase)] }))
    }
    const phases = (await phasesOf(fleet.store.db, ['one'])).get('one') ?? []
    expect(phases.map(({ phase }) => phase)).toEqual(all)
  })

  it('refuses what no agent sends', async () => {
    for (const bad of [
      report('no spaces', 1),
      report('', 1),
      report('x', 1, { phases: [started(0, Phase.BUILD)] }),
      report('x', 1, { phases: [started(1, 99 as Phase)] }),
      report('x', 1, { phases: Array.from({ length: 300 }, (_, at) => started(at + 1, Phase.BUILD)) }),
    ]) {
      await expect(recordReport(deps, OLAF, bad)).rejects.toMatchObject({ code: status.INVALID_ARGUMENT })
    }
  })

  it('does not let the report of an old operation take back the revision of a newer one', async () => {
    await order('old', OLAF, 3)
    pass(1000)
    await order('new', OLAF, 4)
    await recordReport(deps, OLAF, report('new', 4, { outcome: outcome(OutcomeClass.SUCCEEDED) }))
    await recordReport(deps, OLAF, report('old', 3, { outcome: outcome(OutcomeClass.SUCCEEDED) }))
    expect((await findMachine(fleet.store.db, OLAF))?.applied_revision).toBe(4)
  })

  it('merging phases never loses one, and an end that is known stays', () => {
    const records = fc.array(
      fc
        .record({ sequence: fc.integer({ min: 1, max: 9 }), ended: fc.boolean() })
        .map(({ sequence, ended }) => started(sequence, Phase.BUILD, ended)),
      { maxLength: 12 },
    )
    fc.assert(
      fc.property(records, records, (first, second) => {
        const stored = mergePhases([], first).changed
        const one = new Map(stored.map(record => [record.sequence, record]))
        const { changed, newest } = mergePhases([...one.values()], second)
        const after = new Map([...one, ...changed.map(record => [record.sequence, record] as const)])
        for (const record of [...first, ...second]) {
          expect(after.has(record.sequence)).toBe(true)
          if (record.ended) expect(after.get(record.sequence)?.ended).toBeDefined()
          expect(newest).toBeGreaterThanOrEqual(Number(record.sequence))
        }
      }),
    )
  })
})

describe('signed outcomes', () => {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const der = publicKey.export({ format: 'der', type: 'spki' })
  const SIGNER = keyId(der)
  beforeEach(async () => {
    await addMachine(fleet.store, SIGNER, { public_key: der })
    await order('one', SIGNER, 3)
  })
  const statement = {
    machine: SIGNER,
    fleetId: 'f'.repeat(32),
    operationId: 'one',
    revision: 3n,
    manifestDigest: 'd'.repeat(64),
    outcome: outcome(OutcomeClass.SUCCEEDED),
  }
  const tell = (signedOutcome: SignedOutcome) =>
    recordReport(
      deps,
      SIGNER,
      report('one', 3, {
        manifestDigest: 'd'.repeat(64),
        outcome: outcome(OutcomeClass.SUCCEEDED),
        signedOutcome,
      }),
    )

  it('are kept as they came when the machine’s own key signed that very outcome', async () => {
    const signed = signOutcome(privateKey, statement)
    expect(await tell(signed)).toMatchObject({ outcome: true })
    const row = await findOperation(fleet.store.db, 'one')
    const kept = row && signedOutcomeOf(row)
    expect([...(kept?.statement ?? [])]).toEqual([...signed.statement])
    expect([...(kept?.signature ?? [])]).toEqual([...signed.signature])
    expect(row?.badly_signed).toBe(0)
  })

  it.each([
    ['another operation', { operationId: 'two' }, /operation two/],
    ['another revision', { revision: 4n }, /revision 4/],
    ['another outcome', { outcome: outcome(OutcomeClass.UNKNOWN) }, /another outcome/],
    ['another machine', { machine: OLAF }, /speaks of machine/],
  ])(
    'over %s count for nothing: the outcome is unsigned, and people are shown',
    async (_, change, reason) => {
      expect(await tell(signOutcome(privateKey, { ...statement, ...change }))).toMatchObject({
        outcome: true,
      })
      const row = await findOperation(fleet.store.db, 'one')
      expect(row).toMatchObject({
        outcome_class: OutcomeClass.SUCCEEDED,
        signed_outcome: null,
        badly_signed: 1,
      })
      const events = await listEventRows(fleet.store.db, { machine: SIGNER, limit: 10 })
      expect(events.find(event => event.class === 'unsigned-outcome')?.reason).toMatch(reason)
    },
  )

  it('by another key count for nothing', async () => {
    const other = generateKeyPairSync('rsa', { modulusLength: 2048 })
    await tell(signOutcome(other.privateKey, statement))
    expect(await findOperation(fleet.store.db, 'one')).toMatchObject({
      signed_outcome: null,
      badly_signed: 1,
    })
  })
})

describe('confirming', () => {
  const session = { instance: 'second', bootId: 'boot-1', disputed: false, startedMs: 0 }
  const ask = async (
    machine: string,
    change: MessageInitShape<typeof ConfirmOperationRequestSchema> = {},
    live: typeof session | 'none' = session,
  ) => {
    const directory = await MachineDirectory.load(fleet.store.db, fleet.fleetTargets.current())
    const all = {
      ...deps,
      directory,
      sessions: { live: () => (live === 'none' ? undefined : live) },
      log: pino({ level: 'silent' }),
    }
    const request = { operationId: 'one', instance: 'second', bootId: 'boot-1', storePath: '/nix/store/new' }
    return await confirmOperation(
      all,
      machine,
      create(ConfirmOperationRequestSchema, { ...request, ...change }),
    )
  }
  const arming = () => report('one', 3, { phases: [started(1, Phase.ARM)], plan: { to: '/nix/store/new' } })

  it('N35, N37: is written down once, for a new process alone, and said again as often as it is asked', async () => {
    await order('one', OLAF, 3)
    await recordReport(deps, OLAF, arming(), 'first')
    expect(await ask(OLAF, { instance: 'first' }, { ...session, instance: 'first' })).toMatchObject({
      confirmed: false,
      reason: expect.stringContaining('a new process must'),
    })
    expect(await ask(OLAF, {}, 'none')).toMatchObject({ confirmed: false })
    expect(await ask(OLAF)).toEqual({ confirmed: true })
    const confirmed = (await findOperation(fleet.store.db, 'one'))?.confirmed
    expect(confirmed).toBe(deps.clock.at.getTime())
    pass(5_000)
    expect(await ask(OLAF)).toEqual({ confirmed: true })
    expect((await findOperation(fleet.store.db, 'one'))?.confirmed).toBe(confirmed)
    const events = await listEventRows(fleet.store.db, { machine: OLAF, limit: 10 })
    expect(events.map(event => event.class)).toEqual(['confirmed'])
  })

  it('N12: is refused for good once the operation was abandoned, expired or reported as over', async () => {
    await order('one', OLAF, 3)
    await fleet.store.transact(tx => abandonOperations(tx, OLAF, 'evicted', deps.clock.at))
    expect(await ask(OLAF)).toMatchObject({ confirmed: false, reason: expect.stringContaining('has ended') })
    await order('late', OLAF, 3)
    pass(HOUR_MS)
    expect(await ask(OLAF, { operationId: 'late' })).toMatchObject({ confirmed: false })
    await order('over', OLAF, 3)
    await recordReport(deps, OLAF, report('over', 3, { outcome: outcome(OutcomeClass.UNCONFIRMED) }))
    expect(await ask(OLAF, { operationId: 'over' })).toMatchObject({ confirmed: false })
    for (const id of ['one', 'late', 'over']) {
      expect((await findOperation(fleet.store.db, id))?.confirmed).toBeNull()
    }
  })

  it('tells nothing of another machine’s operation, and shows who asked', async () => {
    await order('one', OLAF, 3)
    for (let time = 0; time < 3; time++) expect(await ask(NAS)).toMatchObject({ confirmed: false })
    const events = await listEventRows(fleet.store.db, { machine: NAS, limit: 10 })
    expect(events.map(event => event.class)).toEqual(['foreign-operation'])
    expect(await ask(OLAF, { operationId: 'nothing' })).toMatchObject({ confirmed: false })
    await expect(ask(OLAF, { instance: '' })).rejects.toMatchObject({ code: status.INVALID_ARGUMENT })
  })
})

describe('orders', () => {
  it('T54: are sent until the machine speaks of them, and expire when it never does', async () => {
    await order('spoken', OLAF, 3)
    await order('silent', NAS, 3)
    await order('absent', NAS, 3)
    const ids = async (machine: string) =>
      (await pendingOrders(fleet.store.db, machine, deps.clock.at)).map(({ operationId }) => operationId)
    await markDelivered(deps, OLAF, ['spoken'])
    await markDelivered(deps, OLAF, ['silent']) // not its own
    await markDelivered(deps, NAS, ['silent'])
    expect(await ids(OLAF)).toEqual(['spoken'])
    expect((await ids(NAS)).toSorted()).toEqual(['absent', 'silent'])
    await recordReport(deps, OLAF, report('spoken', 3, { phases: [started(1, Phase.VERIFY)] }))
    expect(await ids(OLAF)).toEqual([])
    pass(HOUR_MS)
    expect(await ids(NAS)).toEqual([])
    expect(await expireOrders(deps)).toBe(1)
    const absent = await findOperation(fleet.store.db, 'absent')
    expect(absent && outcomeOf(absent)).toMatchObject({ class: OutcomeClass.REFUSED, refusal: 'expired' })
    pass(SILENCE_MS)
    expect(await expireOrders(deps)).toBe(1)
    const silent = await findOperation(fleet.store.db, 'silent')
    expect(silent && outcomeOf(silent)).toMatchObject({ class: OutcomeClass.UNKNOWN })
    pass(1000 * HOUR_MS)
    expect(await expireOrders(deps)).toBe(0)
    expect((await findOperation(fleet.store.db, 'spoken'))?.outcome_class).toBe(0)
  })

  it('of a machine that was sent away end as unknown, and a machine that comes back is free for others', async () => {
    await order('running', OLAF, 3)
    await recordReport(deps, OLAF, report('running', 3, { phases: [started(1, Phase.BUILD)] }))
    await order('other', NAS, 3)
    const ended = await fleet.store.transact(tx => abandonOperations(tx, OLAF, 'evicted', deps.clock.at))
    expect(ended).toEqual(['running'])
    const row = await findOperation(fleet.store.db, 'running')
    expect(row && outcomeOf(row)).toMatchObject({ class: OutcomeClass.UNKNOWN, reason: 'evicted' })
    expect((await findOperation(fleet.store.db, 'other'))?.outcome_class).toBe(0)
  })

  it('N12: a report after the expiry does not bring an operation back', async () => {
    await order('late', OLAF, 3)
    pass(HOUR_MS)
    await recordReport(deps, OLAF, report('late', 3, { outcome: outcome(OutcomeClass.SUCCEEDED) }))
    const row = await findOperation(fleet.store.db, 'late')
    expect(row && outcomeOf(row)).toMatchObject({ class: OutcomeClass.REFUSED, refusal: 'expired' })
  })
})
