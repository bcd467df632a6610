import { succeeded } from '../../system/system.ts'
import { type Distributed, hostOf } from '../driver-base.ts'
import { DONE, failedEnding, type Result } from '../result.ts'
import { runProgram } from '../run-program.ts'

export const KUBERNETES_DIR = '/var/lib/kubernetes'
export const PKI = `${KUBERNETES_DIR}/pki`
/** Of the cluster, not of one server: a server that joins is given them, and makes the rest itself. */
export const AUTHORITY_FILES = [
  ...['ca.crt', 'ca.key', 'sa.pub', 'sa.key', 'front-proxy-ca.crt', 'front-proxy-ca.key'],
  ...['etcd/ca.crt', 'etcd/ca.key'],
] as const
const KUBECONFIGS = ['admin', 'controller-manager', 'scheduler'] as const
const CALL_MS = 120_000

/** What kubeadm needs to know to make this server's certificates and kubeconfigs; it is JSON, which is YAML. */
export function kubeadmConfig(server: {
  readonly node: string
  readonly address: string
  readonly port: number
  readonly version: string
  readonly names: readonly string[]
  readonly podCidr: string | undefined
  readonly serviceCidr: string | undefined
  readonly domain: string
  readonly etcdDataDir: string
}): string {
  const { node, address, port, version, names, podCidr, serviceCidr, domain, etcdDataDir } = server
  const own = [...new Set([node, address])]
  const init = {
    apiVersion: 'kubeadm.k8s.io/v1beta4',
    kind: 'InitConfiguration',
    localAPIEndpoint: { advertiseAddress: address, bindPort: port },
    nodeRegistration: { name: node, criSocket: 'unix:///run/containerd/containerd.sock' },
  }
  const cluster = {
    apiVersion: 'kubeadm.k8s.io/v1beta4',
    kind: 'ClusterConfiguration',
    kubernetesVersion: `v${version}`,
    certificatesDir: PKI,
    // Every kubeconfig of a server leads to that server itself.
    controlPlaneEndpoint: `${hostOf(address)}:${port}`,
    networking: {
      dnsDomain: domain,
      ...(podCidr === undefined ? {} : { podSubnet: podCidr }),
      ...(serviceCidr === undefined ? {} : { serviceSubnet: serviceCidr }),
    },
    apiServer: { certSANs: [...new Set([...names, ...own])] },
    etcd: { local: { dataDir: etcdDataDir, serverCertSANs: own, peerCertSANs: own } },
  }
  return `${JSON.stringify(init)}\n---\n${JSON.stringify(cluster)}\n`
}

/** Makes what is missing: on a founder the authorities too, on others by those that they were given. */
export async function makeCertificates(
  of: Distributed,
  config: string,
  founding: boolean,
  signal?: AbortSignal,
): Promise<Result<void>> {
  const { files } = of.deps
  const path = `${files.runDir}/kubeadm.yaml`
  await files.makeFolder(files.runDir)
  await files.write(path, config)
  const phases: string[][] = [
    ['certs', 'all'],
    ...KUBECONFIGS.map(name => ['kubeconfig', name]),
    // Only with it can the first bindings be made.
    ...(founding ? [['kubeconfig', 'super-admin']] : []),
  ]
  for (const phase of phases) {
    const folder = phase[0] === 'kubeconfig' ? [`--kubeconfig-dir=${KUBERNETES_DIR}`] : []
    const args = ['init', 'phase', ...phase, `--config=${path}`, ...folder]
    const made = await runProgram(of.programs, 'kubeadm', { args, deadlineMs: CALL_MS, signal })
    if (made.kind === 'failed') return made
  }
  return await giveToUsers(of, signal)
}

/**
 * nixpkgs' module runs its services as users of their own; each may read its keys and no other's. What the agent and kubeadm make is
 * root's alone: the folders are opened for walking through, and certificates, which are no secrets, for reading.
 */
export async function giveToUsers(of: Distributed, signal: AbortSignal | undefined): Promise<Result<void>> {
  const { deps } = of
  if (deps.facts.distribution !== 'kubernetes') return DONE
  const { files, system } = deps
  const etcd = (await files.list(`${PKI}/etcd`)).map(name => `${PKI}/etcd/${name}`)
  const others = (await files.list(PKI)).filter(name => name !== 'etcd').map(name => `${PKI}/${name}`)
  const confs = (await files.list(KUBERNETES_DIR)).flatMap(name =>
    /^(controller-manager|scheduler)\.conf$/.test(name) ? [`${KUBERNETES_DIR}/${name}`] : [],
  )
  const changes: readonly (readonly [program: string, to: string, paths: readonly string[]])[] = [
    ['chmod', '0755', [PKI, `${PKI}/etcd`]],
    ['chmod', '0644', [...others, ...etcd].filter(path => /\.(crt|pub)$/.test(path))],
    ['chown', 'etcd:etcd', etcd],
    ['chown', 'kubernetes:kubernetes', [...others, ...confs]],
  ]
  for (const [program, to, paths] of changes) {
    if (paths.length === 0) continue
    const changed = await system.run(program, [to, ...paths], { deadlineMs: CALL_MS, signal })
    if (!succeeded(changed.ending))
      return failedEnding(`${program} ${to}: giving keys to their services`, changed.ending, changed.stderr)
  }
  return DONE
}

/** A kubeconfig with which a kubelet asks for its certificate. */
export function bootstrapKubeconfig(authorityPem: string, server: string, token: string): string {
  return `${JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [
      {
        name: 'cluster',
        cluster: {
          server: `https://${server}`,
          'certificate-authority-data': Buffer.from(authorityPem).toString('base64'),
        },
      },
    ],
    users: [{ name: 'bootstrap', user: { token } }],
    contexts: [{ name: 'bootstrap', context: { cluster: 'cluster', user: 'bootstrap' } }],
    'current-context': 'bootstrap',
  })}\n`
}
