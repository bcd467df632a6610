import { join } from 'node:path'
import { CLUSTER_FACTS, parseClusterFacts } from '../../drivers/cluster-facts.ts'
import type { DriverReading } from '../../drivers/create-driver.ts'
import type { ClusterDriver, Snapshot } from '../../drivers/driver.ts'
import { DONE, done, failed } from '../../drivers/result.ts'
import { type DriverFixture, makeDriver } from '../../drivers/testing/driver-fixture.ts'
import { CURRENT, NEW, OLD } from '../../operation/testing/sample-machine.ts'
import type { ScriptedSystem } from '../../operation/testing/scripted-system.ts'
import type { NodeKubernetes } from '../node-kubernetes.ts'
import { KUBERNETES_PROFILE } from '../profile.ts'

const UNIT = 'k3s.service'
const UNITS = 'etc/systemd/system'
const RUNTIME = 'containerd.service'
const RUNTIME_CONFIG = '/etc/containerd/config.toml'
const CONFIG = '/etc/rancher/k3s/config.yaml'

export interface PartOfSystem {
  readonly version?: string | null
  readonly life?: 'with-system' | 'apart'
  readonly role?: string
  readonly cluster?: string
  readonly servers?: Readonly<Record<string, string>>
  /** What of the unit differs. */
  readonly unit?: string
  /** What the unit reads at its start. */
  readonly config?: string
  /** What its container runtime reads at its start; undefined: it has none beside Kubernetes. */
  readonly runtime?: string
  /** Where its container runtime is reached. */
  readonly endpoint?: string
}

/**
 * The Kubernetes of a scripted machine, as far as operations see it: which version runs, what was done to it, and what the
 * systems in its store say of it.
 */
export class ScriptedKubernetes implements NodeKubernetes {
  readonly acts: string[] = []
  /** Version that runs; undefined: none. */
  runs: string | undefined = '1.34.3'
  ours = true
  api: string | undefined
  /** Why a started Kubernetes is not well; undefined: it is. */
  broken: string | undefined
  snapshotFails = false
  runtimeReady = true
  /** Why the datastore does not bear a restart; undefined: it does. */
  alone: string | undefined
  /** Asked in its place, each time. */
  onWhyNotStop: (() => string | undefined) | undefined
  /** Called at each restart. */
  onRestart: () => Promise<void> | void = () => {}
  readonly snapshots: Snapshot[] = []
  readonly #system: ScriptedSystem
  readonly #fixture: DriverFixture

  private constructor(system: ScriptedSystem, fixture: DriverFixture) {
    this.#system = system
    this.#fixture = fixture
  }

  static async on(
    system: ScriptedSystem,
    old: PartOfSystem,
    next: PartOfSystem,
  ): Promise<ScriptedKubernetes> {
    const fixture = await makeDriver({}, [])
    const kubernetes = new ScriptedKubernetes(system, fixture)
    kubernetes.describe(OLD, old)
    kubernetes.describe(NEW, next)
    system.scripts.set('systemctl', args => {
      kubernetes.acts.push(`systemctl ${args.join(' ')}`)
      return {}
    })
    return kubernetes
  }

  /** Writes what a system brings of Kubernetes. */
  describe(toplevel: string, part: PartOfSystem): void {
    const {
      version = null,
      life = 'with-system',
      role = 'server',
      cluster = 'home',
      servers = {},
      unit = '',
      config = '',
      runtime,
      endpoint = 'unix:///run/containerd/containerd.sock',
    } = part
    const facts = {
      cluster,
      distribution: 'k3s',
      role,
      version,
      life,
      endpoint: null,
      apiPort: 6443,
      servers,
      podCidr: null,
      serviceCidr: null,
      clusterDomain: 'cluster.local',
      nodeAddress: '10.91.0.10',
      certificateNames: [],
      units: [UNIT],
      profile: null,
      programs: [],
      nodeName: 'olaf',
      files: [CONFIG],
      ...(runtime !== undefined && {
        distribution: 'components',
        kubelet: { folder: '/var/lib/kubelet', runtime: endpoint },
        runtime: { units: [RUNTIME], files: [RUNTIME_CONFIG] },
      }),
    }
    if (runtime !== undefined) {
      this.#system.files.set(join(toplevel, UNITS, RUNTIME), '[Service]\nExecStart=/containerd\n')
      this.#system.files.set(join(toplevel, RUNTIME_CONFIG), runtime)
    }
    this.#system.files.set(join(toplevel, 'etc/muster/cluster.json'), JSON.stringify(facts))
    this.#system.files.set(join(toplevel, CONFIG), config)
    this.#system.files.set(join(toplevel, UNITS, UNIT), `[Service]\nExecStart=/k3s ${version} ${unit}\n`)
    if (toplevel === OLD) this.#system.files.set(CLUSTER_FACTS, JSON.stringify(facts))
  }

  /** Which version a package of the profile is, by its name. */
  #installed(programs: string | undefined): string | undefined {
    const place = programs ?? this.#profile() ?? ''
    return /(\d+\.\d+\.\d+)/.exec(place)?.[1] ?? (this.#facts()?.version || undefined)
  }

  #profile(): string | undefined {
    const profile = join('/root', KUBERNETES_PROFILE)
    const first = this.#system.links.get(profile)
    return first === undefined ? undefined : this.#system.links.get(join(profile, '..', first))
  }

  #facts() {
    const text = this.#system.files.get(
      join(this.#system.links.get(CURRENT) ?? '', 'etc/muster/cluster.json'),
    )
    const parsed = text === undefined ? undefined : parseClusterFacts(text)
    return parsed?.kind === 'facts' ? parsed.facts : undefined
  }

  isOurs = async (): Promise<boolean> => this.ours
  isForeign = async (): Promise<boolean> => !this.ours
  runtimeConditions: NodeKubernetes['runtimeConditions'] = async () =>
    done(
      new Map(
        ['RuntimeReady', 'NetworkReady'].map(name => [
          name,
          { holds: this.runtimeReady, reason: 'made-up', message: '' },
        ]),
      ),
    )
  readNode: NodeKubernetes['readNode'] = async () => ({ kind: 'ready' })
  apiVersion = async (): Promise<string | undefined> => this.api

  open = async (programs?: string): Promise<DriverReading> => {
    const facts = this.#facts()
    return facts ? { kind: 'driver', driver: this.#driver({ ...facts }, programs) } : { kind: 'none' }
  }

  #driver(facts: ClusterDriver['facts'], programs: string | undefined): ClusterDriver {
    const { driver } = this.#fixture
    const well = () => this.runs !== undefined && this.broken === undefined
    return {
      ...driver,
      facts,
      readState: async () => ({
        data: { kind: 'none' },
        unfinished: undefined,
        held: false,
        adopted: undefined,
        address: undefined,
        machineId: undefined,
        bootId: undefined,
        kubeletStartedMs: undefined,
        units: new Map([
          [UNIT, { active: well() ? 'active' : 'failed', heldByCondition: false, result: 'exit-code' }],
        ]),
        installedVersion: this.#installed(programs),
        runningVersion: well() ? this.runs : undefined,
      }),
      restart: async () => {
        this.acts.push('restart')
        this.runs = this.#installed(undefined)
        await this.onRestart()
        return DONE
      },
      cluster: {
        ...driver.cluster,
        whyNotStop: async () => done(this.onWhyNotStop ? this.onWhyNotStop() : this.alone),
        proveServer: async version =>
          version === this.runs ? done({ version, members: [] }) : failed('not-ready', `runs ${this.runs}`),
        snapshot: async name => {
          this.acts.push('snapshot')
          if (this.snapshotFails) return failed('quorum', 'no majority')
          const snapshot = { name, path: `/s/${name}`, bytes: 1, madeMs: this.snapshots.length }
          this.snapshots.push(snapshot)
          return done(snapshot)
        },
        listSnapshots: async () => done(this.snapshots),
      },
    }
  }
}
