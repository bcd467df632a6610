import {
  constants,
  createCipheriv,
  createDecipheriv,
  privateDecrypt,
  publicEncrypt,
  randomBytes,
} from 'node:crypto'
import { readRsaPublicKey } from '../../shared/x509/public-key.ts'

/** Stands before every sealed file, and before its name in what is authenticated. */
const PREFIX = Buffer.from('muster sealed file v1\n')
const KEY_BYTES = 32
const NONCE_BYTES = 12
const TAG_BYTES = 16
/** The longest file: tokens and kubeconfigs take some KiB. */
export const MAX_CLEAR_BYTES = 128 * 1024
/** A key of 4096 bits wraps into 512 bytes. */
export const MAX_SEALED_BYTES = MAX_CLEAR_BYTES + 1024

export type OpenedFile =
  | { readonly kind: 'opened'; readonly bytes: Buffer }
  | { readonly kind: 'refused'; readonly reason: string }

/**
 * Seals a file of this machine to its own key, so that it may lie on the disk: it opens with that key and under that name
 * alone. Nobody signs it; it is a copy of what this machine was given and judged before. Throws a RangeError for a file of
 * more than 128 KiB, or a key that is none.
 */
export function sealFile(publicKeyDer: Uint8Array, name: string, bytes: Uint8Array): Buffer {
  if (bytes.length > MAX_CLEAR_BYTES) {
    throw new RangeError(`${name}: ${bytes.length} bytes, at most ${MAX_CLEAR_BYTES} can be sealed`)
  }
  const reading = readRsaPublicKey(publicKeyDer)
  if (!reading.ok) throw new RangeError(`the machine's key: ${reading.reason}`)
  const label = labelOf(name)
  const dataKey = randomBytes(KEY_BYTES)
  const nonce = randomBytes(NONCE_BYTES)
  const cipher = createCipheriv('aes-256-gcm', dataKey, nonce)
  cipher.setAAD(label)
  const sealed = Buffer.concat([cipher.update(bytes), cipher.final(), cipher.getAuthTag()])
  const wrapped = publicEncrypt({ key: reading.key, oaepHash: 'sha256', oaepLabel: label }, dataKey)
  dataKey.fill(0)
  const length = Buffer.alloc(2)
  length.writeUInt16BE(wrapped.length)
  return Buffer.concat([PREFIX, length, wrapped, nonce, sealed])
}

/** Opens what `sealFile` made under the same name. Never throws, and never says anything of the content. */
export function openFile(privateKeyPem: string, name: string, file: Uint8Array): OpenedFile {
  const refused = (reason: string): OpenedFile => ({ kind: 'refused', reason })
  const bytes = Buffer.from(file)
  const start = PREFIX.length + 2
  if (bytes.length > MAX_SEALED_BYTES) return refused(`is longer than ${MAX_SEALED_BYTES} bytes`)
  if (bytes.length < start || !bytes.subarray(0, PREFIX.length).equals(PREFIX))
    return refused('is no sealed file')
  const wrappedEnd = start + bytes.readUInt16BE(PREFIX.length)
  const bodyStart = wrappedEnd + NONCE_BYTES
  if (bytes.length < bodyStart + TAG_BYTES) return refused('is cut short')
  const label = labelOf(name)
  try {
    const dataKey = privateDecrypt(
      {
        key: privateKeyPem,
        padding: constants.RSA_PKCS1_OAEP_PADDING,
        oaepHash: 'sha256',
        oaepLabel: label,
      },
      bytes.subarray(start, wrappedEnd),
    )
    const decipher = createDecipheriv('aes-256-gcm', dataKey, bytes.subarray(wrappedEnd, bodyStart))
    decipher.setAAD(label)
    decipher.setAuthTag(bytes.subarray(-TAG_BYTES))
    const clear = Buffer.concat([decipher.update(bytes.subarray(bodyStart, -TAG_BYTES)), decipher.final()])
    return { kind: 'opened', bytes: clear }
  } catch {
    // Which of the two did not fit is nobody's business, and the texts of OpenSSL help no person.
    return refused("does not open with this machine's key under this name")
  }
}

const labelOf = (name: string) => Buffer.concat([PREFIX, Buffer.from(name)])
