import { generateKeyPairSync, sign } from 'node:crypto'
import { inspect } from 'node:util'
import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  ClusterRole,
  type SealedBody,
  SealedBodySchema,
  type SealedSecret,
  SealedSecretSchema,
  SecretPurpose,
} from '../gen/muster/v1/cluster_pb.ts'
import { keyId } from '../x509/key-id.ts'
import { type ExpectedSecret, MAX_AHEAD_MS, openSecret } from './open-secret.ts'
import { MAX_SECRET_BYTES, SEALED_PREFIX, SIGNATURE_PADDING, sealSecret } from './seal-secret.ts'
import { MAX_LIFETIME_MS, type SecretBinding } from './secret-binding.ts'
import { SecretBytes } from './secret-bytes.ts'

function makeKey() {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const der = publicKey.export({ format: 'der', type: 'spki' })
  return { privateKey, der, id: keyId(der) }
}
const minter = makeKey()
const joiner = makeKey()
const stranger = makeKey()

const NOW = Date.UTC(2026, 10, 1)
const SECRET = 'K10abc::server:the-secret'
const binding: Omit<SecretBinding, 'recipient' | 'minter'> = {
  purpose: SecretPurpose.JOIN,
  fleetId: 'f1',
  cluster: 'home',
  role: ClusterRole.SERVER,
  operationId: 'op-1',
  mintedMs: NOW,
  expiresMs: NOW + 600_000,
}
const expected: ExpectedSecret = {
  binding: { ...binding, recipient: joiner.id },
  minters: new Set([minter.id]),
  spent: new Map(),
  nowMs: NOW + 1000,
}

function seal(change: Partial<typeof binding> = {}, to = joiner, by = minter, text = SECRET): SealedSecret {
  const secret = new SecretBytes(Buffer.from(text))
  return sealSecret({
    binding: { ...binding, ...change },
    secret,
    recipientKey: to.der,
    minterKey: by.privateKey,
  })
}
const expecting = (change: Partial<ExpectedSecret['binding']>): ExpectedSecret => ({
  ...expected,
  binding: { ...expected.binding, ...change },
})
const open = (sealed: SealedSecret, want = expected, key = joiner) => openSecret(sealed, key.privateKey, want)

describe('a sealed secret', () => {
  it('is opened by the machine, for the operation and in the time it was minted for', () => {
    const opened = open(seal())
    expect(opened.kind === 'opened' && opened.secret.reveal().toString()).toBe(SECRET)
    expect(opened).toMatchObject({
      binding: { minter: minter.id, recipient: joiner.id, operationId: 'op-1' },
    })
  })

  it('comes through whole, whatever is in it', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 5000 }), bytes => {
        const secret = new SecretBytes(Buffer.from(bytes))
        const recipientKey = joiner.der
        const opened = open(sealSecret({ binding, secret, recipientKey, minterKey: minter.privateKey }))
        expect(opened.kind === 'opened' && opened.secret.reveal().equals(Buffer.from(bytes))).toBe(true)
      }),
      { numRuns: 25 },
    )
  })

  it('is refused by everybody else, each with its class', () => {
    const other = expecting({ recipient: stranger.id })
    expect(open(seal(), other, stranger)).toMatchObject({ class: 'recipient' })
    expect(open(seal({}, stranger))).toMatchObject({ class: 'recipient' })
    // Whatever it claims to be: another key does not open it.
    expect(open(seal(), expected, stranger)).toMatchObject({ class: 'sealed' })
    expect(open(seal(), expecting({ fleetId: 'f2' }))).toMatchObject({ class: 'fleet' })
    expect(open(seal({ cluster: 'away' }))).toMatchObject({
      class: 'cluster',
      reason: expect.stringContaining('away'),
    })
    expect(open(seal({ role: ClusterRole.WORKER }))).toMatchObject({ class: 'role' })
    expect(open(seal({ purpose: SecretPurpose.AUTHORITY }))).toMatchObject({ class: 'purpose' })
    expect(open(seal({ operationId: 'op-2' }))).toMatchObject({ class: 'operation' })
  })

  it('is refused once its time is over, and before it has come', () => {
    const at = (nowMs: number) => open(seal(), { ...expected, nowMs })
    expect(at(binding.expiresMs - 1)).toMatchObject({ kind: 'opened' })
    expect(at(binding.expiresMs)).toMatchObject({ class: 'expired' })
    expect(at(NOW - MAX_AHEAD_MS)).toMatchObject({ kind: 'opened' })
    expect(at(NOW - MAX_AHEAD_MS - 1)).toMatchObject({ class: 'clock' })
  })

  it('T9: lives for minutes, by no wish of its minter longer than an hour', () => {
    expect(() => seal({ expiresMs: NOW + MAX_LIFETIME_MS + 1 })).toThrow('at most 3600')
    expect(() => seal({ expiresMs: NOW })).toThrow('more than 0')
  })

  it('is refused a second time, also when its minter signs the same anew', () => {
    const sealed = seal()
    const first = open(sealed)
    const digest = first.kind === 'opened' ? first.digest : ''
    const spent = new Map([[digest, binding.expiresMs]])
    expect(open(sealed, { ...expected, spent })).toMatchObject({ class: 'replayed' })
    expect(open(seal(), { ...expected, spent })).toMatchObject({ kind: 'opened' })
  })

  it('is refused when it is signed by a key that is no server of the cluster, whatever it names', () => {
    expect(open(seal({}, joiner, stranger))).toMatchObject({
      class: 'minter',
      reason: expect.stringContaining(stranger.id),
    })
    const sealed = seal({}, joiner, stranger)
    const passedOff = create(SealedSecretSchema, { ...sealed, minterKey: minter.der })
    expect(open(passedOff)).toMatchObject({ class: 'signature' })
    // A second server that signs what the first one sealed, in the first one's name.
    const both = { ...expected, minters: new Set([minter.id, stranger.id]) }
    const body = fromBinary(SealedBodySchema, seal().body)
    const theirs = create(SealedSecretSchema, { ...resign(body, stranger), minterKey: stranger.der })
    expect(open(theirs, both)).toMatchObject({ class: 'minter' })
  })

  it('cannot be taken over into another binding, even by a server of the cluster', () => {
    // The worst relay: one that has the minter's key, and still no key of the recipient.
    const parts = fromBinary(SealedBodySchema, seal().body)
    const foreign = fromBinary(SealedBodySchema, seal({ operationId: 'op-2' }).body)
    const resigned = seal({}, joiner, minter, 'x')
    const body = create(SealedBodySchema, { ...parts, binding: foreign.binding })
    const sealed = create(SealedSecretSchema, { ...resigned, ...resign(body) })
    expect(open(sealed, expecting({ operationId: 'op-2' }))).toMatchObject({ class: 'sealed' })
  })

  it('does not survive a change of any byte, nor the loss of its end', () => {
    const sealed = seal()
    const whole = toBinary(SealedSecretSchema, sealed)
    fc.assert(
      fc.property(fc.nat(sealed.body.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const body = Uint8Array.from(sealed.body)
        body[at] = (body[at] ?? 0) ^ flip
        expect(open(create(SealedSecretSchema, { ...sealed, body }))).toMatchObject({ class: 'signature' })
      }),
    )
    fc.assert(
      fc.property(fc.nat(whole.length - 1), length => {
        let cut: SealedSecret
        try {
          cut = fromBinary(SealedSecretSchema, whole.subarray(0, length))
        } catch {
          return
        }
        expect(open(cut)).toMatchObject({
          kind: 'refused',
          class: expect.stringMatching(/malformed|signature|minter/),
        })
      }),
    )
  })

  it('has bounds on both sides', () => {
    expect(() => seal({}, joiner, minter, 'x'.repeat(MAX_SECRET_BYTES + 1))).toThrow('at most 65536')
    expect(() => seal({}, joiner, minter, '')).toThrow('empty')
    expect(() => seal({ cluster: 'a\nb' })).toThrow('cluster')
    expect(() => seal({ operationId: '' })).toThrow('operationId')
    const long = create(SealedSecretSchema, { ...seal(), body: new Uint8Array(MAX_SECRET_BYTES + 5000) })
    expect(open(long)).toMatchObject({ class: 'malformed' })
    const signature = new Uint8Array(513)
    expect(open(create(SealedSecretSchema, { ...seal(), signature }))).toMatchObject({ class: 'malformed' })
    expect(open(seal({}, joiner, minter, 'x'.repeat(MAX_SECRET_BYTES)))).toMatchObject({ kind: 'opened' })
  })

  it('T66: shows itself nowhere: not in the sealed bytes, not in JSON, logs or reasons', () => {
    const sealed = seal()
    expect(Buffer.from(toBinary(SealedSecretSchema, sealed)).includes(SECRET)).toBe(false)
    const opened = open(sealed)
    const secret = opened.kind === 'opened' ? opened.secret : undefined
    for (const shown of [
      JSON.stringify({ opened }, bigints),
      inspect(opened, { depth: 9 }),
      `${String(secret)}`,
    ]) {
      expect(shown).not.toContain('the-secret')
      expect(shown).not.toContain(Buffer.from('the-secret').toString('base64').slice(0, 10))
    }
    secret?.[Symbol.dispose]()
    expect(secret?.reveal().every(byte => byte === 0)).toBe(true)
  })
})

const bigints = (_: string, value: unknown) => (typeof value === 'bigint' ? String(value) : value)

/** Signs a body as its minter would, or as another server. */
function resign(body: SealedBody, by = minter) {
  const bytes = toBinary(SealedBodySchema, body)
  const message = Buffer.concat([SEALED_PREFIX, bytes])
  return { body: bytes, signature: sign('sha256', message, { key: by.privateKey, ...SIGNATURE_PADDING }) }
}
