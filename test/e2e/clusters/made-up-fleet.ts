import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { MessageInitShape } from '@bufbuild/protobuf'
import { credentials } from '@grpc/grpc-js'
import { encodeChain } from '../../../cli/fleets/fleet-folder.ts'
import { signingKeyPem } from '../../../shared/envelope/keys.ts'
import {
  type ClusterAct,
  ClusterService,
  type StartClusterActRequestSchema,
} from '../../../shared/gen/muster/v1/cluster_pb.ts'
import { randomId } from '../../../shared/ids.ts'
import { pause } from '../../../shared/lifecycle.ts'
import type { OperatorOrder, SignedAct } from '../../../shared/operator-order/operator-order.ts'
import { signOperatorOrder } from '../../../shared/operator-order/sign-operator-order.ts'
import { createClient, type RpcClient } from '../../../shared/rpc/client.ts'
import { type Fleet, startFleet } from '../../support/fleet.ts'
import { addOperator, type Operator, type PublishOptions } from '../../support/operator.ts'
import { RawMachine } from '../../support/raw-machine.ts'
import { type MadeUpWorld, ScriptedNode } from '../../support/scripted-node.ts'
import { makeToken, until } from '../../support/shown.ts'

/**
 * A real coordinator and an operator with real keys; the machines speak the real protocol, and their Kubernetes is made up.
 * Hosts whose name begins with s are servers.
 */
export class MadeUpFleet implements AsyncDisposable {
  readonly fleet: Fleet
  readonly operator: Operator
  readonly world: MadeUpWorld
  readonly nodes = new Map<string, ScriptedNode>()
  readonly api: RpcClient<typeof ClusterService>

  private constructor(fleet: Fleet, operator: Operator) {
    this.fleet = fleet
    this.operator = operator
    this.world = { fleetId: operator.fleetId, cluster: undefined }
    this.api = createClient(ClusterService, `unix:${fleet.socket}`, credentials.createInsecure())
  }

  static async start(hosts: readonly string[]): Promise<MadeUpFleet> {
    const fleet = await startFleet({ clusterAskSeconds: 1 })
    const made = new MadeUpFleet(fleet, await addOperator(fleet))
    for (const host of hosts) {
      const raw = await RawMachine.make(fleet)
      made.nodes.set(host, new ScriptedNode(raw, host, host.startsWith('s'), made.world))
    }
    await made.publish()
    for (const host of hosts) await made.node(host).raw.enrol({ token: await makeToken(fleet, { host }) })
    return made
  }

  node(host: string): ScriptedNode {
    const node = this.nodes.get(host)
    if (!node) throw new Error(`there is no ${host}`)
    return node
  }

  async publish(options: PublishOptions = {}): Promise<void> {
    await this.operator.publish({ toml: this.toml(), ...options })
  }

  toml(): string {
    const hosts = [...this.nodes].map(
      ([host, { id, server }]) =>
        `[hosts.${host}]\nrole = "${server ? 'server+worker' : 'worker'}"\ncluster = "home"\nmachine = "${id}"\n`,
    )
    return ['[clusters.home]', 'distribution = "components"', '', ...hosts].join('\n')
  }

  /** The operator's folder as `muster init` writes it, with the key and the trust that the machines know. */
  async writeOperator(): Promise<string> {
    const { fleet, operator } = this
    const folder = join(fleet.dir, 'operator')
    const home = join(folder, 'fleets', operator.fleetId)
    await mkdir(home, { recursive: true, mode: 0o700 })
    const [key] = operator.keys
    if (!key) throw new Error('the operator has no key')
    await writeFile(join(home, 'signing.key'), signingKeyPem(key), { mode: 0o600 })
    const { trust } = await fleet.api.getFleetTrust({})
    await writeFile(join(home, 'trust.bin'), encodeChain(trust?.envelopes ?? []), { mode: 0o600 })
    return folder
  }

  async connectAll(): Promise<void> {
    for (const node of this.nodes.values()) await node.connect()
  }

  async untilJoined(count: number): Promise<void> {
    await until(`${count} machines joined`, () => (this.joined() === count ? true : undefined))
    await until('nothing under way', async () => {
      const { summary, hosts } = await this.api.getCluster({ name: 'home' })
      const waits = hosts.flatMap(({ waitsFor }) => waitsFor)
      return summary?.joined === count && waits.length === 0 ? true : undefined
    })
  }

  joined(): number {
    return [...this.nodes.values()].filter(({ data }) => data.case === 'present').length
  }

  /** Asks for an act in the cluster, and waits until its turn has come. */
  async ask(
    act: string,
    host = '',
    more: MessageInitShape<typeof StartClusterActRequestSchema> = {},
  ): Promise<ClusterAct> {
    const request = { requestId: randomId(), cluster: 'home', act, host, ...more }
    for (let looks = 0; looks < 150; looks++) {
      const { act: begun, rolloutId } = await this.api.startClusterAct(request)
      if (begun) return begun
      if (rolloutId === '') throw new Error('an answer with neither act nor rollout')
      await pause(200)
    }
    const { rollouts } = await this.fleet.rollouts.listRollouts({ open: true })
    throw new Error(`${act} of ${host} was never begun: ${JSON.stringify(rollouts.map(({ id }) => id))}`)
  }

  /** Everything that is said of an act until it is over. */
  async watch(id: string): Promise<ClusterAct[]> {
    const said: ClusterAct[] = []
    for await (const { act } of this.api.watchClusterAct({ id }, { deadlineMs: 60_000 })) {
      if (act) said.push(act)
    }
    return said
  }

  /** Asks, and waits for the end. */
  async ended(...asked: Parameters<MadeUpFleet['ask']>): Promise<ClusterAct> {
    const said = await this.watch((await this.ask(...asked)).id)
    const last = said.at(-1)
    if (!last?.ended) throw new Error('an act that ended without an end')
    return last
  }

  /** An operator's order, signed with a key of the trust set unless told otherwise. */
  sign(act: SignedAct, change: Partial<OperatorOrder> = {}, [key] = this.operator.keys) {
    if (!key) throw new Error('the operator has no key')
    const host = change.node ?? ''
    const order: OperatorOrder = {
      id: randomId(),
      fleetId: this.operator.fleetId,
      cluster: 'home',
      act,
      node: host,
      machine: host === '' ? '' : this.node(host).id,
      dead: false,
      parameter: '',
      recipientKey: new Uint8Array(),
      createdMs: Date.now(),
      expiresMs: Date.now() + 3_600_000,
      ...change,
    }
    return signOperatorOrder(order, key)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const node of this.nodes.values()) await node[Symbol.asyncDispose]()
    this.api[Symbol.dispose]()
    await this.fleet[Symbol.asyncDispose]()
    await this.operator[Symbol.asyncDispose]()
  }
}
