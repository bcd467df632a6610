import { createHash, X509Certificate } from 'node:crypto'
import { done, failed, type Result } from '../result.ts'
import type { ClusterFiles } from './cluster-files.ts'

/** When a certificate ends. */
export interface CertificateEnd {
  readonly path: string
  readonly subject: string
  readonly beganMs: number
  readonly endsMs: number
  readonly authority: boolean
}

const MAX_FILES = 200
const MAX_BYTES = 1024 * 1024

/** What a kubelet keeps of certificates that it had before: the newest one has "current" in its name. */
const OF_BEFORE = /^kubelet-(client|server)-\d{4}-.*\.pem$/

/**
 * The ends of all certificates in these folders, the next one first. Names that end in .crt, .pem or .cert are read, and of
 * kubeconfigs (.conf) the certificate that they hold, where they hold one.
 */
export async function readCertificateEnds(
  files: ClusterFiles,
  folders: readonly string[],
): Promise<Result<readonly CertificateEnd[]>> {
  const ends: CertificateEnd[] = []
  for (const folder of folders) {
    for (const name of (await files.list(folder)).slice(0, MAX_FILES)) {
      if (!/\.(crt|pem|cert|conf)$/.test(name) || OF_BEFORE.test(name)) continue
      const path = `${folder}/${name}`
      const file = await files.read(path)
      const bytes = file && name.endsWith('.conf') ? clientInKubeconfig(file.toString('latin1')) : file
      if (!bytes) continue
      const certificate = readCertificate(bytes)
      if (!certificate) return failed('unreadable', `${path}: holds no certificate`)
      ends.push({
        path,
        subject: certificate.subject.replaceAll('\n', ', '),
        beganMs: Date.parse(certificate.validFrom),
        endsMs: Date.parse(certificate.validTo),
        authority: certificate.ca,
      })
    }
  }
  return done(ends.sort((a, b) => a.endsMs - b.endsMs))
}

/** The first certificate of a file; what stands before it, such as a key, is passed over. */
export function readCertificate(bytes: Buffer): X509Certificate | undefined {
  if (bytes.length > MAX_BYTES) return undefined
  const pem = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/.exec(
    bytes.toString('latin1'),
  )?.[0]
  try {
    return pem === undefined ? undefined : new X509Certificate(pem)
  } catch {
    return undefined
  }
}

/** SHA-256 (hex) of the SubjectPublicKeyInfo of a certificate: what names a cluster, however often it is signed anew. */
export function authorityId(bytes: Buffer): string | undefined {
  const spki = readCertificate(bytes)?.publicKey.export({ type: 'spki', format: 'der' })
  return spki === undefined ? undefined : createHash('sha256').update(spki).digest('hex')
}

/** The authority that a kubeconfig holds; undefined: it names a file, or none. */
export function authorityInKubeconfig(text: string): Buffer | undefined {
  const data = /^\s*"?certificate-authority-data"?:\s*"?([A-Za-z0-9+/=]+)/m.exec(text)?.[1]
  return data === undefined ? undefined : Buffer.from(data, 'base64')
}

/** The certificate that a kubeconfig shows to the API server; undefined: it names a file, or none. */
function clientInKubeconfig(text: string): Buffer | undefined {
  const data = /^\s*"?client-certificate-data"?:\s*"?([A-Za-z0-9+/=]+)/m.exec(text)?.[1]
  return data === undefined ? undefined : Buffer.from(data, 'base64')
}

/** The authority's id by a file of its certificate or by a kubeconfig. */
export function authorityIdIn(bytes: Buffer): string | undefined {
  return authorityId(authorityInKubeconfig(bytes.toString('latin1')) ?? bytes)
}

/** Names of the certificates in a folder that are no authorities, without their endings: what can be made anew. */
export async function leafNames(files: ClusterFiles, folder: string): Promise<readonly string[]> {
  const names: string[] = []
  for (const name of await files.list(folder)) {
    if (!name.endsWith('.crt')) continue
    const bytes = await files.read(`${folder}/${name}`)
    const certificate = bytes && readCertificate(bytes)
    if (certificate && !certificate.ca) names.push(name.slice(0, -'.crt'.length))
  }
  return names
}
