import { type Rollout, RolloutState } from '../../../shared/gen/muster/v1/rollout_pb.ts'
import { randomId } from '../../../shared/ids.ts'
import { type Fleet, startFleet } from '../../support/fleet.ts'
import { addOperator, type Operator } from '../../support/operator.ts'
import { RawMachine } from '../../support/raw-machine.ts'
import { makeToken, until } from '../../support/shown.ts'
import { PlayedNode } from './played-node.ts'

const OVER: readonly RolloutState[] = [RolloutState.SUCCEEDED, RolloutState.FAILED, RolloutState.ABORTED]

/** The real coordinator over mutual TLS, with nodes that the test plays, by the names of their hosts. */
export class PlayedFleet implements AsyncDisposable {
  readonly fleet: Fleet
  readonly operator: Operator
  readonly nodes = new Map<string, PlayedNode>()

  private constructor(fleet: Fleet, operator: Operator) {
    this.fleet = fleet
    this.operator = operator
  }

  /** Publishes the first revision and connects these hosts. */
  static async start(toml: string, hosts: readonly string[], config: object = {}): Promise<PlayedFleet> {
    const fleet = await startFleet({ heartbeatSeconds: 5, ...config })
    const played = new PlayedFleet(fleet, await addOperator(fleet))
    await played.publish(toml)
    await Promise.all(hosts.map(host => played.add(host)))
    return played
  }

  async publish(toml: string): Promise<number> {
    return (await this.operator.publish({ toml, files: { 'flake.nix': `# ${randomId()}` } })).number
  }

  /** Enrols a machine: as this host by a token, or by what a group admits, and connects it. */
  async add(host: string, facts?: RawMachine['facts']): Promise<PlayedNode> {
    const machine = await RawMachine.make(this.fleet)
    if (facts) machine.facts = facts
    await machine.enrol(facts ? {} : { token: await makeToken(this.fleet, { host }) })
    const node = new PlayedNode(host, machine)
    this.nodes.set(host, node)
    node.start()
    await until(`session of ${host}`, async () => {
      const { machines } = await this.fleet.api.listMachines({ where: '' })
      return machines.some(one => one.host === host && one.online) ? machines : undefined
    })
    return node
  }

  node(host: string): PlayedNode {
    const found = this.nodes.get(host)
    if (!found) throw new Error(`no node ${host}`)
    return found
  }

  /** Changes that were ordered, by host. */
  changes(): Record<string, readonly string[]> {
    return Object.fromEntries([...this.nodes].map(([host, node]) => [host, node.changes()]))
  }

  async begin(settings: object, more: object = {}): Promise<string> {
    const soak = { seconds: 0n }
    const { rollout } = await this.fleet.rollouts.startRollout({
      requestId: randomId(),
      settings: { maxUnavailable: '1', soak, canarySoak: soak, ...settings },
      ...more,
    })
    return rollout?.id ?? ''
  }

  async shown(id: string): Promise<Rollout> {
    const { rollout } = await this.fleet.rollouts.getRollout({ id })
    if (!rollout) throw new Error(`no rollout ${id}`)
    return rollout
  }

  async untilOver(id: string): Promise<Rollout> {
    return await until(`end of rollout ${id}`, async () => {
      const rollout = await this.shown(id)
      return OVER.includes(rollout.state) ? rollout : undefined
    })
  }

  /** The newest rollout that the coordinator itself began over this host, once there is one. */
  async untilOwn(host: string): Promise<Rollout> {
    return await until(`a rollout of the coordinator's own over ${host}`, async () => {
      for (const { id, startedBy } of (await this.fleet.rollouts.listRollouts({})).rollouts) {
        if (startedBy !== 'coordinator') continue
        const rollout = await this.shown(id)
        if (rollout.hosts.some(one => one.host === host)) return rollout
      }
      return undefined
    })
  }

  /** By host the revision that `muster drift` says it should have. */
  async wanted(): Promise<Record<string, number>> {
    const machines: { host: string; wantedRevision: number | string }[] = await this.fleet.json(
      'drift',
      '--all',
    )
    return Object.fromEntries(machines.map(({ host, wantedRevision }) => [host, Number(wantedRevision)]))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.nodes.values()].map(node => node[Symbol.asyncDispose]()))
    await this.fleet[Symbol.asyncDispose]()
    await this.operator[Symbol.asyncDispose]()
  }
}
