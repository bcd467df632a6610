import { createPrivateKey, createPublicKey, generatePrime } from 'node:crypto'
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

export const KEY_BITS = 2048
const EXPONENT = 65537n

/** A machine's key: PKCS #8 in PEM and SubjectPublicKeyInfo in DER. */
export interface PoolKey {
  readonly privateKeyPem: string
  readonly publicKeyDer: Buffer
}

/**
 * Gives `count` different RSA keys, from the cache where it has them. A key of its own costs a sixth of a second of
 * processor time, so a pool of thousands is made of few primes, each pair of which gives a key: in size and in cost they
 * are as good as any, and as keys they are worthless, for whoever knows two of them knows their primes.
 */
export async function keyPool(folder: string, count: number): Promise<readonly PoolKey[]> {
  const primes = await cachedPrimes(folder, primesFor(count))
  const keys: PoolKey[] = []
  // By the larger prime's index, so that a larger pool begins with the keys of a smaller one.
  for (let larger = 1; larger < primes.length; larger++) {
    for (let smaller = 0; smaller < larger && keys.length < count; smaller++) {
      keys.push(keyOf(primes[larger]!, primes[smaller]!))
    }
  }
  return keys
}

/** How many primes have at least `keys` pairs. */
export function primesFor(keys: number): number {
  let primes = 2
  while ((primes * (primes - 1)) / 2 < keys) primes++
  return primes
}

/** The primes of the cache, and new ones where it has too few. */
async function cachedPrimes(folder: string, count: number): Promise<readonly bigint[]> {
  const path = join(folder, `primes-${KEY_BITS / 2}.json`)
  const primes = await readPrimes(path)
  if (primes.length >= count) return primes.slice(0, count)
  const seen = new Set(primes)
  while (primes.length < count) {
    const made = await Promise.all(
      Array.from({ length: Math.min(8, count - primes.length) }, () => makePrime(KEY_BITS / 2)),
    )
    for (const prime of made) {
      if (seen.has(prime) || prime % EXPONENT === 1n) continue
      seen.add(prime)
      primes.push(prime)
    }
  }
  await mkdir(folder, { recursive: true })
  const partial = `${path}.${process.pid}.tmp`
  await writeFile(partial, JSON.stringify(primes.map(prime => prime.toString(16))))
  await rename(partial, path)
  return primes
}

function makePrime(bits: number): Promise<bigint> {
  return new Promise((resolve, reject) => {
    generatePrime(bits, { bigint: true }, (error, prime) => (error ? reject(error) : resolve(prime)))
  })
}

async function readPrimes(path: string): Promise<bigint[]> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch {
    return [] // no cache yet
  }
  const parsed: unknown = JSON.parse(text)
  if (!Array.isArray(parsed)) throw new Error(`${path}: is no list of primes; remove it`)
  return parsed.map(hex => BigInt(`0x${String(hex)}`))
}

function keyOf(p: bigint, q: bigint): PoolKey {
  const d = inverse(EXPONENT, (p - 1n) * (q - 1n))
  const privateKey = createPrivateKey({
    format: 'jwk',
    key: {
      kty: 'RSA',
      n: encode(p * q),
      e: encode(EXPONENT),
      d: encode(d),
      p: encode(p),
      q: encode(q),
      dp: encode(d % (p - 1n)),
      dq: encode(d % (q - 1n)),
      qi: encode(inverse(q, p)),
    },
  })
  return {
    privateKeyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    publicKeyDer: createPublicKey(privateKey).export({ type: 'spki', format: 'der' }),
  }
}

/** The inverse of `value` modulo `modulus`, by Euclid; they must have no factor in common. */
function inverse(value: bigint, modulus: bigint): bigint {
  let [before, current] = [modulus, value % modulus]
  let [left, right] = [0n, 1n]
  while (current > 1n) {
    const quotient = before / current
    ;[before, current] = [current, before - quotient * current]
    ;[left, right] = [right, left - quotient * right]
  }
  return right < 0n ? right + modulus : right
}

function encode(value: bigint): string {
  const hex = value.toString(16)
  return Buffer.from(hex.length % 2 ? `0${hex}` : hex, 'hex').toString('base64url')
}
