// For tests: a coordinator that is only as large as the command needs, behind a real gRPC server. What it judges, it
// judges with the shared code that the real one uses.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import { Server, status } from '@grpc/grpc-js'
import { ClusterService } from '../../shared/gen/muster/v1/cluster_pb.ts'
import type { Envelope } from '../../shared/gen/muster/v1/envelope_pb.ts'
import { type Event, EventSchema } from '../../shared/gen/muster/v1/event_pb.ts'
import { type Evidence, EvidenceSchema } from '../../shared/gen/muster/v1/evidence_pb.ts'
import type { FactsChange } from '../../shared/gen/muster/v1/facts_change_pb.ts'
import { FactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import { type Machine, MachineSchema, MachineState } from '../../shared/gen/muster/v1/machine_pb.ts'
import { OutcomeClass, OutcomeSchema, Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import { OperatorService } from '../../shared/gen/muster/v1/operator_pb.ts'
import { type OperationSummary, OperationSummarySchema } from '../../shared/gen/muster/v1/order_pb.ts'
import { PlanMode, PlanSchema } from '../../shared/gen/muster/v1/plan_pb.ts'
import { RolloutService } from '../../shared/gen/muster/v1/rollout_pb.ts'
import { type Token, TokenSchema } from '../../shared/gen/muster/v1/token_pb.ts'
import { operationId, randomId } from '../../shared/ids.ts'
import { compileExpression, select } from '../../shared/query/expression.ts'
import { factsToCel } from '../../shared/query/message-to-cel.ts'
import { judgePublish } from '../../shared/revision/judge-publish.ts'
import type { KnownManifest } from '../../shared/revision/read-manifest.ts'
import type { ServiceHandlers } from '../../shared/rpc/definition.ts'
import {
  aborted,
  denied,
  exists,
  invalid,
  notFound,
  precondition,
  RpcError,
} from '../../shared/rpc/rpc-error.ts'
import { serve } from '../../shared/rpc/serve.ts'
import { checkTree } from '../../shared/tree/receive-tree.ts'
import type { KnownTrust } from '../../shared/trust/trust-set.ts'
import { walkTrust } from '../../shared/trust/walk-trust.ts'
import { listenLocally } from './local-listener.ts'
import { clusterHandlers, type SmallClusters, startSmallClusters } from './small-clusters.ts'
import { rolloutHandlers, type SmallRollouts, startSmallRollouts } from './small-rollouts.ts'

interface StoredRevision {
  readonly manifest: KnownManifest
  readonly envelope: Envelope
  readonly targets: readonly Uint8Array[]
  readonly tree: Buffer
}

export interface SmallCoordinator extends AsyncDisposable {
  readonly folder: string
  readonly socket: string
  readonly machines: Machine[]
  readonly tokens: Token[]
  readonly events: Event[]
  readonly factsChanges: FactsChange[]
  readonly operations: Map<string, OperationSummary>
  readonly revisions: StoredRevision[]
  /** Number of the newest revision while none of them is stored here. */
  newestNumber: number
  readonly clusters: SmallClusters
  readonly rollouts: SmallRollouts
  readonly authorities: { pin: string; current: boolean; certificatePem: string }[]
  readonly calls: { readonly method: string; readonly request: object }[]
  /** How operations of a host end; succeeded where nothing is said. */
  readonly outcomes: Map<string, OutcomeClass>
  /** What a host's plans say; a switch without anything else where nothing is said. */
  readonly plans: Map<string, MessageInitShape<typeof PlanSchema>>
  evidence: Evidence
  readonly restored: Buffer[]
  /** Runs in the middle of the next publication. */
  meanwhile: (() => Promise<unknown>) | undefined
  /** While true, operations get no outcome. */
  stuck: boolean
  trust(): KnownTrust | undefined
  /** Goes away as in a restart, and is back at the same place when what it answers with is called. */
  stop(): () => Promise<void>
  /** Another server of the same coordinator, not yet listening. */
  secondServer(): Server
  loseRevisions(): void
}

const NOW = () => timestampFromMs(Date.now())

export function sampleMachine(change: MessageInitShape<typeof MachineSchema> = {}): Machine {
  return create(MachineSchema, {
    id: 'ab'.repeat(32),
    state: MachineState.ACTIVE,
    host: 'olaf',
    online: true,
    lastSeen: timestampFromMs(Date.now() - 5_000),
    firstSeen: timestampFromMs(Date.now() - 300_000),
    product: 'N100',
    serial: 'SN1',
    facts: toBinary(
      FactsSchema,
      create(FactsSchema, {
        system: { vendor: 'Acme', product: 'N100', serial: 'SN1' },
        cpu: { architecture: 'x86_64', threads: 4n },
        memory: { total: 17_179_869_184n },
        disks: [{ name: 'sda', serial: 'D1', size: 1_000_204_886_016n }],
      }),
    ),
    ...change,
  })
}

export async function startSmallCoordinator(): Promise<SmallCoordinator> {
  const folder = await mkdtemp(join(tmpdir(), 'muster-cli-'))
  const socket = join(folder, 'coordinator.sock')
  const chain: Envelope[] = []
  let known: KnownTrust | undefined
  const state: Omit<SmallCoordinator, typeof Symbol.asyncDispose> = {
    folder,
    socket,
    machines: [sampleMachine()],
    tokens: [],
    events: [],
    factsChanges: [],
    operations: new Map(),
    revisions: [],
    newestNumber: 0,
    clusters: startSmallClusters(),
    rollouts: startSmallRollouts(),
    authorities: [{ pin: 'c'.repeat(64), current: true, certificatePem: '' }],
    calls: [],
    outcomes: new Map(),
    plans: new Map(),
    evidence: create(EvidenceSchema),
    restored: [],
    meanwhile: undefined,
    stuck: false,
    trust: () => known,
    secondServer: () => new Server(),
    stop: (): (() => Promise<void>) => async () => {},
    loseRevisions: () => void state.revisions.splice(0),
  }

  const called = (method: string, request: object) => void state.calls.push({ method, request })
  const find = (ref: string): Machine => {
    const found = state.machines.filter(
      ({ host, id }) => host === ref || (ref.length >= 4 && id.startsWith(ref)),
    )
    const [machine, second] = found
    if (second) throw invalid(`ref: ${ref} names several machines`)
    if (!machine) throw notFound(`ref: no machine is named ${ref}`)
    return machine
  }
  const become = (ref: string, next: MachineState) => {
    const machine = find(ref)
    machine.state = next
    return { machine }
  }
  const selected = (where: string) => {
    const errors: { machine: string; reason: string }[] = []
    if (where === '') return { machines: state.machines, errors }
    const compiled = compileExpression(where)
    if (compiled.kind === 'refused') throw invalid(`where: ${compiled.reason}`)
    const machines = state.machines.filter(machine => {
      const facts = machine.facts.length > 0 ? factsToCel(fromBinary(FactsSchema, machine.facts)) : undefined
      const selection = select(compiled.expression, { labels: machine.labels, ...(facts && { facts }) })
      if (selection.kind === 'error')
        errors.push({ machine: machine.host || machine.id, reason: selection.reason })
      return selection.kind === 'match'
    })
    return { machines, errors }
  }
  const newest = () => state.revisions.at(-1)

  const handlers: ServiceHandlers<typeof OperatorService> = {
    getFleet: async () => ({
      fleetId: known?.set.fleetId ?? '',
      version: '0.1.0',
      caPin: 'c'.repeat(64),
      trustPin: known?.digest ?? '',
      trustNumber: BigInt(known?.number ?? 0),
      enrolmentAddress: 'coordinator.test:7443',
      fleetAddress: 'coordinator.test:7444',
      revision: BigInt(newest()?.manifest.number ?? 0),
      manifestDigest: newest()?.manifest.digest ?? '',
      machinesByState: { active: BigInt(state.machines.length) },
      online: BigInt(state.machines.filter(({ online }) => online).length),
      started: NOW(),
      now: NOW(),
    }),
    listMachines: async request => {
      called('listMachines', request)
      const { machines, errors } = selected(request.where)
      const wanted = machines.filter(
        machine => request.states.length === 0 || request.states.includes(machine.state),
      )
      // Two a page, so that paging is always used.
      const from = Number(request.pageToken || '0')
      const next = from + 2 < wanted.length ? String(from + 2) : ''
      return {
        machines: wanted.slice(from, from + 2).map(machine => ({ ...machine, facts: new Uint8Array() })),
        errors: from === 0 ? errors : [],
        nextPageToken: next,
      }
    },
    getMachine: async request => {
      const machine = find(request.ref)
      const older = toBinary(FactsSchema, create(FactsSchema, { memory: { total: 8_589_934_592n } }))
      return {
        machine,
        history: request.history > 0 ? [{ facts: older, at: NOW() }] : [],
        events: state.events,
      }
    },
    approveMachine: async request => {
      called('approveMachine', request)
      const machine = find(request.ref)
      machine.host = request.host
      machine.labels = request.labels
      return become(machine.id, MachineState.ENROLLED)
    },
    rejectMachine: async request => become(request.ref, MachineState.REJECTED),
    evictMachine: async request => {
      called('evictMachine', request)
      return become(request.ref, MachineState.EVICTED)
    },
    banMachine: async request => become(request.ref, MachineState.BANNED),
    releaseMachine: async request => become(request.ref, MachineState.ACTIVE),
    bindHost: async request => {
      const machine = find(request.machine)
      if (state.machines.some(({ host }) => host === request.host))
        throw exists(`host: ${request.host} is bound already`)
      machine.host = request.host
      return { machine }
    },
    unbindHost: async request => {
      find(request.host).host = ''
      return {}
    },
    createToken: async request => {
      called('createToken', request)
      const info = create(TokenSchema, {
        id: randomId().slice(0, 12),
        uses: request.uses,
        labels: request.labels,
        host: request.host,
        created: NOW(),
        expires: timestampFromMs(Date.now() + Number(request.lifetime?.seconds ?? 0n) * 1000),
        createdBy: 'local',
      })
      state.tokens.push(info)
      return { token: `${info.id}.secret.${'c'.repeat(64)}.${'d'.repeat(64)}`, info }
    },
    listTokens: async () => ({ tokens: state.tokens }),
    revokeToken: async request => {
      const token = state.tokens.find(({ id }) => id === request.id)
      if (!token) throw notFound(`id: no token ${request.id}`)
      token.revoked = true
      return { token }
    },
    getFleetTrust: async () => ({ trust: { envelopes: chain }, authorities: state.authorities }),
    setFleetTrust: async request => {
      const offered = request.trust?.envelopes ?? []
      const walk = walkTrust(known ? { kind: 'current', trust: known } : { kind: 'first-use' }, offered)
      if (walk.kind === 'refused') throw denied(walk.reason)
      chain.splice(0, chain.length, ...offered)
      known = walk.trust
      return { number: BigInt(known.number), digest: known.digest }
    },
    confirmTrust: async () => ({ confirmed: 1 }),
    rotateAuthority: async request => {
      called('rotateAuthority', request)
      if (request.step === 'add')
        state.authorities.push({ pin: 'e'.repeat(64), current: false, certificatePem: '' })
      if (request.step === 'switch') for (const one of state.authorities) one.current = !one.current
      if (request.step === 'drop') {
        const old = state.authorities.findIndex(({ current }) => !current)
        if (old < 0) throw precondition('step: there is no authority that could be dropped')
        state.authorities.splice(old, 1)
      }
      return { authorities: state.authorities }
    },
    addOperator: async request => {
      called('addOperator', request)
      return {
        chainPem: 'CHAIN',
        authorityPem: 'AUTHORITY',
        notAfter: timestampFromMs(Date.now() + 86_400_000),
        fleetAddress: 'coordinator.test:7444',
      }
    },
    listOperators: async () => ({
      operators: [{ name: 'ann', id: 'f'.repeat(64), notAfter: timestampFromMs(Date.now() + 86_400_000) }],
    }),
    removeOperator: async request => {
      if (request.name !== 'ann') throw notFound(`name: no operator ${request.name}`)
      return {}
    },
    publishRevision: async requests => {
      if (!known) throw precondition('the coordinator has no trust set')
      const reader = requests[Symbol.asyncIterator]()
      const first = await reader.next()
      if (first.done || first.value.part.case !== 'header') throw invalid('part: the header comes first')
      const header = first.value.part.value
      const trust = known
      const judge = () => {
        const verdict = judgePublish({
          newest: newest()?.manifest,
          envelope: header.envelope,
          targets: header.targets,
          trust,
          expectedPredecessor: header.expectedPredecessor,
          renew: header.renew,
          now: new Date(),
        })
        if (verdict.kind !== 'refused') return verdict
        throw verdict.class === 'conflict' ? aborted(verdict.reason) : denied(verdict.reason)
      }
      const verdict = judge()
      const { manifest } = verdict
      const answer = { number: BigInt(manifest.number), manifestDigest: manifest.digest }
      if (verdict.kind === 'unchanged' || !header.envelope) return { ...answer, unchanged: true }
      const chunks: Buffer[] = []
      if (header.renew) chunks.push(newest()?.tree ?? Buffer.alloc(0))
      else {
        for (let next = await reader.next(); !next.done; next = await reader.next()) {
          if (next.value.part.case === 'chunk') chunks.push(Buffer.from(next.value.part.value))
        }
      }
      const { treeDigest: digest, treeLength } = manifest.manifest
      const source = (async function* () {
        yield* chunks
      })()
      const check = await checkTree(source, { digest, length: Number(treeLength) })
      if (check.kind === 'refused') throw invalid(check.reason)
      const { meanwhile } = state
      state.meanwhile = undefined
      await meanwhile?.()
      judge()
      state.revisions.push({
        manifest,
        envelope: header.envelope,
        targets: header.targets,
        tree: Buffer.concat(chunks),
      })
      return { ...answer, unchanged: false }
    },
    listRevisions: async () => ({
      revisions: state.revisions.toReversed().map(({ manifest }) => ({
        number: BigInt(manifest.number),
        manifestDigest: manifest.digest,
        treeLength: manifest.manifest.treeLength,
        published: NOW(),
        publishedBy: 'local',
        commit: manifest.manifest.provenance?.commit ?? '',
        hosts: manifest.hosts.size,
        expires: timestampFromMs(manifest.expires.getTime()),
      })),
    }),
    getFleetRevision: async request => {
      const found =
        request.number === 0n
          ? newest()
          : state.revisions.find(({ manifest }) => manifest.number === Number(request.number))
      if (!found) throw notFound(`number: no revision ${request.number}`)
      return { envelope: found.envelope, targets: [...found.targets] }
    },
    downloadRevisionTree: async function* (request) {
      const found = state.revisions.find(({ manifest }) => manifest.number === Number(request.number))
      if (!found) throw notFound(`number: no revision ${request.number}`)
      yield { chunk: found.tree.subarray(0, 100) }
      yield { chunk: found.tree.subarray(100) }
    },
    giveOrders: async request => {
      called('giveOrders', request)
      const { machines, errors } =
        request.refs.length > 0 ? { machines: request.refs.map(find), errors: [] } : selected(request.where)
      const { action } = request
      const revision = action.case === 'apply' ? action.value.revision : 0n
      const newestNumber =
        action.case === 'apply' ? BigInt(newest()?.manifest.number ?? state.newestNumber) : 0n
      const word = action.case === 'apply' && action.value.planOnly ? 'plan' : (action.case ?? '')
      const operations = machines.map(machine =>
        create(OperationSummarySchema, {
          operationId: operationId(new Date()),
          machine: machine.id,
          host: machine.host,
          revision: revision || newestNumber,
          action: word,
          ...(action.case === 'rollback' && { rollback: action.value }),
          ordered: NOW(),
          orderedBy: 'local',
        }),
      )
      for (const operation of operations) state.operations.set(operation.operationId, operation)
      return { operations, errors }
    },
    getEvidence: async function* (request) {
      called('getEvidence', request)
      if (state.evidence.trust) yield { item: { case: 'trust', value: state.evidence.trust } }
      for (const value of state.evidence.machines) yield { item: { case: 'machine', value } }
      for (const value of state.evidence.outcomes) yield { item: { case: 'outcome', value } }
      for (const value of state.evidence.revisions) yield { item: { case: 'revision', value } }
    },
    listOperations: async request => {
      if (request.ref !== '') find(request.ref)
      const [only, second] = request.operationIds
      const operations = [...state.operations.values()].filter(
        ({ operationId: id, host }) =>
          (only === undefined ||
            request.operationIds.includes(id) ||
            (second === undefined && only.length >= 4 && id.startsWith(only))) &&
          (request.ref === '' || request.ref === host),
      )
      if (only !== undefined && operations.length === 0) throw notFound(`operation_ids: no operation ${only}`)
      return { operations }
    },
    watchOperations: async function* (request, { signal }) {
      for (const id of request.operationIds) {
        const operation = state.operations.get(id)
        if (!operation) throw notFound(`operation_ids: no operation ${id}`)
        operation.phase = Phase.BUILD
        operation.delivered = true
        operation.phases = [
          {
            $typeName: 'muster.v1.PhaseRecord',
            sequence: 1n,
            phase: Phase.BUILD,
            detail: '',
            started: NOW(),
          },
        ]
        yield { operation }
        if (state.stuck) continue
        const changed = create(OperationSummarySchema, {
          ...operation,
          phase: Phase.DONE,
          ...(operation.action === 'plan' && {
            plan: create(PlanSchema, state.plans.get(operation.host) ?? { mode: PlanMode.SWITCH }),
          }),
          outcome: create(OutcomeSchema, {
            class: state.outcomes.get(operation.host) ?? OutcomeClass.SUCCEEDED,
            reason: 'as the test wants it',
            ended: NOW(),
          }),
        })
        state.operations.set(id, changed)
        yield { operation: changed }
      }
      if (state.stuck) await new Promise<void>(resolve => signal.addEventListener('abort', () => resolve()))
    },
    followLogs: async function* (request) {
      find(request.ref)
      yield { operationId: 'op', first: 0n, lines: ['building', 'warning:\u001b[2J\ttab'] }
      yield { operationId: 'op', first: 2n, lines: ['done'], dropped: 3n }
      yield { operationId: 'op', end: true }
    },
    query: async function* (request) {
      called('query', request)
      const names = [...request.groupBy, ...request.select]
      yield { item: { case: 'columns' as const, value: { names, groups: request.groupBy.length > 0 } } }
      const { machines, errors } = selected(request.expression === 'true' ? '' : request.expression)
      const rows = machines.map(({ id, host }) => ({ machine: id, host, values: names.map(() => '{"a":1}') }))
      // As the coordinator does: what is asked live comes as machines answer.
      if (request.live) for (const value of rows) yield { item: { case: 'row' as const, value } }
      else yield { item: { case: 'rows' as const, value: { rows } } }
      yield {
        item: {
          case: 'end' as const,
          value: {
            asked: state.machines.length,
            answered: request.live ? 0 : state.machines.length,
            matched: machines.length,
            silent: request.live ? ['olaf'] : [],
            errors,
          },
        },
      }
    },
    listFactsChanges: async request => {
      called('listFactsChanges', request)
      return { changes: state.factsChanges, sets: 2, more: false }
    },
    listEvents: async request => ({
      events: state.events
        .filter(({ id }) => id > request.after && (request.before === 0n || id < request.before))
        .toReversed()
        .slice(0, request.limit || 100),
    }),
    getAuditHeads: async function* () {},
    getDrift: async function* () {},
    getHealth: async () => ({}),
    backup: async function* () {
      yield { chunk: Buffer.from('back') }
      yield { chunk: Buffer.from('up') }
    },
    restore: async requests => {
      for await (const { chunk } of requests) state.restored.push(Buffer.from(chunk))
      if (Buffer.concat(state.restored).toString() === 'no backup')
        throw invalid('backup: ends in the middle')
      return { summary: 'restored' }
    },
  }

  const newServer = () => {
    const server = new Server()
    const onBug = (method: string, error: unknown) => {
      throw new RpcError(status.INTERNAL, `${method}: ${String(error)}`)
    }
    serve(server, OperatorService, handlers, { onBug })
    serve(
      server,
      ClusterService,
      clusterHandlers(state.clusters, () => known),
      { onBug },
    )
    serve(server, RolloutService, rolloutHandlers(state.rollouts), { onBug })
    return server
  }
  let server = newServer()
  state.secondServer = newServer
  state.stop = () => {
    server.forceShutdown()
    return async () => {
      await rm(socket, { force: true })
      server = newServer()
      await listenLocally(server, socket)
    }
  }
  await listenLocally(server, socket)
  return Object.assign(state, {
    async [Symbol.asyncDispose]() {
      server.forceShutdown()
      await rm(folder, { recursive: true, force: true })
    },
  })
}

export function sampleEvent(id: bigint, change: MessageInitShape<typeof EventSchema> = {}): Event {
  return create(EventSchema, { id, at: NOW(), class: 'enrolled', host: 'olaf', actor: 'local', ...change })
}
