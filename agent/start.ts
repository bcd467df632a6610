import { join } from 'node:path'
import { fromBinary } from '@bufbuild/protobuf'
import { type Clock, systemClock } from '../shared/clock.ts'
import { FactsSchema } from '../shared/gen/muster/v1/facts_pb.ts'
import { randomId } from '../shared/ids.ts'
import { Disposers, openToMany } from '../shared/lifecycle.ts'
import { signOutcome } from '../shared/outcome/signed-outcome.ts'
import { buildTime } from './build-time.ts'
import { failedAct } from './clusters/acts/act.ts'
import type { ClusterDoor } from './clusters/cluster-door.ts'
import { startClusters } from './clusters/clusters.ts'
import { whyBusy } from './clusters/why-busy.ts'
import { type AgentConfig, NIX_STORE } from './config.ts'
import { CertificateStore } from './identity/certificate-store.ts'
import { ConsoleWriter } from './identity/console.ts'
import type { EnrolmentDeps } from './identity/enrolment.ts'
import { choosePins, loadToken } from './identity/token.ts'
import { nodeKubernetes } from './kubernetes/node-kubernetes.ts'
import { serveLocal } from './local/serve-local.ts'
import { StatusBoard } from './local/status-board.ts'
import { createLog, type Log } from './log.ts'
import type { OperationsDeps } from './operation/context.ts'
import { initialiseMemory } from './operation/memory.ts'
import { startOperations } from './operation/operations.ts'
import { fetchTree } from './operation/phases/fetch.ts'
import { readFailedUnits } from './probes/read-units.ts'
import { ClockSkew } from './session/clock-skew.ts'
import { FactsKeeper, type SerialisedFacts } from './session/facts-keeper.ts'
import { FleetLink } from './session/fleet-link.ts'
import { keepConnected } from './session/keep-connected.ts'
import { openStateDirectory } from './state/state-directory.ts'
import { TrustStore } from './trust/trust-store.ts'
import type { Units } from './units/units.ts'

/** For the tree of a revision whose manifests are brought to a cluster. */
/** For asking which units have failed. */
const UNITS_MS = 20_000
const TREE_MS = 10 * 60_000

/** What runs in short-lived children, so that this process never holds what it takes. */
export interface AgentChildren {
  readonly facts: (signal: AbortSignal) => Promise<SerialisedFacts>
  readonly rule: OperationsDeps['rule']
}

/** The agent's doors to its machine. */
export interface AgentParts {
  readonly system: OperationsDeps['system']
  /** The machine that questions are answered about: this one, or the one that is made up. */
  readonly probed: OperationsDeps['system']
  readonly children: AgentChildren
  /** The way to this machine's Kubernetes. */
  readonly clusterDoor: ClusterDoor
  /** How this agent is started: program and first arguments. */
  readonly program: readonly string[]
  readonly makeUnits: (machine: SimulatedMachine) => Units
}

/** What stands for parts of the machine where it is simulated. */
export interface SimulatedMachine {
  readonly stateDir: string
  readonly restartAgent: () => Promise<void>
}

/** What tests and the demo put in the place of the real thing. */
export interface AgentOverrides {
  readonly clock?: Clock
  readonly log?: Log
  readonly bootId?: string
  readonly built?: Date
}

export interface Agent extends AsyncDisposable {
  readonly machine: string
  readonly board: StatusBoard
  /** Settles when the agent has come to rest; rejects when it broke. */
  readonly ended: Promise<void>
}

/**
 * Builds the agent and sets it going. What cannot be right without a person (state that is damaged or in use, pins that
 * are missing or disagree) throws; everything else is waited out.
 */
export async function startAgent(
  config: AgentConfig,
  parts: AgentParts,
  overrides: AgentOverrides = {},
): Promise<Agent> {
  const disposers = new Disposers()
  try {
    return await build(config, parts, overrides, disposers)
  } catch (error) {
    await disposers[Symbol.asyncDispose]()
    throw error
  }
}

async function build(
  config: AgentConfig,
  { children, clusterDoor, system, probed, program, makeUnits }: AgentParts,
  overrides: AgentOverrides,
  disposers: Disposers,
): Promise<Agent> {
  const clock = overrides.clock ?? systemClock
  const log = overrides.log ?? createLog(config.logLevel)
  const token = config.tokenFile === undefined ? undefined : await loadToken(config.tokenFile)
  const directory = disposers.use(
    await openStateDirectory(config.stateDir, {
      keyBits: config.keyBits,
      prepare: initialiseMemory,
      ...(overrides.bootId === undefined ? {} : { bootId: overrides.bootId }),
    }),
  )
  const { state, identity } = directory
  const certificates = await CertificateStore.open(directory.path, identity.id)
  const pins = choosePins(config, token, state.current, certificates.current !== undefined)
  const trust = await TrustStore.open(directory.path, state)
  // Known by heart now: a set that was taken at first use and is the very one that a pin names needs no operator.
  if (pins.trustPin !== undefined) await trust.confirm(pins.trustPin)
  const board = new StatusBoard(config.coordinator)
  const skew = new ClockSkew(clock)
  const { retry } = config

  let instance = randomId()
  let reopen = () => {}
  const units = makeUnits({
    stateDir: directory.path,
    // On a simulated machine there is no unit to start anew: a session of another instance stands for it.
    restartAgent: async () => {
      instance = randomId()
      reopen()
    },
  })
  const stop = openToMany()
  const facts = new FactsKeeper(
    { collect: children.facts, everyMs: config.factsEveryMs, retry, log },
    stop.signal,
  )
  const link = new FleetLink({ directory, certificates, trust, pins, clock, connectMs: retry.connectMs })
  const door = clusterDoor({ stateDir: directory.path, publicKeyDer: identity.publicKeyDer, clock })
  const operations = await startOperations(
    {
      stateDir: directory.path,
      system,
      units,
      failedUnits: signal => readFailedUnits(probed, UNITS_MS, signal),
      kubernetes: nodeKubernetes(system, door),
      link,
      trust: () => trust.current,
      adoptTrust: async adopted => {
        await trust.adopt(adopted)
      },
      machineId: identity.id,
      config: {
        allow: config.allow,
        activation: config.activation,
        sourceBuild: config.sourceBuild,
        systemRoot: config.systemRoot ?? '/',
        rootsFolder: join(config.systemRoot ?? '/', 'nix/var/nix/gcroots/muster'),
        storeDir: config.storeDir,
        simulates: simulationsOf(config),
        buildDeadlineMs: config.deadlines.buildMs,
        switchDeadlineMs: config.deadlines.switchMs,
        bootDeadlineMs: config.deadlines.bootMs,
        kubernetesDeadlineMs: config.deadlines.kubernetesMs,
        clockWaitMs: config.deadlines.clockMs,
        restartBoundMs: config.restartBoundMs,
        keepGenerations: config.generations.keep,
        retry,
        toolPath: config.toolPath,
      },
      program,
      instance: () => instance,
      sign: statement => signOutcome(identity.privateKeyPem, statement),
      clock,
      built: overrides.built ?? buildTime(),
      log: log.child({ part: 'operations' }),
      facts: async () => fromBinary(FactsSchema, (await facts.refresh()).bytes),
      outdateFacts: () => facts.outdate(),
      rule: children.rule,
      skewMs: () => skew.ms,
    },
    stop.signal,
  )
  disposers.use(operations)
  // Before the operations are waited for: what runs must know that it is to stop.
  disposers.defer(() => stop.abort(new Error('the agent stops')))

  const clusters = disposers.use(
    await startClusters(
      {
        ...door,
        stateDir: directory.path,
        identity,
        trust: () => trust.current,
        accepted: () => operations.memory(),
        getRevision: async (number, signal) => await link.getRevision(number, signal),
        fetchTree: async ({ number, treeDigest, treeLength }, signal) => {
          // In a folder of its own: an operation may be fetching the same tree.
          const treeDeps = {
            stateDir: join(directory.path, 'clusters'),
            link,
            log,
            config: { retry, buildDeadlineMs: TREE_MS },
          }
          const manifest = { treeDigest, treeLength: BigInt(treeLength) }
          const fetched = await fetchTree({ deps: treeDeps, signal }, { number, manifest })
          if (fetched.kind === 'ok') return { kind: 'ok', folder: fetched.value }
          return fetched.kind === 'stopped'
            ? failedAct('cancelled', 'the agent stops')
            : failedAct('tree', fetched.reason)
        },
        allow: config.allow,
        held: () => operations.nodeStatus().held?.reason,
        busy: () => whyBusy(operations.history()),
        retry,
        clock,
        log: log.child({ part: 'clusters' }),
      },
      stop.signal,
    ),
  )
  disposers.defer(() => stop.abort(new Error('the agent stops')))

  const local = { directory, certificates, trust, operations, clusters, board, clock, log }
  disposers.use(await serveLocal({ ...local, onTrustSet: () => reopen() }, config.socket))

  let reported = ''
  const isNews = (text: string) => {
    const news = text !== reported
    reported = text
    return news
  }
  const enrolment: EnrolmentDeps = {
    coordinator: config.coordinator,
    directory,
    certificates,
    trust,
    pins,
    token,
    clock,
    facts: () => facts.forEnrolment(),
    serial: () => facts.serial(),
    connectMs: retry.connectMs,
    isNews,
    retry,
    console: new ConsoleWriter(config.console, log),
    board,
    log,
  }
  log.info(
    { machine: identity.id, coordinator: config.coordinator, stateDir: config.stateDir },
    'agent started',
  )
  const connection = keepConnected(
    {
      link,
      state,
      trust,
      facts,
      operations,
      clusters,
      identity,
      probed,
      skew,
      board,
      clock,
      log,
      pins,
      enrolment,
      certificates,
      retry,
      allowed: config.allow,
      simulated: config.simulated,
      instance: () => instance,
      deadlineMs: retry.connectMs,
      onReopen: handle => {
        reopen = handle
      },
    },
    stop.signal,
  )
  const ended = Promise.all([connection, facts.keepFresh()]).then(() => {})
  ended.catch(() => {}) // main waits for it; until then it must not count as unhandled
  disposers.defer(async () => {
    stop.abort(new Error('the agent stops'))
    await ended
    log.info({}, 'agent stopped')
  })
  return {
    machine: identity.id,
    board,
    ended,
    [Symbol.asyncDispose]: () => disposers[Symbol.asyncDispose](),
  }
}

/** What every outcome on this machine has to say about itself. */
function simulationsOf({ simulated, factsRoot, systemRoot, storeDir }: AgentConfig): readonly string[] {
  if (!simulated) return []
  return [
    ...(factsRoot === undefined ? [] : [`facts read from ${factsRoot}`]),
    ...(systemRoot === undefined ? [] : [`system kept in ${systemRoot}`]),
    ...(storeDir === NIX_STORE ? [] : [`built without Nix in ${storeDir}`]),
  ]
}
