import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { credentials } from '@grpc/grpc-js'
import { openSqlite } from '../../../coordinator/store/sqlite.ts'
import {
  type ClusterHost,
  ClusterService,
  ClusterStandingSchema,
  type GetClusterResponse,
} from '../../../shared/gen/muster/v1/cluster_pb.ts'
import { createClient, type RpcClient } from '../../../shared/rpc/client.ts'
import { buildAgentProgram } from '../../lab/agent-program.ts'
import type { KubernetesVersion } from '../../lab/clusters/programs.ts'
import { type LabFleet, startLabFleet } from '../../lab/lab-fleet.ts'
import type { LabMachine } from '../../lab/machine.ts'
import { type SystemOptions, writeSystemsFlake } from '../../lab/systems.ts'
import type { Finished, ProgramOptions } from '../../support/program.ts'
import { waitUntil } from '../../support/wait-until.ts'
import {
  type FixtureName,
  HOSTS,
  type Host,
  isPackaged,
  type LabDistribution,
  type Life,
  programsOf,
  RENDERED_VERSION,
  renderedFleetFile,
  renderedForeign,
  renderedSystem,
} from './rendered-system.ts'

/** The cluster's name in the fleet file. */
export const CLUSTER = 'lab'
/** What a coordinator may order in these machines. */
const ALLOWED = [
  ...['apply', 'upgrade', 'rollback', 'reboot', 'restart', 'join', 'drain', 'snapshot'],
  ...['leave', 'restore', 'rotate', 'kubeconfig', 'wipe'],
]
const COMMAND_MS = 15 * 60_000

export interface ClusterFleetOptions {
  readonly version?: KubernetesVersion
  readonly life?: Life
  readonly coordinatorConfig?: object
  /** Which fleet of the distribution; absent: the one that is named after it. */
  readonly fixture?: FixtureName
  /**
   * The machines are installed with the units of Kubernetes already, as those of somebody are who ran it without Muster; nothing
   * is bound, published or applied. The fleet directory holds these very systems.
   */
  readonly byHand?: boolean
  /** Hosts whose system somebody else manages (`os = "external"`); they get their Kubernetes by `muster cluster upgrade` alone. */
  readonly foreign?: readonly Host[]
}

/**
 * Five lab machines of one fleet directory, which only an operator's commands change: three servers and two workers of
 * the cluster `lab`. What their systems hold is what the Nix modules render.
 */
export class ClusterFleet implements AsyncDisposable {
  readonly lab: LabFleet
  readonly distribution: LabDistribution
  readonly directory: string
  readonly life: Life
  readonly fixture: FixtureName
  readonly foreign: readonly Host[]
  readonly #byHand: boolean
  #version: KubernetesVersion
  #clusters: RpcClient<typeof ClusterService> | undefined

  constructor(
    lab: LabFleet,
    directory: string,
    {
      distribution,
      fixture,
      version,
      life,
      byHand,
      foreign,
    }: {
      readonly distribution: LabDistribution
      readonly fixture: FixtureName
      readonly version: KubernetesVersion
      readonly life: Life
      readonly byHand: boolean
      readonly foreign: readonly Host[]
    },
  ) {
    this.lab = lab
    this.fixture = fixture
    this.directory = directory
    this.distribution = distribution
    this.life = life
    this.foreign = foreign
    this.#byHand = byHand
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
    if (this.foreign.includes(host))
      return renderedForeign(this, host, { version, agent, life: this.life }).system
    return {
      ...this.lab.firstSystem(host),
      ...(this.#byHand ? {} : { generation: '2' }),
      ...renderedSystem(this, host, { version, agent, life: this.life }),
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
    return await this.machine(host).exec(this.kubectlWords(...args), { timeoutMs: 60_000 })
  }

  async kubectl(host: string, ...args: readonly string[]): Promise<string> {
    return await this.machine(host).ok(this.kubectlWords(...args), { timeoutMs: 60_000 })
  }

  /** The command of a server's administrator. */
  kubectlWords(...args: readonly string[]): readonly string[] {
    const own = isPackaged(this.distribution) ? [] : ['--kubeconfig=/var/lib/kubernetes/admin.conf']
    return [...this.kubectlProgram(), ...own, ...args]
  }

  kubectlProgram(): readonly string[] {
    const bin =
      this.life === 'apart'
        ? '/nix/var/nix/profiles/muster-kubernetes/bin'
        : programsOf(this.distribution, this.#version)
    return isPackaged(this.distribution) ? [`${bin}/${this.distribution}`, 'kubectl'] : [`${bin}/kubectl`]
  }

  /** Installs a new machine in the place of a host's, under its name; it is not the one that was lost. */
  async replaceMachine(host: Host): Promise<void> {
    await this.editFleetFile(text => dropMachineKey(text, host))
    await this.publish()
    await this.lab.reinstall(host)
    await this.lab.untilOnline(host)
    await this.bindAll()
    await this.publish()
    await (this.foreign.includes(host) ? this.prepare() : this.apply(host))
  }

  /** Gives hosts that have not joined their Kubernetes, of the version that the cluster runs. */
  async prepare(): Promise<void> {
    await this.ok('cluster', 'upgrade', CLUSTER, this.#version, '--directory', this.directory)
  }

  /** Gives a machine an id, which its agent reads when it starts. */
  async takeMachineId(host: Host, id: string): Promise<void> {
    const machine = this.machine(host)
    await machine.writeFile('/etc/machine-id', id, '444')
    await machine.ok(['systemctl', 'restart', 'muster-agent'], { timeoutMs: 60_000 })
    await this.lab.untilShown(host, `with machine id ${id.trim()}`, ({ online }) => online)
  }

  /** Makes the coordinator say that a host's machine has another key, as one would that was taken over; the key before. */
  async substituteKey(host: Host, publicKeyDer: Uint8Array): Promise<Buffer> {
    const id = (await this.lab.shown(host))?.id
    await this.lab.fleet.coordinator?.kill()
    const store = openSqlite(join(this.lab.fleet.coordinatorState, 'store.sqlite'))
    try {
      const before = store.prepare('select public_key from machines where id = ?').pluck().get(id)
      const { changes } = store
        .prepare('update machines set public_key = ? where id = ?')
        .run(publicKeyDer, id)
      if (changes !== 1 || !Buffer.isBuffer(before))
        throw new Error(`the store has no machine ${id} of ${host}`)
      return before
    } finally {
      store.close()
      await this.lab.fleet.startCoordinator()
      await this.lab.untilOnline(host)
    }
  }

  /** Waits until the coordinator says that a host waits for something like this. */
  async untilWaits(host: Host, what: RegExp): Promise<void> {
    await this.untilShown(`${host} waits for ${what.source}`, ({ hosts }) =>
      hosts.some(one => one.host === host && one.waitsFor.some(reason => what.test(reason))),
    )
  }

  async bindAll(): Promise<void> {
    await this.ok('bind', '--all', '--directory', this.directory)
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
    timeoutMs = 10 * 60_000,
  ): Promise<GetClusterResponse> {
    let last: GetClusterResponse | undefined
    const look = async () => {
      last = await this.shown()
      return accept(last) ? last : undefined
    }
    return await waitUntil(what, look, { timeoutMs, everyMs: 500 }).catch(async (error: Error) => {
      throw new Error(`${error.message}\n${await this.lastWords(last)}`)
    })
  }

  async untilVoters(count: number, healthy = count): Promise<void> {
    await this.untilShown(
      `${count} voters, ${healthy} of them healthy`,
      ({ summary }) => summary?.voters === count && summary.healthyVoters === healthy,
    )
  }

  async untilJoined(...hosts: readonly string[]): Promise<GetClusterResponse> {
    return await this.untilShown(`${hosts.join(', ')} joined`, ({ hosts: shown }) =>
      hosts.every(host => shown.some(one => one.host === host && one.joined)),
    )
  }

  /** Hosts whose systems are the fleet's. */
  get own(): readonly Host[] {
    return HOSTS.filter(host => !this.foreign.includes(host))
  }

  /** The store paths of the systems that these run. */
  async systemsNow(): Promise<readonly string[]> {
    return await Promise.all(this.own.map(async host => (await this.machine(host).state()).current))
  }

  /** What a worker has in the place of its join token, as text. */
  async joinTokenOf(host: Host): Promise<string> {
    const machine = this.machine(host)
    if (!isPackaged(this.distribution))
      return await machine.readFile('/run/muster-cluster/bootstrap-kubelet.conf')
    const token = await machine.readFile('/run/muster-cluster/token')
    return this.distribution === 'k3s' ? token : gunzipSync(Buffer.from(token, 'base64')).toString('utf8')
  }

  /** Files of the coordinator, and its log, that hold one of these texts. */
  async findInCoordinator(texts: readonly string[]): Promise<readonly string[]> {
    const { coordinatorState, coordinator } = this.lab.fleet
    const files = await readdir(coordinatorState, { recursive: true, withFileTypes: true })
    const found: string[] = []
    for (const file of files.filter(entry => entry.isFile())) {
      const bytes = await readFile(join(file.parentPath, file.name))
      if (texts.some(text => bytes.includes(text))) found.push(file.name)
    }
    const said = `${coordinator?.stdout}${coordinator?.stderr}`
    return texts.some(text => said.includes(text)) ? [...found, 'log'] : found
  }

  /** The last lines of what the coordinator and the agents said, for a test that failed. */
  async lastWords(seen?: GetClusterResponse): Promise<string> {
    const cluster = seen ?? (await this.shown().catch(() => undefined))
    const said = await Promise.all(
      HOSTS.map(async host => {
        const machine = this.machine(host)
        if (!machine.running) return `${host}: off`
        return `== ${host}\n${(await machine.journal('muster-agent', '--lines=40')).slice(-8_000)}`
      }),
    )
    const coordinator = this.lab.fleet.coordinator
    return [
      cluster ? describeCluster(cluster) : 'nobody shows the cluster',
      ...said,
      `== coordinator\n${coordinator?.stdout.slice(-8_000)}`,
    ].join('\n')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#clusters?.[Symbol.dispose]()
    await this.lab[Symbol.asyncDispose]()
  }
}

/** As an operator does whose machine was replaced: its key is in the file no more, and the new one's is not there yet. */
function dropMachineKey(text: string, host: string): string {
  const [before, own = ''] = text.split(`[hosts.${host}]\n`)
  return `${before}[hosts.${host}]\n${own.replace(/^machine = .*\n/m, '')}`
}

function describeCluster({ summary, hosts }: GetClusterResponse): string {
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
  {
    version = RENDERED_VERSION,
    life = 'apart',
    coordinatorConfig = {},
    fixture = distribution,
    byHand = false,
    foreign = [],
  }: ClusterFleetOptions = {},
): Promise<ClusterFleet> {
  let directory = ''
  const agent = await buildAgentProgram()
  const installed = HOSTS.map(host => {
    const system = renderedSystem({ distribution, fixture }, host, { version, agent: agent.path, life })
    return [host, system] as const
  })
  const lab = await startLabFleet({
    machines: HOSTS,
    kubernetes: true,
    agent,
    ...(byHand && { systems: Object.fromEntries(installed) }),
    foreign: Object.fromEntries(
      foreign.map(host => {
        const { own } = renderedForeign({ distribution, fixture }, host, { version, agent: agent.path, life })
        return [host, own] as const
      }),
    ),
    agentConfig: { allow: ALLOWED },
    // Five Kubernetes share the processors: what says nothing for three seconds may only have had no turn.
    coordinatorConfig: { clusterAskSeconds: 3, heartbeatSeconds: 4, ...coordinatorConfig },
    prepareTrust: async fleet => {
      directory = join(fleet.dir, 'directory')
      await fleet.okWith(asOperator(fleet.dir), 'init', directory, '--name', 'lab')
      await fleet.okWith(asOperator(fleet.dir), 'trust', 'set')
    },
  })
  const made = new ClusterFleet(lab, directory, { distribution, fixture, version, life, byHand, foreign })
  try {
    await writeFleetFile(made, version)
    await made.writeSystems(version)
    if (byHand) return made
    await made.bindAll()
    await made.publish()
    await made.apply(...made.own)
    return made
  } catch (error) {
    await made[Symbol.asyncDispose]()
    throw error
  }
}

/** The fixtures' fleet file, of this fleet; nothing here waits for minutes. */
async function writeFleetFile(
  { fleetFile, fixture, life, foreign }: ClusterFleet,
  version: KubernetesVersion,
) {
  const id = /^id = "[^"]+"/m
  const own = id.exec(await readFile(fleetFile, 'utf8'))?.[0]
  if (own === undefined) throw new Error(`${fleetFile} names no fleet`)
  const text = renderedFleetFile(fixture)
    .replace(id, own)
    .replace('[defaults]\n', '[defaults]\nsoak = "1s"\nconfirm-within = "60s"\n')
    .replace('[clusters.', '[rollout]\nsoak = "2s"\n\n[clusters.')
    .replace(`version = "${RENDERED_VERSION}"`, `version = "${version}"`)
    .replace('life = "apart"', `life = "${life}"`)
  const marked = foreign.reduce(
    (before, host) => before.replace(`[hosts.${host}]\n`, `[hosts.${host}]\nos = "external"\n`),
    text,
  )
  await writeFile(fleetFile, marked)
}
