import { chmod, mkdir, mkdtemp, readdir, readFile, readlink, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { clone, create, type MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import { Hub, type HubKeys } from '../../agent/session/testing/hub.ts'
import { writeMadeUpRoot } from '../../scripts/made-up-root.ts'
import {
  type GetRevisionResponse,
  GetRevisionResponseSchema,
  OperationAckSchema,
  type OrderSchema,
} from '../../shared/gen/muster/v1/agent_pb.ts'
import type { Outcome } from '../../shared/gen/muster/v1/operation_pb.ts'
import { TrustChainSchema } from '../../shared/gen/muster/v1/trust_pb.ts'
import { randomId } from '../../shared/ids.ts'
import {
  type SampleRevision,
  sampleRevision,
  sampleTrust,
} from '../../shared/revision/testing/sample-fleet.ts'
import { chunks } from '../../shared/tree/testing/sample-tree.ts'
import { Program, programFile } from './program.ts'
import { until } from './shown.ts'

export const OLD_SYSTEM = `/nix/store/${'0'.repeat(32)}-nixos-system-olaf-1`

/**
 * A coordinator that says whatever a test wants, over real TLS with an authority that the node trusts, and one real agent
 * as a process of its own. The node's tools are records: each writes down that it was called, and fails.
 */
export class LyingCoordinator implements AsyncDisposable {
  readonly dir: string
  readonly hub: Hub
  program: Program | undefined

  private constructor(dir: string, hub: Hub) {
    this.dir = dir
    this.hub = hub
  }

  static async start(keys: HubKeys): Promise<LyingCoordinator> {
    const hub = await Hub.start(keys, made => {
      made.trust = create(TrustChainSchema, { envelopes: [sampleTrust.envelope] })
      made.assignment = { host: 'olaf' }
      made.heartbeatMs = 1_000
    })
    const lying = new LyingCoordinator(await mkdtemp(join(tmpdir(), 'ml-')), hub)
    await lying.#prepare()
    await lying.startAgent()
    return lying
  }

  get stateDir(): string {
    return join(this.dir, 's')
  }

  async startAgent(): Promise<void> {
    const { length } = this.hub.sessions
    this.program = new Program(process.execPath, [
      programFile('agent'),
      '--config',
      join(this.dir, 'agent.json'),
    ])
    await until('a session', () => (this.hub.sessions.length > length ? true : undefined))
  }

  /** What is true of a revision; a lie is laid over it. */
  answerTo(revision: SampleRevision, tree: Buffer): void {
    const honest = responseOf(revision)
    this.hub.revision = () => clone(GetRevisionResponseSchema, honest)
    this.hub.tree = offset => chunks(tree.subarray(Number(offset)))
  }

  /** Orders the node to a revision, or to what `over` says; what the node reports as the end. */
  async order(revision: SampleRevision, over: MessageInitShape<typeof OrderSchema> = {}): Promise<Outcome> {
    const operationId = over.operationId ?? `lie-${randomId().slice(0, 12)}`
    this.send(revision, { ...over, operationId })
    const { hub } = this
    return await until(`outcome of ${operationId}`, () => {
      const reports = hub.sessions.flatMap(session => session.of('operation')).map(({ value }) => value)
      const last = reports.findLast(report => report.operationId === operationId && report.outcome)
      if (!last) return undefined
      const sequence = last.phases.at(-1)?.sequence ?? 0n
      const ack = create(OperationAckSchema, { operationId, sequence, outcome: true })
      hub.newest?.send({ case: 'operationAck', value: ack })
      return last.outcome
    })
  }

  send(revision: SampleRevision, over: MessageInitShape<typeof OrderSchema>): void {
    this.hub.newest?.send({
      case: 'order',
      value: {
        revision: BigInt(revision.manifest.number),
        manifestDigest: revision.manifest.digest,
        expires: timestampFromDate(new Date(Date.now() + 3_600_000)),
        ...over,
      },
    })
  }

  /** Everything of the machine that an operation could have changed, and which tools were called. */
  async machine(): Promise<object> {
    const root = join(this.dir, 'root')
    const names = (await readdir(root, { recursive: true })).sort()
    const profiles = join(root, 'nix/var/nix/profiles')
    return {
      names,
      current: await readlink(join(root, 'run/current-system')),
      profile: await readlink(join(profiles, await readlink(join(profiles, 'system')))),
      called: await this.called(),
    }
  }

  /** The tools that were called, other than for their version. */
  async called(): Promise<readonly string[]> {
    const text = await readFile(join(this.dir, 'called'), 'utf8').catch(() => '')
    return text.split('\n').filter(line => line !== '' && !line.includes('--version'))
  }

  /** What the node remembers of accepted revisions. */
  async memory(): Promise<string> {
    return await readFile(join(this.stateDir, 'revisions.json'), 'utf8')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.program?.kill()
    await this.hub[Symbol.asyncDispose]()
    await rm(this.dir, { recursive: true, force: true })
  }

  async #prepare(): Promise<void> {
    const root = join(this.dir, 'root')
    for (const folder of ['run', 'nix/var/nix/profiles']) await mkdir(join(root, folder), { recursive: true })
    await symlink(OLD_SYSTEM, join(root, 'run/current-system'))
    await symlink('system-1-link', join(root, 'nix/var/nix/profiles/system'))
    await symlink(OLD_SYSTEM, join(root, 'nix/var/nix/profiles/system-1-link'))
    const tools = join(this.dir, 'tools')
    await mkdir(tools)
    for (const tool of ['nixos-rebuild', 'nix-store', 'nix-env', 'nix']) {
      const script = `#!/bin/sh\necho "${tool} $*" >>${this.dir}/called\n[ "$1" = --version ]\n`
      await writeFile(join(tools, tool), script)
      await chmod(join(tools, tool), 0o755)
    }
    await writeMadeUpRoot(join(this.dir, 'hardware'), {
      seed: 'lied-to',
      disks: [{ name: 'nvme0n1', serial: 'S4EVNX0M123456', model: 'M', bytes: 10 ** 12, transport: 'nvme' }],
    })
    await writeFile(
      join(this.dir, 'agent.json'),
      JSON.stringify({
        coordinator: this.hub.coordinator,
        caPin: this.hub.keys.authority.pin,
        trustPin: sampleTrust.trust.digest,
        stateDir: this.stateDir,
        socket: join(this.stateDir, 'agent.sock'),
        factsRoot: join(this.dir, 'hardware'),
        systemRoot: root,
        simulated: true,
        toolPath: `${tools}:${process.env.PATH ?? ''}`,
        retry: { firstMs: 10, mostMs: 50, connectMs: 5_000 },
        keyBits: 2048,
        sourceBuild: { enabled: true, leastMemoryBytes: 0 },
      }),
    )
  }
}

/** A good revision of today. */
export function revisionOfToday(
  change: Parameters<typeof sampleRevision>[0] = {},
  key?: Parameters<typeof sampleRevision>[1],
) {
  const now = Date.now()
  return sampleRevision(
    { created: new Date(now - 60_000), expires: new Date(now + 86_400_000), ...change },
    key,
  )
}

export function responseOf(revision: SampleRevision, target = 0): GetRevisionResponse {
  return create(GetRevisionResponseSchema, {
    envelope: revision.envelope,
    target: revision.targets[target]?.bytes ?? new Uint8Array(),
  })
}
