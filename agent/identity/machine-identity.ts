import { createPrivateKey, createPublicKey } from 'node:crypto'
import { chmod, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { readFileIfThere, writeFileDurably } from '../../shared/durable-file.ts'
import { reasonOf } from '../../shared/errors.ts'
import { keyId } from '../../shared/x509/key-id.ts'
import { generateMachineKey } from '../../shared/x509/machine-key.ts'
import { readRsaPublicKey } from '../../shared/x509/public-key.ts'
import { StateError } from '../state/state-error.ts'

/** The machine's key, which it made itself and which never leaves it. */
export interface MachineIdentity {
  /** SHA-256 of the public key: who this machine is. */
  readonly id: string
  readonly privateKeyPem: string
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKeyDer: Buffer
}

const FILE = 'key.pem'

/** The key on disk, or undefined when there is none. Throws when there is one that cannot be used. */
export async function readIdentity(directory: string): Promise<MachineIdentity | undefined> {
  const path = join(directory, FILE)
  try {
    const pem = await readFileIfThere(path)
    if (!pem) return undefined
    if (((await stat(path)).mode & 0o077) !== 0) await chmod(path, 0o600)
    const privateKeyPem = pem.toString('utf8')
    const publicKeyDer = createPublicKey(createPrivateKey(privateKeyPem)).export({
      type: 'spki',
      format: 'der',
    })
    const reading = readRsaPublicKey(publicKeyDer)
    if (!reading.ok) throw new Error(reading.reason)
    return { id: keyId(publicKeyDer), privateKeyPem, publicKeyDer }
  } catch (error) {
    throw new StateError(
      `${path}: is no usable key (${reasonOf(error)}). Put it back from a backup; or, to enrol as a new machine, remove the whole directory`,
      { cause: error },
    )
  }
}

/** Makes the key and keeps it, for its owner alone. */
export async function makeIdentity(directory: string, keyBits: number): Promise<MachineIdentity> {
  const { privateKeyPem, publicKeyDer } = await generateMachineKey(keyBits)
  await writeFileDurably(join(directory, FILE), privateKeyPem, 0o600)
  return { id: keyId(publicKeyDer), privateKeyPem, publicKeyDer }
}
