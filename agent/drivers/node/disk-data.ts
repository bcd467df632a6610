import { EASY_CERTS, layoutOf } from '../../../shared/kubernetes/distributions.ts'
import type { System } from '../../system/system.ts'
import type { Distribution } from '../cluster-facts.ts'
import { authorityIdIn } from './certificates.ts'

/** What of any cluster lies on the disk. */
export type DiskData =
  | { readonly kind: 'none' }
  | {
      readonly kind: 'cluster'
      /** Whose layout it is; "kubernetes" stands for `components` and kubeadm's too, which share theirs. */
      readonly distribution: LaidOut
      readonly server: boolean
      /** SHA-256 (hex) of the SubjectPublicKeyInfo of its authority. */
      readonly authority: string
    }
  /** It is treated as a cluster that nobody may touch. */
  | { readonly kind: 'unreadable'; readonly reason: string }

export type LaidOut = Distribution | typeof EASY_CERTS

interface Layout {
  readonly distribution: LaidOut
  /** Any of these: data of a server. */
  readonly server: readonly string[]
  /** Any of these: the machine has joined as a worker. */
  readonly worker: readonly string[]
  /** The authority is in the first of these that is there. */
  readonly authority: readonly string[]
}

/** Where nixpkgs' module keeps what its own authority signs. */
const EASY_CERTS_DIR = '/var/lib/kubernetes/secrets'
const EASY_CERTS_AUTHORITY = `${EASY_CERTS_DIR}/ca.pem`

/** Of all distributions, whatever the machine is to run: nobody founds or joins over what another one left. */
const LAYOUTS: readonly Layout[] = [
  {
    distribution: 'k3s',
    server: ['/var/lib/rancher/k3s/server/db/etcd', '/var/lib/rancher/k3s/server/db/state.db'],
    worker: ['/var/lib/rancher/k3s/agent/client-kubelet.crt'],
    authority: ['/var/lib/rancher/k3s/server/tls/server-ca.crt', '/var/lib/rancher/k3s/agent/server-ca.crt'],
  },
  {
    distribution: 'k0s',
    server: ['/var/lib/k0s/etcd/member', '/var/lib/k0s/db/state.db', '/var/lib/k0s/pki/ca.key'],
    worker: ['/var/lib/k0s/kubelet.conf'],
    authority: ['/var/lib/k0s/pki/ca.crt', '/var/lib/k0s/kubelet.conf'],
  },
  {
    distribution: 'kubernetes',
    server: ['/var/lib/etcd/member', '/var/lib/kubernetes/pki/ca.key', '/etc/kubernetes/pki/ca.key'],
    worker: ['/var/lib/kubernetes/kubelet.conf', '/etc/kubernetes/kubelet.conf'],
    authority: ['/var/lib/kubernetes/pki/ca.crt', '/etc/kubernetes/pki/ca.crt'],
  },
  // nixpkgs' services.kubernetes with easyCerts; after the one before, whose data counts where both lie there.
  {
    distribution: EASY_CERTS,
    server: ['/var/lib/cfssl/ca-key.pem', `${EASY_CERTS_DIR}/kube-apiserver.pem`],
    worker: [`${EASY_CERTS_DIR}/kubelet-client.pem`, EASY_CERTS_AUTHORITY],
    authority: [EASY_CERTS_AUTHORITY, '/var/lib/cfssl/ca.pem'],
  },
]
const MAX_BYTES = 64 * 1024

export async function readDiskData(system: System): Promise<DiskData> {
  let without: string | undefined
  for (const layout of LAYOUTS) {
    const server = await anyPresent(system, layout.server)
    const worker = await anyPresent(system, layout.worker)
    for (const found of [server, worker])
      if (typeof found === 'string') return { kind: 'unreadable', reason: found }
    if (server !== true && worker !== true) continue
    const authority = await readAuthority(system, layout.authority)
    if (authority === undefined) {
      const where = layout.authority.join(' and ')
      without ??= `data of ${layout.distribution} without an authority that can be read in ${where}`
      continue
    }
    return { kind: 'cluster', distribution: layout.distribution, server: server === true, authority }
  }
  return without === undefined ? { kind: 'none' } : { kind: 'unreadable', reason: without }
}

/** Whether one of them is there; a text says what could not be told. */
async function anyPresent(system: System, paths: readonly string[]): Promise<boolean | string> {
  for (const path of paths) {
    const existence = await system.exists(path)
    if (existence.kind === 'present') return true
    if (existence.kind === 'unreadable') return `${path}: ${existence.code}`
  }
  return false
}

async function readAuthority(system: System, paths: readonly string[]): Promise<string | undefined> {
  for (const path of paths) {
    const reading = await system.readFile(path, MAX_BYTES)
    if (reading.kind === 'missing') continue
    return reading.kind === 'file' ? authorityIdIn(reading.bytes) : undefined
  }
  return undefined
}

/** Whether this is data that the driver of a distribution works with. */
export function isDataOf(data: DiskData, distribution: Distribution): boolean {
  if (data.kind !== 'cluster') return false
  return data.distribution === layoutOf(distribution)
}
