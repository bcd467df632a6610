import { createPrivateKey, generateKeyPairSync } from 'node:crypto'
import { create, toBinary } from '@bufbuild/protobuf'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { OutcomeClass, OutcomeStatementSchema } from '../gen/muster/v1/operation_pb.ts'
import { keyId } from '../x509/key-id.ts'
import { MAX_STATEMENT_BYTES, signOutcome, verifyOutcome } from './signed-outcome.ts'

function makeKey() {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const der = publicKey.export({ format: 'der', type: 'spki' })
  return { privateKey, der, id: keyId(der) }
}
const own = makeKey()
const other = makeKey()

const statement = {
  machine: own.id,
  fleetId: 'home',
  operationId: 'op-1',
  revision: 7n,
  manifestDigest: 'a'.repeat(64),
  outcome: { class: OutcomeClass.ROLLED_BACK, firstCause: OutcomeClass.ACTIVATION_FAILED, reason: 'no' },
}

describe('signed outcomes', () => {
  it('tell what the machine said, from the key as an object or as PEM', () => {
    const pem = own.privateKey.export({ format: 'pem', type: 'pkcs8' }).toString()
    for (const key of [own.privateKey, pem, createPrivateKey(pem)]) {
      const verdict = verifyOutcome(own.der, signOutcome(key, statement))
      expect(verdict).toMatchObject({ kind: 'verified', statement })
    }
  })

  it('are refused when another key signed them, or they speak of another machine', () => {
    expect(verifyOutcome(own.der, signOutcome(other.privateKey, statement))).toMatchObject({
      kind: 'refused',
      reason: expect.stringContaining('signature'),
    })
    const foreign = signOutcome(own.privateKey, { ...statement, machine: other.id })
    expect(verifyOutcome(own.der, foreign)).toMatchObject({
      kind: 'refused',
      reason: expect.stringContaining(other.id),
    })
  })

  it('are refused when they name no operation or no outcome, or the key is none of ours', () => {
    const without = { ...statement, outcome: undefined }
    for (const partial of [{ ...statement, operationId: '' }, without] as const) {
      expect(verifyOutcome(own.der, signOutcome(own.privateKey, partial)).kind).toBe('refused')
    }
    const signed = signOutcome(own.privateKey, statement)
    expect(verifyOutcome(own.der.subarray(1), signed).kind).toBe('refused')
  })

  it('sign nothing but the statement: bytes without the prefix do not pass', () => {
    const bytes = toBinary(OutcomeStatementSchema, create(OutcomeStatementSchema, statement))
    const { signature } = signOutcome(own.privateKey, statement)
    const prefixed = Buffer.concat([Buffer.from('muster outcome v1\n'), bytes])
    expect(verifyOutcome(own.der, { statement: prefixed, signature }).kind).toBe('refused')
  })

  it('does not survive a change of any byte', () => {
    const signed = signOutcome(own.privateKey, statement)
    const all = signed.statement.length + signed.signature.length
    fc.assert(
      fc.property(fc.nat(all - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const statementBytes = Uint8Array.from(signed.statement)
        const signature = Uint8Array.from(signed.signature)
        const inStatement = at < statementBytes.length
        const bytes = inStatement ? statementBytes : signature
        const index = inStatement ? at : at - statementBytes.length
        bytes[index] = (bytes[index] ?? 0) ^ flip
        expect(verifyOutcome(own.der, { statement: statementBytes, signature }).kind).toBe('refused')
      }),
    )
  })

  it('are bounded', () => {
    const reason = 'x'.repeat(MAX_STATEMENT_BYTES)
    expect(() => signOutcome(own.privateKey, { ...statement, outcome: { reason } })).toThrow(RangeError)
    const long = { statement: new Uint8Array(MAX_STATEMENT_BYTES + 1), signature: new Uint8Array(256) }
    expect(verifyOutcome(own.der, long).kind).toBe('refused')
  })
})
