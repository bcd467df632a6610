import { generateKeyPairSync } from 'node:crypto'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { clone, create } from '@bufbuild/protobuf'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { generateSigningKey } from '../../shared/envelope/keys.ts'
import type { Envelope } from '../../shared/gen/muster/v1/envelope_pb.ts'
import { type Evidence, EvidenceSchema } from '../../shared/gen/muster/v1/evidence_pb.ts'
import { OutcomeClass, type SignedOutcome } from '../../shared/gen/muster/v1/operation_pb.ts'
import { signOutcome } from '../../shared/outcome/signed-outcome.ts'
import {
  sampleFleetId,
  sampleKey,
  sampleRevision,
  sampleTrust,
} from '../../shared/revision/testing/sample-fleet.ts'
import { makeNextTrustSet } from '../../shared/trust/make-trust-set.ts'
import { keyId } from '../../shared/x509/key-id.ts'
import { encodeChain } from '../fleets/fleet-folder.ts'
import { runMuster } from '../testing/run-muster.ts'
import { type SmallCoordinator, startSmallCoordinator } from '../testing/small-coordinator.ts'
import { encodeEvidence } from './evidence-file.ts'
import { verifyEvidence } from './verify-evidence.ts'

const makeMachine = () => {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const der = publicKey.export({ format: 'der', type: 'spki' })
  return { privateKey, der, id: keyId(der) }
}
const machine = makeMachine()
const other = makeMachine()
const nextKey = generateSigningKey()
/** The second set gives up the first one's key. */
const nextTrust = makeNextTrustSet({
  current: sampleTrust.trust,
  change: { keys: [{ key: nextKey, comment: 'new' }] },
  created: new Date(),
  signers: [sampleKey],
})
const revisions = [
  sampleRevision({ number: 5 }),
  // Carries the next set, and is still signed by the key that this one gives up.
  sampleRevision({ number: 6, trustSet: nextTrust.envelope }),
  sampleRevision({ number: 7, trustSet: nextTrust.envelope }, nextKey),
]
const PIN = { kind: 'pin', pin: sampleTrust.trust.digest } as const

interface Said {
  readonly fleetId?: string
  readonly operationId?: string
  readonly revision?: bigint
  readonly manifestDigest?: string
}

function signed(change: Said = {}, key = machine) {
  const revision = revisions.find(({ manifest }) => BigInt(manifest.number) === (change.revision ?? 5n))
  const statement = {
    machine: machine.id,
    fleetId: sampleFleetId,
    operationId: 'op-5',
    revision: 5n,
    manifestDigest: revision?.manifest.digest ?? '',
    outcome: { class: OutcomeClass.SUCCEEDED, reason: 'runs' },
    ...change,
  }
  const { operationId } = statement
  return { machine: machine.id, operationId, signed: signOutcome(key.privateKey, statement) }
}

interface Parts {
  readonly trust: { envelopes: Envelope[] }
  readonly machines: { publicKey: Uint8Array; host: string }[]
  readonly outcomes: { machine: string; operationId: string; signed?: SignedOutcome }[]
  readonly revisions: { number: bigint; envelope: Envelope }[]
}

const numbered = (all: readonly (typeof revisions)[number][]) =>
  all.map(({ manifest, envelope }) => ({ number: BigInt(manifest.number), envelope }))

function evidence(change: Partial<Parts> = {}): Evidence {
  const good: Parts = {
    trust: { envelopes: [sampleTrust.envelope, nextTrust.envelope] },
    machines: [{ publicKey: machine.der, host: 'olaf' }],
    outcomes: [
      signed(),
      signed({ operationId: 'op-6', revision: 6n }),
      signed({ operationId: 'op-7', revision: 7n }),
      signed({ operationId: 'hold', revision: 0n, manifestDigest: '' }),
    ],
    revisions: numbered(revisions),
  }
  return create(EvidenceSchema, { ...good, ...change })
}

const faults = (found: Evidence) => {
  const { problems, outcomes } = verifyEvidence(found, PIN)
  return [...problems, ...outcomes.map(({ fault }) => fault)].filter(text => text !== '')
}

describe('verifyEvidence', () => {
  it('finds good what is good, across a change of the signing key', () => {
    expect(verifyEvidence(evidence(), PIN)).toMatchObject({
      problems: [],
      revisions: 3,
      outcomes: [{ host: 'olaf', operationId: 'op-5', fault: '' }, {}, {}, { operationId: 'hold' }],
    })
    expect(faults(evidence())).toEqual([])
    const known = { kind: 'known', chain: [sampleTrust.envelope] } as const
    expect(verifyEvidence(evidence(), known)).toMatchObject({ problems: [], revisions: 3 })
  })

  it.each<[string, Partial<Parts>, RegExp]>([
    ['an outcome that another key signed', { outcomes: [signed({}, other)] }, /not one of the machine’s key/],
    ['an outcome of a machine without key', { machines: [] }, /no key that makes this machine’s id/],
    [
      'an outcome shown under another operation',
      { outcomes: [{ ...signed(), operationId: 'op-9' }] },
      /operation op-5/,
    ],
    [
      'an outcome without signature',
      { outcomes: [{ machine: machine.id, operationId: 'op' }] },
      /not signed/,
    ],
    ['an outcome of another fleet', { outcomes: [signed({ fleetId: 'f'.repeat(32) })] }, /another fleet/],
    [
      'a revision that is not there',
      { outcomes: [signed({ revision: 9n, manifestDigest: 'a'.repeat(64) })] },
      /no signed manifest/,
    ],
    [
      'another manifest of that number',
      { outcomes: [signed({ manifestDigest: 'a'.repeat(64) })] },
      /another manifest/,
    ],
    [
      'a manifest without a revision',
      { outcomes: [signed({ revision: 0n, manifestDigest: 'a'.repeat(64) })] },
      /no revision/,
    ],
    [
      'a trust set that does not follow',
      { trust: { envelopes: [nextTrust.envelope] } },
      /digest of the trust pin/,
    ],
    [
      'a manifest under another number',
      { revisions: [{ number: 4n, envelope: revisions[0]!.envelope }] },
      /is that of revision 5/,
    ],
  ])('finds %s', (_, change, fault) => {
    expect(faults(evidence(change)).join('\n')).toMatch(fault)
  })

  it('T5: takes nothing signed by a key that was given up, however old it says it is', () => {
    // Says that it was signed under the second set, with the first one's key.
    const posing = sampleRevision({ number: 8, trustSet: nextTrust.envelope, floor: 5 })
    // Comes after the change and says that it was signed before.
    const late = sampleRevision({ number: 9, trustSet: sampleTrust.envelope })
    const found = faults(evidence({ revisions: numbered([...revisions, posing, late]) })).join('\n')
    expect(found).toMatch(/revision 8: /)
    expect(found).toMatch(/revision 9: names trust set 1, an earlier revision named 2 already/)
  })

  it('finds a revision whose bytes were changed, and what names it', () => {
    const found = clone(EvidenceSchema, evidence())
    const payload = found.revisions[0]?.envelope?.payload
    if (payload) payload[payload.length - 1] = (payload.at(-1) ?? 0) ^ 1
    const all = faults(found).join('\n')
    expect(all).toMatch(/revision 5: /)
    expect(all).toMatch(/names revision 5, of which no signed manifest holds/)
  })

  it('finds two revisions of one number', () => {
    const twin = sampleRevision({ number: 5, floor: 2 })
    const found = faults(evidence({ revisions: numbered([...revisions, twin]) }))
    expect(found.join('\n')).toMatch(/revision 5: there are two/)
  })
})

describe('muster verify', () => {
  let coordinator: SmallCoordinator
  let home: string
  beforeAll(async () => {
    coordinator = await startSmallCoordinator()
    home = await mkdtemp(join(tmpdir(), 'muster-home-'))
  })
  afterAll(async () => {
    await coordinator[Symbol.asyncDispose]()
    await rm(home, { recursive: true, force: true })
  })
  const run = (socket: string, ...words: string[]) =>
    runMuster(words, { settings: { socket, configHome: home } })
  const offline = (...words: string[]) => run(join(home, 'no-such-socket'), 'verify', ...words)
  const pin = ['--trust-pin', sampleTrust.trust.digest]

  it('checks a file of `muster evidence` without any coordinator, by a pin or by what is known here', async () => {
    coordinator.evidence = evidence()
    const { code, out } = await run(coordinator.socket, 'evidence', 'olaf')
    expect(code).toBe(0)
    const file = join(home, 'olaf.json')
    await writeFile(file, out)
    expect(await offline(file)).toMatchObject({ code: 4, err: expect.stringContaining('--trust-pin') })
    const good = await offline(file, ...pin)
    expect(good).toMatchObject({
      code: 0,
      err: '4 outcomes of 1 machines and 3 revisions: all signatures are good\n',
    })
    expect(good.out).toMatch(/olaf +op-5 +5 +succeeded +good +runs/)
    await mkdir(join(home, 'fleets', sampleFleetId), { recursive: true, mode: 0o700 })
    await writeFile(join(home, 'fleets', sampleFleetId, 'trust.bin'), encodeChain([sampleTrust.envelope]), {
      mode: 0o600,
    })
    expect((await offline(file)).code).toBe(0)
    expect(JSON.parse((await offline(file, '-o', 'json')).out)).toMatchObject([
      { host: 'olaf', operationId: 'op-5', verified: true, outcome: 'succeeded' },
      {},
      {},
      {},
    ])
    expect((await run(coordinator.socket, 'verify', 'olaf')).code).toBe(0)
  })

  it('ends with 1 when anything does not hold, and tells what', async () => {
    const file = join(home, 'forged.json')
    await writeFile(file, encodeEvidence(evidence({ outcomes: [signed(), signed({}, other)] })))
    const { code, out, err } = await offline(file, ...pin)
    expect(code).toBe(1)
    expect(out).toContain('NOT GOOD')
    expect(err).toContain('1 of 2 outcomes do not hold')
  })

  it('tells in JSON the fault beside the reason of the outcome, each in a field of its own', async () => {
    const file = join(home, 'faulty.json')
    const outcomes = [signed(), signed({ manifestDigest: 'ab'.repeat(32) }), signed({}, other)]
    await writeFile(file, encodeEvidence(evidence({ outcomes })))
    expect(JSON.parse((await offline(file, ...pin, '-o', 'json')).out)).toMatchObject([
      { verified: true, fault: '', reason: 'runs' },
      { verified: false, fault: expect.stringContaining('another manifest'), reason: 'runs' },
      { verified: false, fault: expect.stringContaining('machine’s key'), outcome: null, reason: null },
    ])
  })

  it('says what is wrong with what it is given', async () => {
    const file = join(home, 'garbage.json')
    await writeFile(file, '{"machines": 5}')
    expect(await offline(file, ...pin)).toMatchObject({
      code: 1,
      err: expect.stringContaining('garbage.json'),
    })
    await writeFile(file, encodeEvidence(evidence({ outcomes: [] })))
    expect((await offline(file, ...pin)).code).toBe(3)
    expect((await offline(file, '--trust-pin', 'abc')).code).toBe(2)
    coordinator.evidence = evidence({ outcomes: [] })
    expect((await run(coordinator.socket, 'evidence')).code).toBe(3)
    coordinator.evidence = evidence({ trust: { envelopes: [] } })
    expect(await run(coordinator.socket, 'verify')).toMatchObject({
      code: 4,
      err: expect.stringContaining('holds no trust set'),
    })
  })
})
