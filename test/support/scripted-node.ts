import { createPrivateKey } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import {
  type ClusterOrder,
  type ClusterReport,
  ClusterReportSchema,
  ClusterRole,
  type ClusterStateSchema,
  type ClusterStepEndedSchema,
  type SealedSecret,
  SecretPurpose,
} from '../../shared/gen/muster/v1/cluster_pb.ts'
import { sha256Hex } from '../../shared/ids.ts'
import { layoutOf } from '../../shared/kubernetes/distributions.ts'
import { readOrder } from '../../shared/operator-order/operator-order.ts'
import { openSecret } from '../../shared/sealing/open-secret.ts'
import { sealSecret } from '../../shared/sealing/seal-secret.ts'
import type { SecretBinding } from '../../shared/sealing/secret-binding.ts'
import { SecretBytes } from '../../shared/sealing/secret-bytes.ts'
import type { RawMachine, RawSession } from './raw-machine.ts'

type Ended = MessageInitShape<typeof ClusterStepEndedSchema>
type Data = NonNullable<MessageInitShape<typeof ClusterStateSchema>['data']>
type CertificateEnds = MessageInitShape<typeof ClusterStateSchema>['certificateEnds']
type Result = NonNullable<MessageInitShape<typeof ClusterReportSchema>['result']>

/** What is true of a made-up cluster: who votes, which Nodes there are, which tokens work. No Kubernetes runs. */
export interface MadeUpCluster {
  readonly authority: string
  readonly members: Set<string>
  /** Who of them leads; undefined: no server says it. */
  leader?: string
  /** Nodes by name, whether they are cordoned and by which operation of ours (missing: by somebody else), and what they run. */
  readonly nodes: Map<string, { cordoned: boolean; cordonedBy?: string; readonly version: string }>
  readonly tokens: Map<string, string>
}

/** Where the machines of a test find each other's made-up cluster. */
export interface MadeUpWorld {
  readonly fleetId: string
  cluster: MadeUpCluster | undefined
}

/** Its owner lets everything be ordered there. */
const VERBS = [
  ...['apply', 'upgrade', 'restart', 'join', 'drain', 'snapshot', 'leave', 'restore', 'rotate'],
  ...['kubeconfig', 'wipe'],
]

/**
 * A machine of a cluster by the wire alone: it speaks as an agent does and seals and opens real secrets with its real key,
 * but what it says of Kubernetes is made up.
 */
export class ScriptedNode implements AsyncDisposable {
  readonly raw: RawMachine
  readonly host: string
  readonly server: boolean
  readonly #world: MadeUpWorld
  data: Data = { case: 'none', value: {} }
  /** What it says that it runs; empty: as a server what it has, else it does not say. */
  version = ''
  /** What it says of the ends of its certificates. */
  certificateEnds: CertificateEnds
  /** The Kubernetes that it says it has, and its Node, once it has joined. */
  installed = '1.34.3'
  /** The cluster that its system is made for. */
  part = 'home'
  /** Says so of each act instead of doing it. */
  refuses = new Map<ClusterOrder['action']['case'], Ended>()
  /** What Jobs that are gates of its cluster come to when it runs them. */
  jobs: readonly { readonly name: string; readonly verdict: string; readonly reason: string }[] = []
  /** With which parameters it was asked to run them. */
  readonly jobsAsked: string[] = []
  /** Acts that it does not answer. */
  readonly silent = new Set<ClusterOrder['action']['case']>()
  /** Every order that came, once each. */
  readonly orders: ClusterOrder[] = []
  readonly #reports = new Map<string, ClusterReport>()
  readonly #done = new Map<string, string>()
  /** What it opened. */
  readonly secrets: string[] = []
  session: RawSession | undefined
  #stop = false
  #loop: Promise<void> | undefined

  constructor(raw: RawMachine, host: string, server: boolean, world: MadeUpWorld) {
    this.raw = raw
    this.host = host
    this.server = server
    this.#world = world
  }

  get id(): string {
    return this.raw.id
  }

  /** Orders of a kind, oldest first. */
  of(kind: ClusterOrder['action']['case']): ClusterOrder[] {
    return this.orders.filter(({ action }) => action.case === kind)
  }

  /** As if it had never heard of them: its journal knows nothing that is not over. */
  forgetOrders(): void {
    this.orders.length = 0
    this.#done.clear()
  }

  /** Does by now what it was silent about. */
  answerSilent(): void {
    const kinds = new Set(this.silent)
    this.silent.clear()
    for (const order of this.orders) {
      if (kinds.has(order.action.case)) this.#report(order, this.#act(order))
    }
  }

  async connect(): Promise<void> {
    this.session = await this.raw.session({ allowed: VERBS })
    this.#stop = false
    this.#loop = this.#run(this.session)
  }

  async disconnect(): Promise<void> {
    this.#stop = true
    await this.#loop
    await this.session?.[Symbol.asyncDispose]()
    this.session = undefined
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.disconnect()
  }

  async #run(session: RawSession): Promise<void> {
    for (const report of this.#reports.values()) this.#sendReport(report)
    let beatMs = Date.now()
    for (let at = 0; !this.#stop; await sleep(20)) {
      for (; at < session.received.length; at += 1) {
        const message = session.received[at]?.message
        if (message?.case === 'clusterStateRequest') this.#answer(message.value.requestId)
        if (message?.case === 'clusterOrder') this.#obey(message.value)
        if (message?.case === 'clusterReportAck') this.#forget(message.value)
        if (message?.case === 'probe' && message.value.kind === 'jobs') this.#runJobs(message.value)
      }
      if (Date.now() - beatMs > 500) {
        session.beat()
        beatMs = Date.now()
      }
    }
  }

  #answer(requestId: string): void {
    const world = this.#world.cluster
    const serves = this.server && this.data.case === 'present' && world
    const view = serves && {
      ready: true,
      members: [...world.members].map(name => ({ name, healthy: true, leads: name === world.leader })),
      nodes: [...world.nodes].map(([name, { version: kubeletVersion }]) => ({
        name,
        uid: `u-${name}`,
        ready: true,
        kubeletVersion,
        // Renewed with each look: whatever was done to it is over when it is asked.
        renewed: timestampFromDate(new Date()),
      })),
    }
    const { part: cluster, data, installed: installedVersion, certificateEnds } = this
    const version = this.version === '' && serves ? installedVersion : this.version
    const value = {
      cluster,
      requestId,
      data,
      version,
      installedVersion,
      ...(view && { view }),
      ...(certificateEnds && { certificateEnds }),
    }
    this.session?.send({ message: { case: 'clusterState', value } } as const)
  }

  #runJobs({ probeId, parameters }: { readonly probeId: string; readonly parameters: string }): void {
    this.jobsAsked.push(parameters)
    const value = { probeId, json: JSON.stringify({ gates: this.jobs }), error: '' }
    this.session?.send({ message: { case: 'probeAnswer', value } } as const)
  }

  #forget({
    operationId,
    reportDigest,
  }: {
    readonly operationId: string
    readonly reportDigest: string
  }): void {
    for (const [key, report] of this.#reports) {
      if (report.operationId !== operationId) continue
      if (sha256Hex(toBinary(ClusterReportSchema, report)) === reportDigest) this.#reports.delete(key)
    }
  }

  /** How many reports were not acknowledged. */
  get owed(): number {
    return this.#reports.size
  }

  #report(order: ClusterOrder, result: Result): void {
    const { operationId, cluster } = order
    const report = create(ClusterReportSchema, { operationId, cluster, result })
    this.#reports.set(`${operationId} ${result.case}`, report)
    this.#sendReport(report)
  }

  #sendReport(report: ClusterReport): void {
    this.session?.send({ message: { case: 'clusterReport', value: report } })
  }

  #obey(order: ClusterOrder): void {
    const kind = order.action.case
    const known = this.#done.get(order.operationId)
    if (known === kind && kind !== 'deleteSecret') return
    this.#done.set(order.operationId, kind ?? '')
    this.orders.push(order)
    if (this.silent.has(kind)) return
    const refusal = this.refuses.get(kind)
    this.#report(order, refusal ? ended({ done: false, ...refusal }) : this.#act(order))
  }

  #act(order: ClusterOrder): Result {
    const { action, operationId } = order
    const world = this.#world
    switch (action.case) {
      case 'found': {
        const authority = sha256Hex(`authority of ${this.host} ${operationId}`)
        world.cluster = { authority, members: new Set(), nodes: new Map(), tokens: new Map() }
        this.#enter()
        return ended({ done: true, authority })
      }
      case 'mint': {
        const { role, joinerKey, host } = action.value
        const token = `token-of-${host}-${operationId}`
        world.cluster?.tokens.set(operationId, token)
        const secret = this.#seal(token, joinerKey, {
          purpose: SecretPurpose.JOIN,
          cluster: order.cluster,
          role,
          operationId,
        })
        return { case: 'minted', value: { secret, tokenId: `id-${host}` } }
      }
      case 'join': {
        const sealed = action.value.secret
        const { cluster } = world
        if (!sealed || !cluster) throw new Error('a join without its secret or its cluster')
        const opened = openSecret(sealed, createPrivateKey(this.raw.key.privateKeyPem), {
          binding: {
            purpose: SecretPurpose.JOIN,
            fleetId: world.fleetId,
            cluster: order.cluster,
            role: this.#role(),
            recipient: this.id,
            operationId,
          },
          minters: new Set([sha256Hex(sealed.minterKey)]),
          spent: new Map(),
          nowMs: Date.now(),
        })
        if (opened.kind === 'refused') return ended({ done: false, class: opened.class })
        const token = opened.secret.reveal().toString()
        this.secrets.push(token)
        this.#report(order, { case: 'received', value: {} })
        if (cluster.tokens.get(operationId) !== token) {
          return ended({
            done: false,
            class: 'token-refused',
            reason: 'the server knows no such token',
          })
        }
        this.#enter()
        return ended({ done: true, authority: cluster.authority })
      }
      case 'deleteSecret':
        world.cluster?.tokens.delete(operationId)
        return { case: 'deleted', value: { listed: timestampFromDate(new Date()) } }
      case 'leave': {
        const { node, dead } = action.value
        world.cluster?.members.delete(node)
        if (dead || this.server) world.cluster?.nodes.delete(node)
        if (!dead) this.data = { case: 'none', value: {} }
        const text = 'copies of the datastore (older) stay here'
        return ended({ done: true, ...(this.server && { value: { case: 'text', value: text } as const }) })
      }
      case 'clearNode':
        world.cluster?.members.delete(action.value.node)
        world.cluster?.nodes.delete(action.value.node)
        return ended({ done: true })
      case 'drain': {
        const node = world.cluster?.nodes.get(action.value.node)
        if (!node) return ended({ done: false, class: 'not-found', reason: 'there is no such node' })
        if (!node.cordoned || (node.cordonedBy !== undefined && node.cordonedBy === action.value.takesOver))
          node.cordonedBy = operationId
        node.cordoned = true
        const { cordonedBy = '' } = node
        return ended({ done: true, value: { case: 'text', value: '2 pods evicted' }, cordonedBy })
      }
      case 'uncordon': {
        const node = world.cluster?.nodes.get(action.value.node)
        if (!node) return ended({ done: false, class: 'not-found', reason: 'there is no such node' })
        const { cordonedBy } = node
        const by = action.value.cordonedBy || cordonedBy
        if (node.cordoned && (by === undefined || by !== cordonedBy)) {
          const reason = 'its cordon is not ours'
          return ended({ done: false, class: 'not-ours', reason, cordonedBy: cordonedBy ?? '' })
        }
        node.cordoned = false
        delete node.cordonedBy
        return ended({ done: true, cordonedBy: '' })
      }
      case 'kubeconfig': {
        const read = readOrder(action.value.signedOrder?.payload ?? new Uint8Array())
        if (!read.ok) return ended({ done: false, class: 'order-malformed', reason: read.reason })
        const sealed = this.#seal(kubeconfigOf(operationId), read.order.recipientKey, {
          purpose: SecretPurpose.KUBECONFIG,
          cluster: order.cluster,
          role: ClusterRole.UNSPECIFIED,
          operationId,
        })
        return ended({ done: true, value: { case: 'kubeconfig', value: sealed } })
      }
      case 'snapshot':
      case 'snapshots': {
        const name = action.case === 'snapshot' ? action.value.name : 'older'
        const snapshots = [{ name, path: `/var/lib/made-up/${name}`, bytes: 1n }]
        return ended({ done: true, value: { case: 'snapshots', value: { snapshots } } })
      }
      case 'standDown':
      case 'stop':
        return ended({ done: false, class: 'stopped' })
      case 'adopt':
        return ended({ done: true, authority: action.value.authority })
      case 'wipe':
        this.data = { case: 'none', value: {} }
        return ended({ done: true })
      case 'certificates':
      case 'manifests':
      case 'restore':
      case 'rotate':
      case undefined:
        return ended({ done: true, value: { case: 'text', value: `${action.case} was done` } })
    }
  }

  #seal(
    text: string,
    recipientKey: Uint8Array,
    binding: Pick<SecretBinding, 'purpose' | 'cluster' | 'role' | 'operationId'>,
  ): SealedSecret {
    const mintedMs = Date.now()
    return sealSecret({
      binding: { ...binding, fleetId: this.#world.fleetId, mintedMs, expiresMs: mintedMs + 600_000 },
      secret: new SecretBytes(Buffer.from(text)),
      recipientKey,
      minterKey: createPrivateKey(this.raw.key.privateKeyPem),
    })
  }

  /** Has joined from here on. */
  #enter(): void {
    const { cluster } = this.#world
    if (!cluster) throw new Error('there is no cluster to enter')
    this.data = {
      case: 'present',
      value: { authority: cluster.authority, distribution: layoutOf('components'), server: this.server },
    }
    if (this.server) cluster.members.add(this.host)
    cluster.nodes.set(this.host, { cordoned: false, version: this.installed })
  }

  #role() {
    return this.server ? 3 : 2
  }
}

function kubeconfigOf(operation: string): string {
  return `apiVersion: v1
kind: Config
clusters: [{ name: home, cluster: { server: "https://127.0.0.1:6443", certificate-authority-data: QUJD } }]
contexts: []
users:
- name: admin
  user:
    token: made-up-${operation}
`
}

function ended(value: Ended): Result {
  return { case: 'ended', value }
}
