import type { LabMachine } from '../../lab/machine.ts'
import { waitUntil } from '../../support/wait-until.ts'
import type { ClusterFleet } from './cluster-fleet.ts'
import { type Host, programsOf, SERVERS } from './rendered-system.ts'

const DIR = '/var/lib/kubernetes'
const PKI = `${DIR}/pki`
/** Where the units look for what differs between a first start and a later one. */
const RUN = '/run/muster-cluster'
const SUPER = `--kubeconfig=${DIR}/super-admin.conf`
/** Of the cluster, not of one server. */
const SHARED = [
  ...['ca.crt', 'ca.key', 'sa.pub', 'sa.key', 'front-proxy-ca.crt', 'front-proxy-ca.key'],
  ...['etcd/ca.crt', 'etcd/ca.key'],
]
const CONTROL_PLANE = ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler']
/** Three control planes start one after the other. */
const START = { timeoutMs: 300_000 }

/**
 * Makes a cluster of `components` as somebody would without Muster, with kubeadm, etcdctl and systemctl: three servers and these
 * workers. No agent has a part in it.
 */
export async function makeByHand(made: ClusterFleet, workers: readonly Host[]): Promise<void> {
  const [founder, ...others] = SERVERS
  const members = [`${founder}=${peerUrl(made, founder)}`]
  await makeServer(made, founder, members, 'new')
  await letAdministratorsIn(made, founder)
  for (const host of others) {
    const url = peerUrl(made, host)
    // etcd takes the next one only when the one before has caught up.
    await waitUntil(
      `${host} is a member`,
      async () =>
        (await etcdctl(made, founder, 'member', 'add', host, `--peer-urls=${url}`)).code === 0 || undefined,
      { timeoutMs: 120_000, everyMs: 1_000 },
    )
    members.push(`${host}=${url}`)
    await makeServer(made, host, members, 'existing')
  }
  for (const host of workers) await makeWorker(made, host, founder)
  // Whoever makes a cluster leaves no token lying about.
  const tokens = [
    'delete',
    'secrets',
    '-n',
    'kube-system',
    '--field-selector=type=bootstrap.kubernetes.io/token',
  ]
  await waitUntil(
    'kubelets have certificates of their own',
    async () => {
      const own = ['test', '-e', '/var/lib/kubelet/pki/kubelet-client-current.pem']
      const ends = await Promise.all(workers.map(async host => await made.machine(host).exec(own)))
      return ends.every(({ code }) => code === 0) || undefined
    },
    { timeoutMs: 120_000, everyMs: 1_000 },
  )
  await untilDone(made, founder, kubectl(made, ...tokens))
  // Nor has everybody what kubeadm binds for kubelets that join: others approve each by hand.
  const bindings = [
    'kubelet-bootstrap',
    'node-autoapprove-bootstrap',
    'node-autoapprove-certificate-rotation',
  ]
  const names = bindings.map(name => `kubeadm:${name}`)
  await untilDone(made, founder, kubectl(made, 'delete', 'clusterrolebinding', ...names))
}

const peerUrl = (made: ClusterFleet, host: Host) => `https://${made.machine(host).address}:2380`
const programOf = (made: ClusterFleet, name: string) =>
  `${programsOf(made.distribution, made.version)}/${name}`

async function makeServer(
  made: ClusterFleet,
  host: Host,
  members: readonly string[],
  state: 'new' | 'existing',
): Promise<void> {
  const machine = made.machine(host)
  const founder = made.machine(SERVERS[0])
  if (host !== SERVERS[0]) {
    for (const name of SHARED) {
      const mode = name.endsWith('.key') ? '600' : '644'
      await machine.writeFile(`${PKI}/${name}`, await founder.readFile(`${PKI}/${name}`), mode)
    }
  }
  const config = '/root/kubeadm.json'
  await machine.writeFile(config, kubeadmConfig(made, host))
  const kubeadm = async (...words: readonly string[]) =>
    await machine.ok([programOf(made, 'kubeadm'), 'init', 'phase', ...words, `--config=${config}`], START)
  await kubeadm('certs', 'all')
  for (const name of ['admin', 'super-admin', 'controller-manager', 'scheduler'])
    await kubeadm('kubeconfig', name, `--kubeconfig-dir=${DIR}`)
  await machine.writeFile(
    `${RUN}/start.env`,
    `ETCD_INITIAL_CLUSTER=${members.join(',')}\nETCD_INITIAL_CLUSTER_STATE=${state}\n`,
    '600',
  )
  await letStart(machine, CONTROL_PLANE)
  await waitUntil(
    `API server of ${host}`,
    async () =>
      (await made.machine(host).exec(kubectl(made, 'get', '--raw', '/readyz'))).code === 0 || undefined,
    { timeoutMs: 180_000, everyMs: 1_000 },
  )
}

function kubeadmConfig(made: ClusterFleet, host: Host): string {
  const address = made.machine(host).address
  const names = SERVERS.flatMap(each => [each, made.machine(each).address])
  const init = {
    apiVersion: 'kubeadm.k8s.io/v1beta4',
    kind: 'InitConfiguration',
    localAPIEndpoint: { advertiseAddress: address, bindPort: 6443 },
    nodeRegistration: { name: host, criSocket: 'unix:///run/containerd/containerd.sock' },
  }
  const cluster = {
    apiVersion: 'kubeadm.k8s.io/v1beta4',
    kind: 'ClusterConfiguration',
    kubernetesVersion: `v${made.version}`,
    certificatesDir: PKI,
    controlPlaneEndpoint: `${address}:6443`,
    networking: { podSubnet: '10.244.0.0/16', serviceSubnet: '10.96.0.0/12' },
    apiServer: { certSANs: names },
    etcd: { local: { dataDir: '/var/lib/etcd', serverCertSANs: [address], peerCertSANs: [address] } },
  }
  return `${JSON.stringify(init)}\n---\n${JSON.stringify(cluster)}\n`
}

/** What `kubeadm init` would do at its end: administrators may do everything, and kubelets with a token ask for a certificate. */
async function letAdministratorsIn(made: ClusterFleet, founder: Host): Promise<void> {
  const binding = ['create', 'clusterrolebinding', 'kubeadm:cluster-admins', '--clusterrole=cluster-admin']
  await untilDone(made, founder, kubectl(made, ...binding, '--group=kubeadm:cluster-admins'))
  const words = ['init', 'phase', 'bootstrap-token', '--config=/root/kubeadm.json', SUPER]
  await untilDone(made, founder, [programOf(made, 'kubeadm'), ...words])
}

/** Tries again as a person would: an API server that has just become ready may be started once more. */
async function untilDone(made: ClusterFleet, host: Host, argv: readonly string[]): Promise<string> {
  return await waitUntil(
    argv.slice(0, 3).join(' '),
    async () => {
      const { code, stdout, stderr } = await made.machine(host).exec(argv, { timeoutMs: 60_000 })
      if (code === 0 || stderr.includes('already exists')) return stdout
      throw new Error(stderr)
    },
    { timeoutMs: 120_000, everyMs: 1_000 },
  )
}

async function makeWorker(made: ClusterFleet, host: Host, server: Host): Promise<void> {
  const machine = made.machine(host)
  const said = await untilDone(made, server, [
    programOf(made, 'kubeadm'),
    'token',
    'create',
    '--ttl=10m',
    SUPER,
  ])
  const token = said.trim().split('\n').at(-1) ?? ''
  await machine.writeFile(`${PKI}/ca.crt`, await made.machine(server).readFile(`${PKI}/ca.crt`))
  const conf = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [
      {
        name: 'c',
        cluster: {
          server: `https://${made.machine(server).address}:6443`,
          'certificate-authority': `${PKI}/ca.crt`,
        },
      },
    ],
    users: [{ name: 'u', user: { token } }],
    contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
    'current-context': 'x',
  }
  await machine.writeFile(`${RUN}/bootstrap-kubelet.conf`, `${JSON.stringify(conf)}\n`, '600')
  await letStart(machine, ['containerd', 'kubelet'])
}

async function letStart(machine: LabMachine, units: readonly string[]): Promise<void> {
  await machine.writeFile(`${RUN}/ready`, '')
  // Not waited for: a datastore that the others do not know yet ends, and systemd starts it again.
  await machine.ok(['systemctl', 'start', '--no-block', ...units], START)
}

const kubectl = (made: ClusterFleet, ...words: readonly string[]) => [
  programOf(made, 'kubectl'),
  SUPER,
  ...words,
]

async function etcdctl(made: ClusterFleet, host: Host, ...words: readonly string[]) {
  const files = [
    `--cacert=${PKI}/etcd/ca.crt`,
    `--cert=${PKI}/etcd/server.crt`,
    `--key=${PKI}/etcd/server.key`,
  ]
  const endpoint = '--endpoints=https://127.0.0.1:2379'
  return await made.machine(host).exec([programOf(made, 'etcdctl'), endpoint, ...files, ...words])
}
