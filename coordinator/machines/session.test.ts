import { create } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import { status } from '@grpc/grpc-js'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  ApproveMachineRequestSchema,
  BanMachineRequestSchema,
  ReleaseMachineRequestSchema,
} from '../../shared/gen/muster/v1/admission_pb.ts'
import { AgentEventSchema, TrustReportSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { FactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import { type GeneratedKey, generateMachineKey } from '../../shared/x509/machine-key.ts'
import { approveMachine } from '../api/approve-machine.ts'
import { banMachine } from '../api/ban-machine.ts'
import { releaseMachine } from '../api/release-machine.ts'
import { findMachine } from '../store/machines.ts'
import { admitSession } from './admit-session.ts'
import { describeMachine } from './describe-machines.ts'
import { MachineDirectory } from './directory.ts'
import { forgetPending } from './forget-pending.ts'
import { wentBack } from './judge-hello.ts'
import { recordFacts } from './record-facts.ts'
import { AgentEvents, recordClone, recordLastSeen, recordTrustReport } from './record-session.ts'
import { renewCertificate } from './renew-certificate.ts'
import {
  factsBytes,
  helloOf,
  idOf,
  openTestAuthorities,
  openTestFleet,
  targetOf,
} from './testing/test-fleet.ts'

let made: Awaited<ReturnType<typeof openTestAuthorities>>
let key: GeneratedKey
let otherKey: GeneratedKey
let id: string
const local = { kind: 'local' } as const

beforeAll(async () => {
  made = await openTestAuthorities()
  ;[key, otherKey] = await Promise.all([generateMachineKey(2048), generateMachineKey(2048)])
  id = idOf(key)
})
afterAll(() => made[Symbol.asyncDispose]())

const facts = (serial: string, uuid: string) => ({
  system: { serial, uuid },
  disks: [{ name: 'sda', serial: 'D1' }],
})

/** A fleet with one machine that was let in and has its certificate. */
async function openWithMachine() {
  const fleet = await openTestFleet(made.authorities)
  await fleet.ask({ key, facts: facts('S1', 'U1') })
  await approveMachine(fleet.deps)(create(ApproveMachineRequestSchema, { ref: id }), local)
  await fleet.ask({ key, facts: facts('S1', 'U1') })
  return fleet
}

const hello = helloOf({
  bootCount: 3n,
  journalSequence: 7n,
  highestRevision: 4n,
  highestDigest: 'a'.repeat(64),
})

describe('admitSession', () => {
  it('makes an enrolled machine active when it is first seen, and takes down what it says', async () => {
    await using fleet = await openWithMachine()
    const factsDigest = fleet.deps.directory.get(id)?.factsDigest ?? ''
    const first = await admitSession(fleet.deps, id, { ...hello, factsDigest }, '192.0.2.9')
    expect(first).toEqual({ kind: 'ok', needFacts: false, protocol: 1, held: undefined })
    expect(await findMachine(fleet.deps.store.db, id)).toMatchObject({
      state: 'active',
      address: '192.0.2.9',
      boot_count: 3,
      journal_sequence: 7,
      highest_revision: 4,
    })
    expect(await admitSession(fleet.deps, id, hello, '192.0.2.9')).toMatchObject({ needFacts: true })
  })

  it('T58: writes nothing when a machine connects again as it was', async () => {
    await using fleet = await openWithMachine()
    await admitSession(fleet.deps, id, hello, '192.0.2.9')
    const before = await findMachine(fleet.deps.store.db, id)
    const events = await fleet.deps.store.db.selectFrom('events').selectAll().execute()
    fleet.pass(60_000)
    await admitSession(fleet.deps, id, hello, '192.0.2.9')
    expect(await findMachine(fleet.deps.store.db, id)).toEqual(before)
    expect(await fleet.deps.store.db.selectFrom('events').selectAll().execute()).toEqual(events)
  })

  it('refuses strangers, those sent away, unknown protocols and what is out of bounds', async () => {
    await using fleet = await openWithMachine()
    const refusal = async (machine: string, said: typeof hello) => {
      const admitted = await admitSession(fleet.deps, machine, said, '192.0.2.9')
      return admitted.kind === 'refused' ? admitted.reason : undefined
    }
    expect(await refusal('0'.repeat(64), hello)).toContain('not enrolled')
    expect(await refusal(id, helloOf({ protocolMin: 2, protocolMax: 3 }))).toContain('protocol')
    expect(await refusal(id, helloOf({ version: 'x'.repeat(65) }))).toContain('hello.version')
    expect(await refusal(id, helloOf({ bootCount: 2n ** 63n }))).toContain('hello')
    await banMachine(fleet.deps)(create(BanMachineRequestSchema, { ref: id }), local)
    expect(await refusal(id, hello)).toContain('banned')
  })

  it('T13: holds and shows a machine whose count of boots, journal or revision went back, until it is released', async () => {
    await using fleet = await openWithMachine()
    await admitSession(fleet.deps, id, hello, '192.0.2.9')
    const restored = await admitSession(
      fleet.deps,
      id,
      { ...hello, bootCount: 2n, bootId: 'b2' },
      '192.0.2.9',
    )
    expect(restored).toMatchObject({ kind: 'ok', held: expect.stringContaining('from 3 to 2') })
    expect(fleet.deps.directory.mayAct(id)).toBe(false)
    // It stays held when it goes on from there as if nothing had been.
    expect(
      await admitSession(fleet.deps, id, { ...hello, bootCount: 3n, bootId: 'b3' }, '192.0.2.9'),
    ).toMatchObject({
      held: expect.any(String),
    })
    expect((await describeMachine(fleet.deps, id)).conditions).toMatchObject([{ class: 'went-back' }])
    await releaseMachine(fleet.deps)(
      create(ReleaseMachineRequestSchema, { ref: id, reason: 'restored' }),
      local,
    )
    expect(fleet.deps.directory.mayAct(id)).toBe(true)
  })

  it('shows a clock that is wrong for as long as it is', async () => {
    await using fleet = await openWithMachine()
    const at = (ms: number) => timestampFromMs(fleet.deps.clock.now().getTime() + ms)
    await admitSession(fleet.deps, id, { ...hello, now: at(-90_000) }, '192.0.2.9')
    expect((await describeMachine(fleet.deps, id)).conditions).toMatchObject([
      { class: 'clock', reason: expect.stringContaining('90 s behind') },
    ])
    await admitSession(fleet.deps, id, { ...hello, now: at(1_000) }, '192.0.2.9')
    expect((await describeMachine(fleet.deps, id)).conditions).toEqual([])
  })
})

describe('wentBack', () => {
  it('T13: is silent on every way forward, and never on a way back', () => {
    const state = fc.record({
      boot_count: fc.integer({ min: 0, max: 5 }),
      boot_id: fc.constantFrom('a', 'b'),
      journal_sequence: fc.integer({ min: 0, max: 5 }),
      highest_revision: fc.integer({ min: 0, max: 5 }),
      highest_digest: fc.constantFrom('x', 'y'),
    })
    fc.assert(
      fc.property(state, state, (last, next) => {
        const said = helloOf({
          bootCount: BigInt(next.boot_count),
          bootId: next.boot_id,
          journalSequence: BigInt(next.journal_sequence),
          highestRevision: BigInt(next.highest_revision),
          highestDigest: next.highest_digest,
        })
        const isForward =
          (next.boot_id === last.boot_id
            ? next.boot_count >= last.boot_count
            : next.boot_count > last.boot_count) &&
          next.journal_sequence >= last.journal_sequence &&
          (next.highest_revision > last.highest_revision ||
            (next.highest_revision === last.highest_revision &&
              (next.highest_revision === 0 || next.highest_digest === last.highest_digest)))
        expect(wentBack(last, said) === undefined).toBe(isForward)
      }),
      { numRuns: 2_000 },
    )
  })
})

describe('recordFacts', () => {
  it('T58: keeps facts only when they changed, and of their history no more than it may', async () => {
    await using fleet = await openWithMachine()
    const { deps } = fleet
    const count = async () =>
      (await deps.store.db.selectFrom('facts').select('digest').where('machine', '=', id).execute()).length
    expect(await recordFacts(deps, id, factsBytes(facts('S1', 'U1')))).toMatchObject({ changed: false })
    expect(await count()).toBe(1)
    for (let memory = 1; memory <= 8; memory++) {
      fleet.pass(1_000)
      const bytes = factsBytes({ ...facts('S1', 'U1'), memory: { total: BigInt(memory) } })
      expect(await recordFacts(deps, id, bytes)).toMatchObject({ changed: true })
    }
    expect(await count()).toBe(5)
  })

  it('T7: finds a clone when serial and UUID both change, acts on neither, and believes the newest facts once released', async () => {
    await using fleet = await openWithMachine()
    const { deps } = fleet
    await recordFacts(deps, id, factsBytes(facts('S2', 'U2')))
    expect(deps.directory.get(id)).toMatchObject({
      conditions: [{ class: 'clone' }],
      identity: { serial: 'S1' },
    })
    expect(deps.directory.mayAct(id)).toBe(false)
    await expect(renewCertificate(deps)(id, key.publicKeyDer)).rejects.toThrow('clone')
    expect(await fleet.ask({ key, facts: facts('S1', 'U1') })).toMatchObject({ value: { class: 'conflict' } })
    await releaseMachine(deps)(create(ReleaseMachineRequestSchema, { ref: id }), local)
    expect(deps.directory.get(id)).toMatchObject({ conditions: [], identity: { serial: 'S2', uuid: 'u2' } })
    await renewCertificate(deps)(id, key.publicKeyDer)
  })

  it('refuses what is larger or longer than facts may be', async () => {
    await using fleet = await openWithMachine()
    const disks = Array.from({ length: 257 }, (_, index) => ({ name: `d${index}` }))
    await expect(recordFacts(fleet.deps, id, factsBytes({ disks }))).rejects.toThrow('facts disks')
    await expect(recordFacts(fleet.deps, id, new Uint8Array(1024 * 1024 + 1))).rejects.toThrow('1048576')
    await expect(recordFacts(fleet.deps, id, Uint8Array.of(255))).rejects.toThrow('not decodable')
  })
})

describe('the renewal of a certificate', () => {
  it('is granted so often at once and later every five seconds, and signed outside of the store’s turn', async () => {
    await using fleet = await openWithMachine()
    const { deps } = fleet
    const { store } = deps
    const authorities: Pick<typeof deps.authorities, 'prepareMachine'> = {
      prepareMachine(publicKey) {
        const prepared = deps.authorities.prepareMachine(publicKey)
        if (!prepared.ok) return prepared
        const sign = async () => {
          // Would wait for ever for the turn that waits for it.
          await store.transact(tx => findMachine(tx, id))
          return await prepared.certificate.sign()
        }
        const signNow = () => {
          throw new Error('signed where everybody waits for it')
        }
        return { ...prepared, certificate: { ...prepared.certificate, sign, signNow } }
      },
    }
    const renew = renewCertificate({ ...deps, authorities })
    for (let i = 0; i < 20; i++) await renew(id, key.publicKeyDer)
    await expect(renew(id, key.publicKeyDer)).rejects.toMatchObject({
      code: status.RESOURCE_EXHAUSTED,
      message: expect.stringMatching(/in 5 s$/),
    })
    fleet.pass(5_000)
    const { notAfter, chainPem } = await renew(id, key.publicKeyDer)
    expect(chainPem).toContain('BEGIN CERTIFICATE')
    expect(await findMachine(store.db, id)).toMatchObject({ certificate_not_after: notAfter.getTime() })
  })
})

describe('what sessions tell', () => {
  it('T7: two live holders of one key hold the machine until it is released', async () => {
    await using fleet = await openWithMachine()
    await recordClone(fleet.deps, id, 'two machines are connected with this key')
    expect(fleet.deps.directory.mayAct(id)).toBe(false)
    expect(fleet.deps.directory.isAllowed(id)).toBe(true)
  })

  it('T19: a machine that was banned may not speak any more, whatever arrives from it', async () => {
    await using fleet = await openWithMachine()
    const { deps } = fleet
    fleet.online.add(id)
    await banMachine(deps)(create(BanMachineRequestSchema, { ref: id }), local)
    expect(fleet.ended).toHaveLength(1)
    await recordLastSeen(deps, new Map([[id, new Date(deps.clock.now().getTime() + 5_000)]]))
    expect(deps.directory.isAllowed(id)).toBe(false)
    expect(await findMachine(deps.store.db, id)).toMatchObject({ state: 'banned' })
    const again = await MachineDirectory.load(deps.store.db, deps.directory.targets)
    expect(again.isAllowed(id)).toBe(false)
  })

  it('T54: whether a machine is online is asked of its session, never of the store', async () => {
    await using fleet = await openWithMachine()
    fleet.online.add(id)
    expect(await describeMachine(fleet.deps, id)).toMatchObject({ online: true })
    fleet.online.delete(id)
    expect(await describeMachine(fleet.deps, id)).toMatchObject({ online: false })
    const columns = Object.keys((await findMachine(fleet.deps.store.db, id)) ?? {})
    expect(columns).not.toContain('online')
  })

  it('writes when machines were heard of in one batch, never backwards', async () => {
    await using fleet = await openWithMachine()
    const { deps } = fleet
    const later = Math.floor(deps.clock.now().getTime() / 1000) * 1000 + 60_000
    await recordLastSeen(deps, new Map([[id, new Date(later + 300)]]))
    await recordLastSeen(deps, new Map([[id, new Date(later - 30_000)]]))
    expect(await findMachine(deps.store.db, id)).toMatchObject({ last_seen: later })
  })

  it('keeps a machine’s trust and its own words, the latter within a bound', async () => {
    await using fleet = await openWithMachine()
    const { deps } = fleet
    const report = create(TrustReportSchema, { number: 1n, digest: 'b'.repeat(64), firstUse: true })
    await recordTrustReport(deps, id, report)
    expect((await describeMachine(deps, id)).conditions).toMatchObject([{ class: 'trust-first-use' }])
    const events = new AgentEvents(deps)
    const event = create(AgentEventSchema, { class: 'disk', reason: 'full' })
    const kept = []
    for (let i = 0; i < 30; i++) kept.push(await events.record(id, event))
    expect(kept.filter(Boolean)).toHaveLength(20)
  })

  it('shows a machine that was let in and never came as stuck', async () => {
    await using fleet = await openWithMachine()
    fleet.pass(600_001)
    expect((await describeMachine(fleet.deps, id)).conditions).toMatchObject([{ class: 'stuck' }])
    await admitSession(fleet.deps, id, hello, '192.0.2.9')
    expect((await describeMachine(fleet.deps, id)).conditions).toEqual([])
    fleet.pass(28 * 86_400_000)
    expect((await describeMachine(fleet.deps, id)).conditions).toMatchObject([{ class: 'certificate' }])
  })
})

describe('forgetPending', () => {
  it('forgets waiting machines that fell silent, and nobody else', async () => {
    await using fleet = await openWithMachine()
    const { deps } = fleet
    await fleet.ask({ key: otherKey })
    expect(deps.directory.count('pending')).toBe(1)
    fleet.pass(86_400_000)
    expect(await forgetPending(deps, 86_400_000)).toBe(0)
    fleet.pass(1)
    expect(await forgetPending(deps, 86_400_000)).toBe(1)
    expect(deps.directory.get(idOf(otherKey))).toBeUndefined()
    expect(deps.directory.count('pending')).toBe(0)
    expect(await findMachine(deps.store.db, idOf(otherKey))).toBeUndefined()
    expect(deps.directory.isAllowed(id)).toBe(true)
  })
})

describe('the directory', () => {
  it('follows a new revision: who is which host, and a host that two machines claim is neither’s', async () => {
    await using fleet = await openWithMachine()
    const { directory, store } = fleet.deps
    await fleet.target(1, [targetOf({ host: 'olaf', binding: { diskSerial: 'D1' } })])
    expect(directory.assignment(id)).toMatchObject({ kind: 'host', host: 'olaf', boundBy: 'hardware' })
    expect(directory.machineOf('olaf')).toBe(id)
    await fleet.target(2, [
      targetOf({
        group: 'edge',
        binding: { rule: "facts.system.serial == 'S1'", nameTemplate: 'edge-{serial}' },
      }),
    ])
    expect(directory.assignment(id)).toMatchObject({ host: 'edge-s1', group: 'edge' })
    expect(directory.machineOf('olaf')).toBeUndefined()
    const entry = directory.get(id)
    if (!entry) throw new Error('the machine is gone')
    const twin = { ...entry, id: 'f'.repeat(64), factsDigest: 'x' }
    directory.put(twin, create(FactsSchema, facts('S1', 'U9')))
    expect(directory.assignment(id)).toMatchObject({ kind: 'conflict' })
    expect(directory.machineOf('edge-s1')).toBeUndefined()
    expect(directory.contested()).toEqual(['edge-s1'])
    const loaded = await MachineDirectory.load(store.db, directory.targets)
    expect(loaded.assignment(id)).toMatchObject({ host: 'edge-s1' })
  })
})
