import { generateKeyPair } from 'node:crypto'
import { promisify } from 'node:util'

const generate = promisify(generateKeyPair)

/** A private key (PKCS #8, PEM) and its public half (SubjectPublicKeyInfo, DER). */
export interface GeneratedKey {
  readonly privateKeyPem: string
  readonly publicKeyDer: Buffer
}

/** Makes an RSA key off the event loop. RSA because the certificate library of the coordinator knows nothing else. */
export async function generateMachineKey(bits = 3072): Promise<GeneratedKey> {
  const { privateKey, publicKey } = await generate('rsa', {
    modulusLength: bits,
    publicKeyEncoding: { type: 'spki', format: 'der' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  })
  return { privateKeyPem: privateKey, publicKeyDer: publicKey }
}
