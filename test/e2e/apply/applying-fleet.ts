import { execFileSync } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { MessageInitShape } from '@bufbuild/protobuf'
import type { Outcome } from '../../../shared/gen/muster/v1/operation_pb.ts'
import type { GiveOrdersRequestSchema, OperationSummary } from '../../../shared/gen/muster/v1/order_pb.ts'
import { randomId } from '../../../shared/ids.ts'
import { outcomeName } from '../../../shared/operation-names.ts'
import { nixEnvironment } from '../../nix/nix-library.ts'
import { type AgentOptions, type AgentProcess, type Fleet, startFleet } from '../../support/fleet.ts'
import { addOperator, type MadeRevision, type Operator, type PublishOptions } from '../../support/operator.ts'
import { checkout } from '../../support/program.ts'
import { makeToken, until, untilActive } from '../../support/shown.ts'

const standin = join(checkout, 'test/standin')
const basic = join(checkout, 'test/fixtures/flakes/basic')
const fixtureHosts = [
  ...[
    'olaf',
    'bolt',
    'exit4',
    'broken',
    'slow',
    'slowswitch',
    'lateexit4',
    'rejected',
    'activation2',
    'newinterface',
  ],
  ...['noagent', 'nodeadman', 'foreign'],
]

/** A node of such a fleet: what it runs lies in a folder of its own, and is moved by real Nix and stand-in programs. */
export interface NixNode {
  readonly host: string
  readonly agent: AgentProcess
  readonly state: () => { readonly current: string; readonly profile: string; readonly bootDefault: string }
  readonly journal: () => Promise<readonly JournalLine[]>
}

export interface NodeOptions extends AgentOptions {
  readonly wait?: boolean
  /** Its facts are of what it runs, too, and not of its hardware alone. */
  readonly factsOfSystem?: boolean
}

export interface JournalLine {
  readonly seq: number
  readonly op: string
  readonly kind: string
  readonly phase?: number
  readonly [field: string]: unknown
}

export type GivenAction = NonNullable<MessageInitShape<typeof GiveOrdersRequestSchema>['action']>

/** All three places name one system. */
export const allAt = (system: string) => ({ current: system, profile: system, bootDefault: system })

/** A coordinator, an operator whose revisions name the stand-in systems, and nodes that build and switch to them. */
export class ApplyingFleet implements AsyncDisposable {
  readonly fleet: Fleet
  readonly operator: Operator
  /** What every node runs at first. */
  readonly before: string
  readonly #folder = mkdtempSync(join(tmpdir(), 'mp-'))
  readonly #hosts = new Set<string>(fixtureHosts)

  constructor(fleet: Fleet, operator: Operator) {
    this.fleet = fleet
    this.operator = operator
    this.before = buildSystem(basic, 'bolt')
  }

  static async start(config: object = {}): Promise<ApplyingFleet> {
    const fleet = await startFleet(config)
    return new ApplyingFleet(fleet, await addOperator(fleet))
  }

  /** A folder with a flake like the fixture, in a generation of its own; every host is tied to a disk. */
  flake(generation = randomId().slice(0, 12), hostLines: Readonly<Record<string, string>> = {}): string {
    const flake = join(this.#folder, `flake-${randomId()}`)
    cpSync(basic, flake, { recursive: true })
    // Half as slow is slow enough to catch, and these tests wait for it often.
    const systems = readFileSync(join(basic, 'hosts.nix'), 'utf8')
      .replace('buildTicks = 8', 'buildTicks = 4')
      .replace('activationSeconds = 5', 'activationSeconds = 3')
    writeFileSync(join(flake, 'hosts.nix'), systems)
    writeFileSync(join(flake, 'generation'), `${generation}\n`)
    const hosts = [...this.#hosts].map(host =>
      [
        `[hosts.${host}]`,
        `config = "nixosConfigurations.${fixtureHosts.includes(host) ? host : 'bolt'}"`,
        hostLines[host] ?? `disk = { serial = "DISK-${host}" }`,
        '',
      ].join('\n'),
    )
    writeFileSync(
      join(flake, 'fleet.toml'),
      [
        `[fleet]\nname = "basic"\nid = "${this.operator.fleetId}"\n`,
        // Nobody waits here for what need not hold longer than it is seen once; and no busy machine turns a change down.
        '[defaults]\nsoak = "0s"\nconfirm-within = "60s"\n',
        // What nodes do is looked at here, and not how many of them may do it at once.
        '[rollout]\nmax-unavailable = "100%"\nsoak = "0s"\nsilent-percent = 100\n',
        ...hosts,
      ].join('\n'),
    )
    return flake
  }

  async publish(options: PublishOptions = {}): Promise<MadeRevision> {
    return await this.operator.publish({ directory: this.flake(), ...options })
  }

  /** Adds a machine that is this host by its disk, active and connected. */
  async addNode(host: string, options: NodeOptions = {}): Promise<NixNode> {
    const root = join(this.fleet.dir, 'a', host, 'root')
    const agent = await this.fleet.addAgent(host, {
      token: await makeToken(this.fleet),
      ...options,
      start: false,
      hardware: {
        serial: `SERIAL-${host}`,
        disks: [{ name: 'nvme0n1', serial: `DISK-${host}`, model: 'M', bytes: 10 ** 12, transport: 'nvme' }],
        ...options.hardware,
      },
      config: {
        toolPath: `${standin}:${process.env.PATH ?? ''}`,
        allow: ['apply', 'rollback', 'reboot'],
        ...(options.factsOfSystem === true && { factsRoot: root }),
        ...options.config,
      },
      env: {
        MUSTER_STANDIN_ROOT: root,
        NIX_CONFIG: nixEnvironment.NIX_CONFIG,
        HOME: join(root, '..'),
        ...options.env,
      },
    })
    if (options.factsOfSystem === true) {
      cpSync(join(agent.dir, 'hardware'), root, { recursive: true, verbatimSymlinks: true })
      // Made up for a machine that runs nothing.
      for (const path of ['run', 'nix']) rmSync(join(root, path), { recursive: true })
    }
    execFileSync(join(standin, 'prepare-root'), [root, this.before], { env: nixEnvironment, stdio: 'ignore' })
    agent.start()
    if (options.wait !== false) await untilActive(this.fleet, agent)
    const profiles = join(root, 'nix/var/nix/profiles')
    return {
      host,
      agent,
      state: () => ({
        current: readlinkSync(join(root, 'run/current-system')),
        profile: readlinkSync(join(profiles, readlinkSync(join(profiles, 'system')))),
        bootDefault: readFileSync(join(root, 'boot/loader/loader.conf'), 'utf8')
          .trim()
          .replace('default ', ''),
      }),
      journal: async () => {
        const text = await readFile(join(agent.stateDir, 'journal.jsonl'), 'utf8').catch(() => '')
        return text.split('\n').flatMap(line => {
          try {
            const parsed: JournalLine = JSON.parse(line)
            return [parsed]
          } catch {
            return [] // the line that is being written
          }
        })
      },
    }
  }

  /** Orders hosts to a revision; the ids of the operations in the same order. */
  async order(
    hosts: readonly string[],
    revision = 0n,
    requestId: string = randomId(),
  ): Promise<readonly string[]> {
    return await this.give(hosts, { case: 'apply', value: { revision } }, requestId)
  }

  /** Orders hosts anything; the ids of the operations in the same order. */
  async give(
    hosts: readonly string[],
    action: GivenAction,
    requestId: string = randomId(),
  ): Promise<readonly string[]> {
    const { operations } = await this.fleet.api.giveOrders({ refs: [...hosts], requestId, action })
    return hosts.map(host => operations.find(operation => operation.host === host)?.operationId ?? '')
  }

  /** Orders one host something and waits for its end. */
  async done(host: string, action: GivenAction): Promise<Outcome> {
    const [id = ''] = await this.give([host], action)
    return await this.outcome(id)
  }

  async operation(id: string): Promise<OperationSummary | undefined> {
    return (await this.fleet.api.listOperations({ operationIds: [id] })).operations[0]
  }

  async outcome(id: string): Promise<Outcome> {
    let last: OperationSummary | undefined
    return await until(`outcome of ${id}`, async () => {
      last = await this.operation(id).catch(() => undefined)
      return last?.outcome
    }).catch((error: Error) => {
      throw new Error(`${error.message}; last seen in phase ${last?.phase}`)
    })
  }

  async apply(host: string, revision = 0n): Promise<Outcome> {
    const [id = ''] = await this.order([host], revision)
    return await this.outcome(id)
  }

  /** All the output that the coordinator keeps of an operation. */
  async output(host: string, id: string): Promise<readonly string[]> {
    const lines: string[] = []
    for await (const chunk of this.fleet.api.followLogs(
      { ref: host, operationId: id, follow: true },
      { deadlineMs: 30_000 },
    )) {
      lines.push(...chunk.lines)
    }
    return lines
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.fleet[Symbol.asyncDispose]()
    await this.operator[Symbol.asyncDispose]()
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

/** "succeeded", "refused wrong-machine". */
export function inWords({ class: kind, refusal }: Outcome): string {
  return [outcomeName(kind), refusal].filter(text => text !== '').join(' ')
}

function buildSystem(flake: string, host: string): string {
  const target = `path:${flake}#nixosConfigurations.${host}.config.system.build.toplevel`
  const answer = execFileSync('nix', ['build', '--no-link', '--json', target], {
    env: nixEnvironment,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  return /"out":"([^"]+)"/.exec(answer)?.[1] ?? ''
}
