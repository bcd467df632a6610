import { createHash } from 'node:crypto'

/** What differs between the certificates of two machines of one authority. */
export interface Individual {
  /** In hex, 16 bytes. */
  readonly serial: string
  readonly notBefore: Date
  readonly notAfter: Date
  /** The subject's id: 64 characters of hex. */
  readonly id: string
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKeyDer: Uint8Array
}

/** Turns what is signed for one into what is signed for another of the same lengths. */
export interface CertificateTemplate {
  /** Undefined: this one has another form and is made anew. */
  fill(individual: Individual): Buffer | undefined
}

/**
 * Makes a template of the bytes that an authority signed for somebody. Undefined when one of the parts that differ is not
 * found exactly once: then nothing is guessed.
 */
export function templateOf(bytes: Buffer, individual: Individual): CertificateTemplate | undefined {
  const parts = partsOf(individual)
  if (!parts) return undefined
  const places = parts.map(part => placeOf(bytes, part))
  if (places.includes(undefined)) return undefined
  return {
    fill(other) {
      const others = partsOf(other)
      if (!others || others.some((part, index) => part.length !== parts[index]?.length)) return undefined
      const filled = Buffer.from(bytes)
      for (const [index, part] of others.entries()) filled.set(part, places[index])
      return filled
    },
  }
}

/** Where RSAPublicKey begins in the SubjectPublicKeyInfo of any key of 2048 bits or more. */
const RSA_PUBLIC_KEY_AT = 24

function partsOf({
  serial,
  notBefore,
  notAfter,
  id,
  publicKeyDer,
}: Individual): readonly Uint8Array[] | undefined {
  const [from, to] = [utcTime(notBefore), utcTime(notAfter)]
  if (!from || !to || serial.length !== 32 || publicKeyDer.length < 256) return undefined
  return [
    Buffer.from(serial, 'hex'),
    from,
    to,
    Buffer.from(id, 'latin1'),
    publicKeyDer,
    // The key identifier, by the first method of RFC 5280, 4.2.1.2.
    createHash('sha1').update(publicKeyDer.subarray(RSA_PUBLIC_KEY_AT)).digest(),
  ]
}

/** UTCTime, which ends with the year 2049; undefined: a date beyond it has another form. */
function utcTime(date: Date): Buffer | undefined {
  const text = date.toISOString()
  if (text < '1950' || text >= '2050') return undefined
  return Buffer.from(`${text.slice(2, 19).replace(/[-T:]/g, '')}Z`, 'latin1')
}

function placeOf(bytes: Buffer, part: Uint8Array): number | undefined {
  const place = bytes.indexOf(part)
  return place >= 0 && bytes.indexOf(part, place + 1) < 0 ? place : undefined
}

/** AlgorithmIdentifier of sha256WithRSAEncryption. */
const SHA256_WITH_RSA = Buffer.from('300d06092a864886f70d01010b0500', 'hex')

/** A whole certificate in PEM, of what was signed and the signature. */
export function certificatePem(signed: Buffer, signature: Buffer): string {
  const bits = der(0x03, Buffer.concat([Buffer.from([0]), signature]))
  const base64 = der(0x30, Buffer.concat([signed, SHA256_WITH_RSA, bits])).toString('base64')
  const lines = base64.match(/.{1,64}/g) ?? []
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`
}

/** One element of DER with 256 to 65,535 bytes of content. */
function der(tag: number, content: Buffer): Buffer {
  if (content.length < 256 || content.length > 0xffff)
    throw new RangeError('content: wanted 256 to 65535 bytes')
  return Buffer.concat([Buffer.from([tag, 0x82, content.length >> 8, content.length & 0xff]), content])
}
