import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { credentials } from '@grpc/grpc-js'
import {
  type ClusterHost,
  ClusterService,
  ClusterStandingSchema,
  type GetClusterResponse,
} from '../../../shared/gen/muster/v1/cluster_pb.ts'
import { createClient, type RpcClient } from '../../../shared/rpc/client.ts'
import type { KubernetesVersion } from '../../lab/clusters/programs.ts'
import { type LabFleet, startLabFleet } from '../../lab/lab-fleet.ts'
import type { LabMachine } from '../../lab/machine.ts'
import { type SystemOptions, writeSystemsFlake } from '../../lab/systems.ts'
import type { Finished, ProgramOptions } from '../../support/program.ts'
import { waitUntil } from '../../support/wait-until.ts'
import {
  HOSTS,
  type Host,
  type LabDistribution,
  RENDERED_VERSION,
  renderedFleetFile,
  renderedSystem,
} from './rendered-system.ts'

/** The cluster's name in the fleet file. */
export const CLUSTER = 'lab'
/** What a coordinator may order in these machines. */
const ALLOWED = ['apply', 'rollback', 'reboot', 'drain']
const COMMAND_MS = 15 * 60_000

export interface ClusterFleetOptions {
  readonly version?: KubernetesVersion
  readonly coordinatorConfig?: object
}

/**
 * Five lab machines of one fleet directory, which only an operator's commands change: three servers and two workers of
 * the cluster `lab`. What their systems hold is what the Nix modules render.
 */
export class ClusterFleet implements AsyncDisposable {
  readonly lab: LabFleet
  readonly distribution: LabDistribution
  readonly directory: string
  #version: KubernetesVersion
  #clusters: RpcClient<typeof ClusterService> | undefined

  constructor(lab: LabFleet, distribution: LabDistribution, directory: string, version: KubernetesVersion) {
    this.lab = lab
    this.distribution = distribution
    this.directory = directory
    this.#version = version
  }

  machine(host: string): LabMachine {
    return this.lab.machine(host)
  }

  /** What the fleet file asks for. */
  get version(): KubernetesVersion {
    return this.#version
  }

  get clusters(): RpcClient<typeof ClusterService> {
    this.#clusters ??= createClient(
      ClusterService,
      `unix:${this.lab.fleet.socket}`,
      credentials.createInsecure(),
    )
    return this.#clusters
  }

  /** Runs the operator's command. */
  async muster(...args: readonly string[]): Promise<Finished> {
    return await this.lab.fleet.musterWith(asOperator(this.lab.fleet.dir), ...args)
  }

  /** Runs a command that must succeed; its standard output. */
  async ok(...args: readonly string[]): Promise<string> {
    return await this.lab.fleet.okWith(asOperator(this.lab.fleet.dir), ...args)
  }

  /** Writes flake and systems of all hosts into the fleet directory, for a version. */
  async writeSystems(version: KubernetesVersion, over: Readonly<Record<string, SystemOptions>> = {}) {
    this.#version = version
    const systems = HOSTS.map(host => [host, { ...this.systemOf(host, version), ...over[host] }] as const)
    await writeSystemsFlake(this.directory, Object.fromEntries(systems))
  }

  systemOf(host: Host, version: KubernetesVersion): SystemOptions {
    const agent = this.lab.agent.path
    return {
      ...this.lab.firstSystem(host),
      generation: '2',
      ...renderedSystem(this.distribution, host, { version, agent }),
    }
  }

  get fleetFile(): string {
    return join(this.directory, 'fleet.toml')
  }

  /** Changes the fleet file as an operator would with an editor. */
  async editFleetFile(change: (text: string) => string): Promise<void> {
    const before = await readFile(this.fleetFile, 'utf8')
    const after = change(before)
    if (after === before) throw new Error('the fleet file stayed as it was')
    await writeFile(this.fleetFile, after)
  }

  async publish(): Promise<void> {
    await this.ok('publish', this.directory)
  }

  async apply(...hosts: readonly string[]): Promise<void> {
    await this.ok('apply', ...hosts)
  }

  /** kubectl on a server, as its administrator. */
  async tryKubectl(host: string, ...args: readonly string[]): Promise<Finished> {
    return await this.machine(host).exec([...this.#kubectl(), ...args], { timeoutMs: 60_000 })
  }

  async kubectl(host: string, ...args: readonly string[]): Promise<string> {
    return await this.machine(host).ok([...this.#kubectl(), ...args], { timeoutMs: 60_000 })
  }

  #kubectl(): readonly string[] {
    const bin = '/nix/var/nix/profiles/muster-kubernetes/bin'
    return this.distribution === 'k3s' || this.distribution === 'k0s'
      ? [`${bin}/${this.distribution}`, 'kubectl']
      : [`${bin}/kubectl`, '--kubeconfig=/var/lib/kubernetes/admin.conf']
  }

  async createObject(host: string, object: object): Promise<void> {
    await this.machine(host).writeFile('/root/object.json', JSON.stringify(object))
    await this.kubectl(host, 'apply', '-f', '/root/object.json')
  }

  async shown(): Promise<GetClusterResponse> {
    return await this.clusters.getCluster({ name: CLUSTER })
  }

  /** Waits until the coordinator shows the cluster so; the error says what each host waits for. */
  async untilShown(
    what: string,
    accept: (shown: GetClusterResponse) => boolean,
    timeoutMs = 5 * 60_000,
  ): Promise<GetClusterResponse> {
    let last: GetClusterResponse | undefined
    const look = async () => {
      last = await this.shown()
      return accept(last) ? last : undefined
    }
    return await waitUntil(what, look, { timeoutMs, everyMs: 500 }).catch(async (error: Error) => {
      throw new Error(`${error.message}\n${last ? describeCluster(last) : ''}\n${await this.lastWords()}`)
    })
  }

  async untilJoined(...hosts: readonly string[]): Promise<GetClusterResponse> {
    return await this.untilShown(`${hosts.join(', ')} joined`, ({ hosts: shown }) =>
      hosts.every(host => shown.some(one => one.host === host && one.joined)),
    )
  }

  /** The last lines of what the coordinator and the agents said, for a test that failed. */
  async lastWords(): Promise<string> {
    const said = await Promise.all(
      HOSTS.map(async host => {
        const machine = this.machine(host)
        if (!machine.running) return `${host}: off`
        return `== ${host}\n${(await machine.journal('muster-agent', '--lines=15')).slice(-3_000)}`
      }),
    )
    const coordinator = this.lab.fleet.coordinator
    return [...said, `== coordinator\n${coordinator?.stdout.slice(-3_000)}`].join('\n')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#clusters?.[Symbol.dispose]()
    await this.lab[Symbol.asyncDispose]()
  }
}

export function describeCluster({ summary, hosts }: GetClusterResponse): string {
  const head = `${CLUSTER}: ${ClusterStandingSchema.value[summary?.standing ?? 0]?.localName}, voters ${summary?.healthyVoters}/${summary?.voters}`
  return [head, ...hosts.map(describeHost)].join('\n')
}

const describeHost = ({ host, joined, version, waitsFor }: ClusterHost): string =>
  `${host}: ${joined ? 'joined' : 'not joined'} ${version} ${waitsFor.join('; ')}`

const operatorFolder = (dir: string): string => join(dir, 'operator')
const asOperator = (dir: string): ProgramOptions => ({
  env: { MUSTER_CONFIG_HOME: operatorFolder(dir) },
  timeoutMs: COMMAND_MS,
})

/**
 * Enrols five machines, binds them by their keys, publishes what the modules render for a distribution, and applies it to
 * all. From here on Muster alone makes the cluster.
 */
export async function startClusterFleet(
  distribution: LabDistribution,
  { version = RENDERED_VERSION, coordinatorConfig = {} }: ClusterFleetOptions = {},
): Promise<ClusterFleet> {
  let directory = ''
  const lab = await startLabFleet({
    machines: HOSTS,
    kubernetes: true,
    agentConfig: { allow: ALLOWED },
    coordinatorConfig,
    prepareTrust: async fleet => {
      directory = join(fleet.dir, 'directory')
      await fleet.okWith(asOperator(fleet.dir), 'init', directory, '--name', 'lab')
      await fleet.okWith(asOperator(fleet.dir), 'trust', 'set')
    },
  })
  const made = new ClusterFleet(lab, distribution, directory, version)
  try {
    await writeFleetFile(made, version)
    await made.writeSystems(version)
    await made.ok('bind', '--all', '--directory', directory)
    await made.publish()
    await made.apply(...HOSTS)
    return made
  } catch (error) {
    await made[Symbol.asyncDispose]()
    throw error
  }
}

/** The fixtures' fleet file, of this fleet; nothing here waits for minutes. */
async function writeFleetFile({ fleetFile, distribution }: ClusterFleet, version: KubernetesVersion) {
  const id = /^id = "[^"]+"/m
  const own = id.exec(await readFile(fleetFile, 'utf8'))?.[0]
  if (own === undefined) throw new Error(`${fleetFile} names no fleet`)
  const text = renderedFleetFile(distribution)
    .replace(id, own)
    .replace('[defaults]\n', '[defaults]\nsoak = "1s"\nconfirm-within = "60s"\n')
    .replace(`version = "${RENDERED_VERSION}"`, `version = "${version}"`)
  await writeFile(fleetFile, text)
}
