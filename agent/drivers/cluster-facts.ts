import { at, isObject, readObject, textAt, textsAt } from '../../shared/read-value.ts'
import type { System } from '../system/system.ts'

/** Where the host's configuration says what the machine is in its cluster; it holds no secret. */
export const CLUSTER_FACTS = '/etc/muster/cluster.json'
const MAX_BYTES = 256 * 1024

export const DISTRIBUTIONS = ['k3s', 'k0s', 'kubernetes', 'components'] as const
export type Distribution = (typeof DISTRIBUTIONS)[number]
export type NodeRole = 'server' | 'worker' | 'server+worker'

/** What the configuration says of this machine in its cluster. */
export interface ClusterFacts {
  readonly cluster: string
  readonly distribution: Distribution
  readonly role: NodeRole
  /** Such as "1.34.3"; undefined: whatever the host's closure brings. */
  readonly version: string | undefined
  readonly life: 'apart' | 'with-system'
  /** The cluster's own address, beside those of its servers. */
  readonly endpoint: string | undefined
  readonly apiPort: number
  readonly podCidr: string | undefined
  readonly serviceCidr: string | undefined
  readonly clusterDomain: string
  /** undefined: a unit finds it out at boot and writes it to `NODE_ADDRESS`. */
  readonly nodeAddress: string | undefined
  /** undefined: the machine's host name. */
  readonly nodeName: string | undefined
  /** Servers by their names, with the addresses that are known from the fleet file. */
  readonly servers: ReadonlyMap<string, string | undefined>
  /** Names and addresses that the API server's certificate must hold. */
  readonly certificateNames: readonly string[]
  /** In the order in which they start. */
  readonly units: readonly string[]
  /** Files below /etc that the units read at their start, besides what lies in the store. */
  readonly files: readonly string[]
  /** Of life "apart": the profile that holds the programs. */
  readonly profile: string | undefined
  /** Folders in which the programs are looked for, in this order. */
  readonly programs: readonly string[]
  /** Of `kubernetes` and `components`: where a server's etcd keeps its data. */
  readonly etcdDataDir: string
  /** Of `kubernetes` and `components`: undefined: none runs here. k3s and k0s see to their own. */
  readonly kubelet?: KubeletFacts | undefined
  /** What runs containers beside Kubernetes; undefined: a configuration of before this was told, or k3s and k0s, which bring their own. */
  readonly runtime?: RuntimeFacts | undefined
}

export interface RuntimeFacts {
  /** Such as containerd.service. No switch restarts them. */
  readonly units: readonly string[]
  /** Files and folders below /etc that they read at their start, besides what lies in the store. */
  readonly files: readonly string[]
}

export interface KubeletFacts {
  /** Where it keeps the volumes of its pods. */
  readonly folder: string
  /** Where it finds what runs its containers, such as unix:///run/containerd/containerd.sock. */
  readonly runtime: string
}

export const ETCD_DATA = '/var/lib/etcd'

/** Where the address is written that the machine has found out. */
export const NODE_ADDRESS = '/run/muster-node/address'

export type FactsReading =
  | { readonly kind: 'facts'; readonly facts: ClusterFacts }
  /** The machine is in no cluster. */
  | { readonly kind: 'none' }
  | { readonly kind: 'unreadable'; readonly reason: string }

export async function readClusterFacts(system: System): Promise<FactsReading> {
  const reading = await system.readFile(CLUSTER_FACTS, MAX_BYTES)
  if (reading.kind === 'missing') return { kind: 'none' }
  if (reading.kind === 'unreadable') return unreadable(reading.code)
  if (reading.truncated) return unreadable(`longer than ${MAX_BYTES} bytes`)
  return parseClusterFacts(reading.bytes.toString('utf8'))
}

export function parseClusterFacts(text: string): FactsReading {
  const value = readObject(text)
  if (!value) return unreadable('holds no JSON object')
  const cluster = textAt(value, 'cluster')
  const distribution = DISTRIBUTIONS.find(name => name === textAt(value, 'distribution'))
  const role = ROLES.find(name => name === textAt(value, 'role'))
  const life = LIVES.find(name => name === textAt(value, 'life'))
  const apiPort = at(value, 'apiPort')
  const servers = readServers(at(value, 'servers'))
  const units = textsAt(value, 'units')
  const programs = textsAt(value, 'programs')
  const certificateNames = textsAt(value, 'certificateNames')
  const files = at(value, 'files') === undefined ? [] : textsAt(value, 'files')
  if (cluster === undefined || cluster === '') return unreadable('cluster: wanted a name')
  if (!distribution) return unreadable(`distribution: wanted one of ${DISTRIBUTIONS.join(', ')}`)
  if (!role) return unreadable(`role: wanted one of ${ROLES.join(', ')}`)
  if (!life) return unreadable(`life: wanted one of ${LIVES.join(', ')}`)
  if (typeof apiPort !== 'number' || !Number.isInteger(apiPort) || apiPort < 1 || apiPort > 65_535)
    return unreadable('apiPort: wanted a port')
  if (!servers) return unreadable('servers: wanted addresses by name, or null for one that is not fixed')
  if (!units?.every(isService)) return unreadable('units: wanted names of services')
  if (!programs?.every(folder => folder.startsWith('/')))
    return unreadable('programs: wanted absolute folders')
  if (!files?.every(isBelowEtc)) return unreadable('files: wanted absolute paths below /etc')
  if (!certificateNames) return unreadable('certificateNames: wanted a list of texts')
  const optional = (key: string) => textAt(value, key) || undefined
  const etcdDataDir = optional('etcdDataDir') ?? ETCD_DATA
  // It is emptied when the machine is wiped.
  if (!isDeepFolder(etcdDataDir))
    return unreadable('etcdDataDir: wanted an absolute folder, not one at the top')
  const kubelet = readKubelet(at(value, 'kubelet'), distribution, units)
  if (typeof kubelet === 'string') return unreadable(`kubelet: ${kubelet}`)
  const runtime = readRuntime(at(value, 'runtime'))
  if (typeof runtime === 'string') return unreadable(`runtime: ${runtime}`)
  const facts = {
    cluster,
    distribution,
    role,
    life,
    apiPort,
    servers,
    units,
    programs,
    certificateNames,
    files,
    etcdDataDir,
    version: optional('version'),
    endpoint: optional('endpoint'),
    podCidr: optional('podCidr'),
    serviceCidr: optional('serviceCidr'),
    clusterDomain: optional('clusterDomain') ?? 'cluster.local',
    nodeAddress: optional('nodeAddress'),
    nodeName: optional('nodeName'),
    profile: optional('profile'),
    ...(kubelet && { kubelet }),
    ...(runtime && { runtime }),
  }
  return { kind: 'facts', facts }
}

const ROLES = ['server', 'worker', 'server+worker'] as const
const LIVES = ['apart', 'with-system'] as const

/** An absolute folder, not one at the top. */
const isDeepFolder = (path: string): boolean =>
  /^(?:\/[\w.@:-]+){2,}$/.test(path) && !path.split('/').includes('..')

const KUBELET_FOLDERS = { components: '/var/lib/kubelet', kubernetes: '/var/lib/kubernetes' } as const
const CONTAINERD = 'unix:///run/containerd/containerd.sock'

/** A text says what is wrong with it. A configuration of before this was told has what the modules had by default. */
function readKubelet(
  value: unknown,
  distribution: Distribution,
  units: readonly string[],
): KubeletFacts | string | undefined {
  if (distribution !== 'components' && distribution !== 'kubernetes') return undefined
  if (value === undefined && !units.includes('kubelet.service')) return undefined
  const folder = textAt(value, 'folder') ?? KUBELET_FOLDERS[distribution]
  const said = textAt(value, 'runtime') ?? CONTAINERD
  // A kubelet takes the path alone, too.
  const runtime = said.startsWith('/') ? `unix://${said}` : said
  // Below it is emptied when the machine is wiped.
  if (!isDeepFolder(folder)) return 'wanted an absolute folder, not one at the top'
  return runtime.startsWith('unix:///') ? { folder, runtime } : 'wanted a socket (unix:///…) for runtime'
}

/** A text says what is wrong with it. */
function readRuntime(value: unknown): RuntimeFacts | string | undefined {
  if (value === undefined) return undefined
  const [units, files] = [textsAt(value, 'units'), textsAt(value, 'files')]
  if (!units?.every(isService)) return 'wanted names of services for units'
  if (!files?.every(isBelowEtc)) return 'wanted absolute paths below /etc for files'
  return { units, files }
}

const isService = (unit: string): boolean => /^[\w@.:-]+\.service$/.test(unit)
const isBelowEtc = (path: string): boolean => path.startsWith('/etc/') && !path.split('/').includes('..')

function readServers(value: unknown): ReadonlyMap<string, string | undefined> | undefined {
  if (!isObject(value)) return undefined
  const servers = new Map<string, string | undefined>()
  for (const [name, address] of Object.entries(value)) {
    if (typeof address !== 'string' && address !== null) return undefined
    servers.set(name, address ?? undefined)
  }
  return servers
}

function unreadable(reason: string): FactsReading {
  return { kind: 'unreadable', reason: `${CLUSTER_FACTS}: ${reason}` }
}

export const isServerRole = (role: NodeRole): boolean => role !== 'worker'
export const isWorkerRole = (role: NodeRole): boolean => role !== 'server'
