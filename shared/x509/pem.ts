import { X509Certificate } from 'node:crypto'

const BLOCK = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g

/** The certificates of a PEM text, in order, each with a line end. Throws when there are more than `max`. */
export function splitCertificates(pem: string, max = 16): string[] {
  const blocks = pem.match(BLOCK) ?? []
  if (blocks.length > max)
    throw new RangeError(`${blocks.length} certificates in one PEM text, at most ${max} are read`)
  return blocks.map(block => `${block}\n`)
}

/** The certificates of a PEM text in DER, in order. Throws on what is no certificate. */
export function certificatesToDer(pem: string, max = 16): Buffer[] {
  return splitCertificates(pem, max).map(block => new X509Certificate(block).raw)
}
