import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import {
  type ClusterOrder,
  ClusterOrderSchema,
  type ClusterReport,
  ClusterReportSchema,
  type ClusterStepEnded,
  type SealedSecret,
} from '../../../shared/gen/muster/v1/cluster_pb.ts'
import type { Envelope } from '../../../shared/gen/muster/v1/envelope_pb.ts'
import type { ClusterEntrySchema } from '../../../shared/gen/muster/v1/manifest_pb.ts'
import { randomId } from '../../../shared/ids.ts'
import type { OperatorOrder } from '../../../shared/operator-order/operator-order.ts'
import { signOperatorOrder } from '../../../shared/operator-order/sign-operator-order.ts'
import {
  sampleFleetId,
  sampleKey,
  sampleNow,
  sampleRevision,
  sampleTarget,
  sampleTrust,
} from '../../../shared/revision/testing/sample-fleet.ts'
import { keyId } from '../../../shared/x509/key-id.ts'
import { type GeneratedKey, generateMachineKey } from '../../../shared/x509/machine-key.ts'
import { createLog } from '../../log.ts'
import { type Clusters, type ClustersDeps, startClusters } from '../clusters.ts'
import { MADE_UP_FACTS, MadeUpMachine, madeUpDriver } from './made-up-driver.ts'

/** Keys take long to make: one set for a file of tests. */
export interface ClusterKeys {
  readonly n1: GeneratedKey
  readonly n2: GeneratedKey
  readonly n4: GeneratedKey
  readonly stranger: GeneratedKey
}

export async function makeClusterKeys(): Promise<ClusterKeys> {
  const [n1, n2, n4, stranger] = await Promise.all([2048, 2048, 2048, 2048].map(generateMachineKey))
  if (!n1 || !n2 || !n4 || !stranger) throw new Error('four keys were asked for')
  return { n1, n2, n4, stranger }
}

export const idOf = (key: GeneratedKey): string => keyId(key.publicKeyDer)

type Action = NonNullable<MessageInitShape<typeof ClusterOrderSchema>['action']>

/** A revision that names a cluster of two servers and two workers, one of which is not bound to a key. */
export function clusterRevision(keys: ClusterKeys, change: RevisionChange = {}): Envelope {
  const { n1, n2, n4 } = keys
  return revisionOf({ machines: { n1: idOf(n1), n2: idOf(n2), n4: idOf(n4), n5: '' }, ...change })
}

export interface RevisionChange {
  readonly number?: number
  readonly admitsWorkers?: boolean
  readonly created?: Date
  /** Hosts and the ids of their machines: n4 and n5 are workers, the others servers. */
  readonly machines?: Readonly<Record<string, string>>
  readonly tree?: { readonly digest: string; readonly length: number }
  readonly gates?: MessageInitShape<typeof ClusterEntrySchema>['gates']
}

export function revisionOf({
  number = 5,
  admitsWorkers = false,
  created = new Date(sampleNow.getTime() - 60_000),
  machines = {},
  tree,
  gates = [],
}: RevisionChange): Envelope {
  const members = Object.entries(machines).map(([host, machine]) => ({
    host,
    machine,
    role: host === 'n4' || host === 'n5' ? 'worker' : 'server',
  }))
  const targets = members.map(({ host, role, machine }) =>
    sampleTarget({ host, role, binding: machine === '' ? { serial: 'S5' } : { machine } }),
  )
  const cluster = {
    name: 'home',
    distribution: 'components',
    version: '1.34.3',
    members,
    admitsWorkers,
    gates,
  }
  const expires = new Date(created.getTime() + 86_400_000)
  return sampleRevision({ number, targets, clusters: [cluster], created, expires, ...(tree && { tree }) })
    .envelope
}

/** An agent's part in clusters on a machine that is made up; killed and started as often as a test likes. */
export class ClusterNode implements AsyncDisposable {
  readonly keys: ClusterKeys
  readonly machine: MadeUpMachine
  readonly folder: string
  readonly key: GeneratedKey
  readonly lines: string[] = []
  nowMs = sampleNow.getTime()
  deps: Partial<ClustersDeps> = {}
  clusters!: Clusters
  #stop = new AbortController()
  #generation = 0

  private constructor(keys: ClusterKeys, machine: MadeUpMachine, key: GeneratedKey, folder: string) {
    this.keys = keys
    this.machine = machine
    this.key = key
    this.folder = folder
  }

  static async start(
    keys: ClusterKeys,
    host: 'n1' | 'n2' | 'n4' = 'n1',
    deps: Partial<ClustersDeps> = {},
  ): Promise<ClusterNode> {
    const role = host === 'n4' ? 'worker' : 'server'
    const machine = new MadeUpMachine({ ...MADE_UP_FACTS, nodeName: host, role })
    const node = new ClusterNode(keys, machine, keys[host], await mkdtemp(join(tmpdir(), 'muster-clusters-')))
    node.deps = deps
    await node.run()
    await node.clusters.announced(clusterRevision(keys))
    return node
  }

  async run(): Promise<void> {
    this.#stop = new AbortController()
    const generation = this.#generation
    const identity = {
      id: idOf(this.key),
      privateKeyPem: this.key.privateKeyPem,
      publicKeyDer: this.key.publicKeyDer,
    }
    this.clusters = await startClusters(
      {
        stateDir: this.folder,
        openDriver: async () => {
          // Of a process that was killed nothing is heard any more.
          if (generation !== this.#generation) await new Promise(() => {})
          return { kind: 'driver', driver: madeUpDriver(this.machine) }
        },
        readDisk: async () => this.machine.data,
        identity,
        trust: () => sampleTrust.trust,
        accepted: () => ({ highest: 0n, highestDigest: '' }),
        getRevision: async () => {
          throw new Error('no coordinator in this test')
        },
        fetchTree: async () => ({ kind: 'failed', class: 'tree', reason: 'no tree in this test' }),
        allow: ['join', 'drain', 'snapshot', 'leave', 'restore', 'rotate', 'kubeconfig', 'wipe'],
        held: () => undefined,
        busy: () => undefined,
        retry: { firstMs: 1, mostMs: 5 },
        lookEveryMs: 1,
        clock: { now: () => new Date(this.nowMs) },
        log: createLog('debug', line => this.lines.push(line)),
        ...this.deps,
      },
      this.#stop.signal,
    )
  }

  /** The process ends here and now: what it was doing is never gone on with, and nothing is tidied up. */
  kill(): void {
    this.#generation += 1
    this.machine.onStep = async () => {}
  }

  /** The machine stands still at this step, as if it took long; answers when it is there. */
  pauseAt(step: string): { readonly reached: Promise<void>; readonly goOn: () => void } {
    let goOn = () => {}
    let arrive = () => {}
    const reached = new Promise<void>(resolve => {
      arrive = resolve
    })
    const free = new Promise<void>(resolve => {
      goOn = resolve
    })
    this.machine.onStep = async here => {
      if (here !== step) return
      arrive()
      await free
    }
    return { reached, goOn }
  }

  order(operationId: string, action: Action, cluster = 'home'): ClusterOrder {
    const expires = timestampFromMs(this.nowMs + 3_600_000)
    return create(ClusterOrderSchema, { operationId, cluster, expires, action })
  }

  async give(operationId: string, action: Action, cluster?: string): Promise<void> {
    await this.clusters.accept(this.order(operationId, action, cluster))
  }

  reportsOf(operationId: string): readonly ClusterReport[] {
    return this.clusters
      .reports()
      .flatMap(({ report }) => (report.operationId === operationId ? [report] : []))
  }

  /** How the operation ended, in words: "done", "failed secret-minter", "minted", "deleted"; undefined: not yet. */
  inWords(operationId: string): string | undefined {
    const results = this.reportsOf(operationId).map(({ result }) => result)
    const last = results.find(({ case: kind }) => kind === 'ended') ?? results.at(-1)
    if (last?.case === 'ended') return last.value.done ? 'done' : `failed ${last.value.class}`
    return last?.case
  }

  ended(operationId: string): ClusterStepEnded | undefined {
    const ended = this.reportsOf(operationId).find(({ result }) => result.case === 'ended')?.result
    return ended?.case === 'ended' ? ended.value : undefined
  }

  reasonOf(operationId: string): string {
    return this.ended(operationId)?.reason ?? ''
  }

  sealedOf(operationId: string): SealedSecret | undefined {
    const minted = this.reportsOf(operationId).find(({ result }) => result.case === 'minted')?.result
    return minted?.case === 'minted' ? minted.value.secret : undefined
  }

  signed(change: Partial<OperatorOrder> & Pick<OperatorOrder, 'act'>, key = sampleKey): Envelope {
    return signOperatorOrder(
      {
        id: randomId(),
        fleetId: sampleFleetId,
        cluster: 'home',
        node: '',
        machine: '',
        dead: false,
        parameter: '',
        recipientKey: new Uint8Array(),
        createdMs: this.nowMs,
        expiresMs: this.nowMs + 3_600_000,
        ...change,
      },
      key,
    )
  }

  /** Everything that lies in its folder, that it logged, and that it has to tell. */
  async everythingKept(): Promise<string> {
    const told = this.clusters
      .reports()
      .map(({ report }) => Buffer.from(toBinary(ClusterReportSchema, report)).toString('latin1'))
    const names = await readdir(this.folder, { recursive: true, withFileTypes: true })
    const files = names.filter(entry => entry.isFile())
    const texts = await Promise.all(
      files.map(async entry => await readFile(join(entry.parentPath, entry.name), 'latin1')),
    )
    return [...texts, ...this.lines, ...told].join('\n')
  }

  async stop(): Promise<void> {
    this.#stop.abort(new Error('the agent stops'))
    await this.clusters[Symbol.asyncDispose]()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.machine.onStep = async () => {}
    await this.stop()
    await rm(this.folder, { recursive: true, force: true })
  }
}
