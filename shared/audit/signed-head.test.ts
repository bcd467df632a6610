import { generateKeyPairSync } from 'node:crypto'
import { expect, it } from 'vitest'
import { keyId } from '../x509/key-id.ts'
import { signHead, verifyHead } from './signed-head.ts'

function makeKey() {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const publicKeyDer = publicKey.export({ format: 'der', type: 'spki' })
  const privateKeyPem = privateKey.export({ format: 'pem', type: 'pkcs8' }).toString()
  return { privateKeyPem, publicKeyDer, machine: keyId(publicKeyDer) }
}

it('what a machine holds of the chain counts for that machine and that question alone', () => {
  const [own, other] = [makeKey(), makeKey()]
  const head = { id: 7, hash: 'a'.repeat(64) }
  const { machine } = own
  const signed = signHead(own, 'n1', [head])
  expect(verifyHead(signed, { machine, nonce: 'n1' })).toEqual({ kind: 'verified', heads: [head] })
  expect(verifyHead(signHead(own, 'n1', []), { machine, nonce: 'n1' })).toEqual({
    kind: 'verified',
    heads: [],
  })
  expect(verifyHead(signed, { machine, nonce: 'n2' }).kind).toBe('refused')
  expect(verifyHead(signed, { machine: other.machine, nonce: 'n1' }).kind).toBe('refused')
  expect(verifyHead({ ...signed, publicKey: other.publicKeyDer }, { machine, nonce: 'n1' }).kind).toBe(
    'refused',
  )
  const forged = signHead({ ...own, privateKeyPem: other.privateKeyPem }, 'n1', [head])
  expect(verifyHead(forged, { machine, nonce: 'n1' }).kind).toBe('refused')
  for (let at = 0; at < signed.statement.length; at++) {
    const statement = Uint8Array.from(signed.statement)
    statement[at] = (statement[at] ?? 0) ^ 1
    expect(verifyHead({ ...signed, statement }, { machine, nonce: 'n1' }).kind).toBe('refused')
  }
})
