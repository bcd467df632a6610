import { createPrivateKey, createPublicKey } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { signProof, verifyProof } from '../../shared/x509/proof.ts'
import { KEY_BITS, keyPool, primesFor } from './key-pool.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'muster-bench-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

it('makes different keys of the full size that sign and verify, and finds them again in its cache', async () => {
  const pool = await keyPool(folder, 5)
  expect(new Set(pool.map(({ publicKeyDer }) => publicKeyDer.toString('hex'))).size).toBe(5)
  for (const { privateKeyPem, publicKeyDer } of pool) {
    const key = createPublicKey(createPrivateKey(privateKeyPem))
    expect(key.asymmetricKeyDetails).toMatchObject({ modulusLength: KEY_BITS, publicExponent: 65537n })
    expect(verifyProof(publicKeyDer, 'text', signProof(privateKeyPem, 'text'))).toBe(true)
    expect(verifyProof(publicKeyDer, 'other', signProof(privateKeyPem, 'text'))).toBe(false)
  }
  const cached = await readFile(join(folder, `primes-${KEY_BITS / 2}.json`), 'utf8')
  expect(await keyPool(folder, 4)).toEqual(pool.slice(0, 4))
  // The larger pool keeps the primes it has, so its first keys are the same ones.
  expect((await keyPool(folder, 7)).slice(0, 5)).toEqual(pool)
  expect(JSON.parse(await readFile(join(folder, `primes-${KEY_BITS / 2}.json`), 'utf8'))).toEqual(
    expect.arrayContaining(JSON.parse(cached)),
  )
})

it('takes as few primes as give enough pairs', () => {
  expect([1, 2, 3, 4, 1000, 10_000].map(primesFor)).toEqual([2, 3, 3, 4, 46, 142])
})
