import { generateKeyPairSync } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create } from '@bufbuild/protobuf'
import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import {
  AssignmentSchema,
  type GetRevisionResponse,
  GetRevisionResponseSchema,
  OrderSchema,
} from '../../../shared/gen/muster/v1/agent_pb.ts'
import { type Facts, FactsSchema } from '../../../shared/gen/muster/v1/facts_pb.ts'
import type { OperationReport, Outcome } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { randomId } from '../../../shared/ids.ts'
import { outcomeName } from '../../../shared/operation-names.ts'
import { signOutcome } from '../../../shared/outcome/signed-outcome.ts'
import {
  type SampleRevision,
  sampleHardware,
  sampleNow,
  sampleRevision,
  sampleTrust,
} from '../../../shared/revision/testing/sample-fleet.ts'
import { unavailable } from '../../../shared/rpc/rpc-error.ts'
import { packTree } from '../../../shared/tree/pack-tree.ts'
import { keyId } from '../../../shared/x509/key-id.ts'
import { NO_KUBERNETES, type NodeKubernetes } from '../../kubernetes/node-kubernetes.ts'
import { createLog } from '../../log.ts'
import type { System } from '../../system/system.ts'
import type { Units } from '../../units/units.ts'
import type { OperationsConfig, OperationsDeps } from '../context.ts'
import { initialiseMemory } from '../memory.ts'
import { type Operations, startOperations } from '../operations.ts'
import { ScriptedUnits } from './scripted-units.ts'

/** What the node signs its outcomes with. */
const keys = generateKeyPairSync('rsa', { modulusLength: 2048 })
const publicKey = keys.publicKey.export({ type: 'spki', format: 'der' })

/** A revision with the tree it was made of. */
export interface RevisionWithTree extends SampleRevision {
  readonly treeFile: string
}

/** The operations of one node, with everything around them under a test's control; its folder outlives a restart. */
export class NodeUnderTest implements AsyncDisposable {
  readonly dir: string
  /** SubjectPublicKeyInfo of the machine's key, DER. */
  readonly publicKey: Uint8Array = publicKey
  readonly machineId = keyId(publicKey)
  readonly system: System
  readonly lines: string[] = []
  readonly reports: OperationReport[] = []
  /** All output that was handed out to be sent. */
  readonly output: string[] = []
  now = sampleNow
  built: Date | undefined
  skewMs: number | undefined = 0
  /** What is looked at all the time; nothing, unless a test says so before the agent starts anew. */
  looks: Pick<OperationsDeps, 'failedUnits' | 'lookEveryMs'> = {}
  connected = true
  facts: Facts = create(FactsSchema, {
    system: { serial: sampleHardware.serial ?? '', uuid: sampleHardware.uuid ?? '' },
    cpu: { architecture: 'x86_64' },
    memory: { total: 8n * 1024n ** 3n },
    disks: [{ serial: 'S4EVNX0M123456' }],
    nixos: { nixVersion: '2.8.0' },
  })
  readFacts = async (): Promise<Facts> => this.facts
  /** What the coordinator answers; a test may lie. */
  answer: (number: bigint) => Promise<GetRevisionResponse> | GetRevisionResponse = () => {
    throw unavailable('no revision was published')
  }
  treeFile = ''
  /** How the coordinator serves the tree; a test may have it break off or stand still. */
  download: (offset: number, signal: AbortSignal) => AsyncIterable<Uint8Array> = offset =>
    createReadStream(this.treeFile, { start: offset })
  config: OperationsConfig
  /** None, unless a test gives it one before the agent starts anew. */
  kubernetes: NodeKubernetes = NO_KUBERNETES
  /** The service manager of its machine; it outlives the agent. */
  readonly units: ScriptedUnits
  /** Whether the coordinator confirms; a test may have it fall silent. */
  confirm: OperationsDeps['link']['confirmOperation'] = async () => ({ confirmed: true, reason: '' })
  #instance = randomId()
  #operations: Operations | undefined
  #stop = new AbortController()
  #life: Life = { over: false }
  #count = 0

  private constructor(dir: string, system: System, config: Partial<OperationsConfig>) {
    this.dir = dir
    this.system = system
    this.units = new ScriptedUnits(system)
    this.units.onRestart = async () => this.becomeAnother()
    this.config = {
      allow: ['apply'],
      activation: 'switch',
      sourceBuild: { enabled: true, leastMemoryBytes: 0 },
      systemRoot: '/root',
      // What is written there is real, whatever stands for the machine.
      rootsFolder: join(dir, 'gcroots'),
      storeDir: '/nix/store',
      simulates: ['this machine'],
      buildDeadlineMs: 60_000,
      switchDeadlineMs: 60_000,
      bootDeadlineMs: 60_000,
      kubernetesDeadlineMs: 60_000,
      clockWaitMs: 100,
      restartBoundMs: 60_000,
      keepGenerations: 10,
      toolPath: '/usr/bin',
      retry: { firstMs: 5, mostMs: 20 },
      ...config,
    }
  }

  static async start(system: System, config: Partial<OperationsConfig> = {}): Promise<NodeUnderTest> {
    const node = new NodeUnderTest(await mkdtemp(join(tmpdir(), 'mn-')), system, config)
    await initialiseMemory(node.stateDir)
    await node.start()
    return node
  }

  get stateDir(): string {
    return join(this.dir, 'state')
  }

  get operations(): Operations {
    if (!this.#operations) throw new Error('the node is stopped')
    return this.#operations
  }

  async start(): Promise<void> {
    this.#stop = new AbortController()
    const life: Life = { over: false }
    this.#life = life
    const deps: OperationsDeps = {
      stateDir: this.stateDir,
      system: whileAlive(life, this.system),
      link: {
        getRevision: async number => await this.answer(number),
        downloadTree: (_, offset, signal) => this.download(Number(offset), signal),
        confirmOperation: (request, signal) => this.confirm(request, signal),
        connected: () => this.connected,
      },
      units: whileAlive<Units>(life, this.units),
      kubernetes: whileAlive(life, this.kubernetes),
      program: ['/usr/bin/muster-agent'],
      instance: () => this.#instance,
      sign: statement => signOutcome(keys.privateKey, statement),
      trust: () => sampleTrust.trust,
      adoptTrust: async () => {},
      machineId: this.machineId,
      config: this.config,
      // The journal's records carry a time: whoever has none writes none.
      clock: whileAlive(life, { now: () => this.now }),
      built: this.built,
      log: createLog('debug', line => this.lines.push(line)),
      facts: () => this.readFacts(),
      outdateFacts: () => {},
      rule: async rule => ({ rule, kind: 'match', reason: '' }),
      skewMs: () => this.skewMs,
      ...this.looks,
    }
    const operations = await startOperations(deps, this.#stop.signal)
    operations.setAssignment(create(AssignmentSchema, { host: 'olaf' }))
    this.#operations = operations
  }

  /** What a restart of the agent makes of this process, as far as its coordinator can tell. */
  becomeAnother(): void {
    this.#instance = randomId()
  }

  /** Ends it as SIGKILL does: from this moment on it asks and records nothing any more, wherever it is. */
  async kill(): Promise<void> {
    this.becomeAnother()
    this.#life.over = true
    await this.stop()
  }

  /** Stops it as a service manager does: what runs is told and waited for. */
  async stop(): Promise<void> {
    const operations = this.#operations
    this.#operations = undefined
    this.#stop.abort(new Error('stopped by the test'))
    await operations?.[Symbol.asyncDispose]()
  }

  /** Makes a revision out of a folder, which the coordinator hands out from now on. */
  async publish(
    folder: string,
    change: Parameters<typeof sampleRevision>[0] = {},
  ): Promise<RevisionWithTree> {
    this.#count += 1
    const treeFile = join(this.dir, `tree-${this.#count}`)
    const tree = await packTree(folder, treeFile)
    if (tree.kind === 'refused') throw new Error(tree.reason)
    const revision = sampleRevision({ tree, ...change })
    this.offer(revision)
    this.treeFile = treeFile
    return { ...revision, treeFile }
  }

  offer(revision: SampleRevision): void {
    const [target] = revision.targets
    this.answer = () =>
      create(GetRevisionResponseSchema, {
        envelope: revision.envelope,
        target: target?.bytes ?? new Uint8Array(),
      })
  }

  /** Gives an order; its id. */
  async order(
    revision: SampleRevision,
    id = `op-${this.#count}-${randomId().slice(0, 8)}`,
    planOnly = false,
  ): Promise<string> {
    await this.operations.accept(
      create(OrderSchema, {
        operationId: id,
        revision: BigInt(revision.manifest.number),
        manifestDigest: revision.manifest.digest,
        ...(planOnly && { action: { case: 'apply', value: { planOnly } } }),
        expires: timestampFromDate(new Date(this.now.getTime() + 3_600_000)),
      }),
    )
    return id
  }

  report(id: string): OperationReport | undefined {
    return this.operations.history().find(({ operationId }) => operationId === id)
  }

  /** Waits for the end of an operation, and takes its output. */
  async outcome(id: string): Promise<Outcome> {
    const ended = await new Promise<Outcome>(resolve => {
      const look = () => {
        const outcome = this.report(id)?.outcome
        if (outcome) resolve(outcome)
      }
      this.operations.onChange(look)
      look()
    })
    this.takeOutput()
    return ended
  }

  takeOutput(): void {
    for (const waiting of [...this.operations.logs()]) {
      this.output.push(...waiting.lines)
      this.operations.logSent(waiting)
    }
  }

  async apply(revision: SampleRevision): Promise<Outcome> {
    return await this.outcome(await this.order(revision))
  }

  async journal(): Promise<string> {
    return await readFile(join(this.stateDir, 'journal.jsonl'), 'utf8')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
    // Units outlive the agent; they must not outlive their machine.
    await this.units.cut()
    await rm(this.dir, { recursive: true, force: true })
  }
}

interface Life {
  over: boolean
}

/** A door that a process has for as long as it lives. */
function whileAlive<T extends object>(life: Life, door: T): T {
  return new Proxy(door, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target)
      if (typeof value !== 'function') return value
      return (...args: unknown[]) => {
        if (life.over) {
          const killed = new Error('this process was killed')
          // As the door itself fails: at once where it answers at once.
          if (name === 'stream' || name === 'now') throw killed
          return Promise.reject(killed)
        }
        return value.apply(target, args)
      }
    },
  })
}

/** An outcome in words, as tests write them: "succeeded", "refused not-allowed". */
export function inWords({ class: kind, refusal }: Outcome): string {
  return [outcomeName(kind), refusal].filter(text => text !== '').join(' ')
}
