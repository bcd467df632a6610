import { chmod, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { status } from '@grpc/grpc-js'
import { type Clock, systemClock } from '../shared/clock.ts'
import { makePrivateDirectory } from '../shared/durable-file.ts'
import { Health } from '../shared/gen/grpc/health/v1/health_pb.ts'
import { AgentService, SessionResponseSchema } from '../shared/gen/muster/v1/agent_pb.ts'
import { ClusterService } from '../shared/gen/muster/v1/cluster_pb.ts'
import { EnrolmentService } from '../shared/gen/muster/v1/enrolment_pb.ts'
import { OperatorService } from '../shared/gen/muster/v1/operator_pb.ts'
import { RolloutService } from '../shared/gen/muster/v1/rollout_pb.ts'
import { Disposers, openToMany } from '../shared/lifecycle.ts'
import type { Logger } from '../shared/log.ts'
import { lockDirectory } from '../shared/process-lock.ts'
import { Encoded, type Peer } from '../shared/rpc/definition.ts'
import { RpcError } from '../shared/rpc/rpc-error.ts'
import { type ServeOptions, serve } from '../shared/rpc/serve.ts'
import type { Caller } from './api/caller.ts'
import type { PublishedRevision } from './api/publish-revision.ts'
import { AuditHeads } from './audit/show-heads.ts'
import { type Authorities, openAuthorities } from './authority/authorities.ts'
import { watchRefusedHandshakes } from './authority/refused-handshakes.ts'
import { createRenewableServerCredentials } from './authority/server-credentials.ts'
import { applyStagedRestore } from './backup/apply-restore.ts'
import { ownHostBackup } from './backup/own-host-backup.ts'
import { callerOf } from './caller-of.ts'
import { type Asked, grantAct, judgeAsk } from './clusters/acts/grant-act.ts'
import type { ActAsk } from './clusters/acts/read-ask.ts'
import { Conductor } from './clusters/conductor.ts'
import type { CoordinatorConfig } from './config.ts'
import { Nonces } from './enrolment/nonces.ts'
import { RefusalLog } from './enrolment/refusal-log.ts'
import { StrangerThrottle } from './enrolment/stranger-throttle.ts'
import { housekeeping } from './housekeeping.ts'
import { type Listener, MEMBERS, openListener, STRANGERS } from './listener.ts'
import { openLocalListener } from './local-listener.ts'
import { MachineDirectory } from './machines/directory.ts'
import { FleetTrust } from './machines/fleet-trust.ts'
import { OperatorBook } from './machines/operator-book.ts'
import { findOwnHost, readSystemId } from './machines/own-host.ts'
import { ChangeFeed } from './operations/change-feed.ts'
import type { NodeClaims } from './operations/node-claims.ts'
import { FactsCache } from './queries/facts-cache.ts'
import { announceRevision, type CommittedRevision, followRevision } from './revisions/announce-revision.ts'
import { openBlobs } from './revisions/blobs.ts'
import { fleetTargetsCache } from './revisions/fleet-targets.ts'
import { conductorSource } from './rollouts/conductor-source.ts'
import { openRolloutEngine, type RolloutEngine } from './rollouts/engine.ts'
import { agentService } from './services/agent-service.ts'
import { clusterService } from './services/cluster-service.ts'
import { enrolmentService } from './services/enrolment-service.ts'
import { healthService } from './services/health-service.ts'
import { OpenCalls } from './services/open-calls.ts'
import { operatorService } from './services/operator-service.ts'
import { rolloutService } from './services/rollout-service.ts'
import { sessionHooks } from './session-hooks.ts'
import { SessionRegistry } from './sessions/registry.ts'
import { treeDigests } from './store/revisions.ts'
import { openStore } from './store/store.ts'

const DAY_MS = 86_400_000
/** So long the notices of a revision have the processor before what follows from it is done. */
const ANNOUNCE_MS = 1_000

export interface CoordinatorOverrides {
  readonly clock?: Clock
}

/** A running coordinator. */
export interface Coordinator extends AsyncDisposable {
  readonly enrolmentPort: number
  readonly fleetPort: number
  readonly caPin: string
  /** Resolves when it wants to be started anew on the same state, for instance after a restore. */
  readonly restartWanted: Promise<string>
}

/** Builds a coordinator and sets it going. It answers nothing before all it knows is loaded. */
export async function startCoordinator(
  config: CoordinatorConfig,
  log: Logger,
  overrides: CoordinatorOverrides = {},
): Promise<Coordinator> {
  const disposers = new Disposers()
  try {
    return await build(config, log, overrides, disposers)
  } catch (error) {
    await disposers[Symbol.asyncDispose]()
    throw error
  }
}

async function build(
  config: CoordinatorConfig,
  log: Logger,
  { clock = systemClock }: CoordinatorOverrides,
  disposers: Disposers,
): Promise<Coordinator> {
  const { stateDir } = config
  await makePrivateDirectory(stateDir)
  // Whoever made it first may have let others in: it holds the authority's key and all that machines say.
  await chmod(stateDir, 0o700)
  disposers.use(await lockDirectory(stateDir, 'coordinator'))
  const restored = await applyStagedRestore(stateDir)
  if (restored) log.warn(restored, 'restored from a backup')
  const store = disposers.use(await openStore(join(stateDir, 'store.sqlite'), clock.now()))
  const blobs = await openBlobs(join(stateDir, 'blobs'))
  // What a kill left behind: trees that were received whole or in part, but of which no revision was written.
  await blobs.sweep(await treeDigests(store.db))
  const fleetTargets = fleetTargetsCache()
  await fleetTargets.reload(store.db)
  const directory = await MachineDirectory.load(store.db, fleetTargets.current())
  const trust = await FleetTrust.load(store.db)
  const operators = await OperatorBook.load(store.db)
  const authorities = disposers.use(await openAuthority(config, clock, log, directory))

  const stop = openToMany()
  let wantRestart: (why: string) => void = () => {}
  let engine: RolloutEngine | undefined
  const restartWanted = new Promise<string>(resolve => {
    wantRestart = resolve
  })
  // Whatever becomes of an operation may let a rollout go on.
  const operationFeed = new ChangeFeed(() => engine?.runner.trigger())
  const rolloutFeed = new ChangeFeed()
  const conditions = {
    stuckAfterMs: config.stuckMinutes * 60_000,
    certificateWarnMs: (config.machineCertificateDays * DAY_MS) / 6,
  }
  const factsLimits = { keep: 100, maxAgeMs: config.retention.days * DAY_MS }
  const orderLifetimeMs = config.orderMinutes * 60_000
  const auditHeads = new AuditHeads(store, config.auditSeconds * 1_000)
  const base = {
    store,
    auditHeads,
    directory,
    clock,
    log,
    operationFeed,
    factsLimits,
    trust,
    orderLifetimeMs,
    nodes: {
      // Nobody is heard before the engine is there.
      sawHello: async (tx, machine, hello) =>
        (await engine?.nodes.sawHello(tx, machine, hello)) ?? (() => {}),
      sawOperation: (machine, operation) => engine?.nodes.sawOperation(machine, operation),
      sawOrder: async (tx, claim) => await engine?.nodes.sawOrder(tx, claim),
      sawRollout: (machine, claim) => engine?.nodes.sawRollout(machine, claim),
    } satisfies NodeClaims,
  }
  const registry: SessionRegistry = new SessionRegistry({
    hooks: sessionHooks({
      ...base,
      halted: () => engine?.halted(),
      clusters: {
        began: machine => clusters.began(machine),
        report: (machine, report) => clusters.report(machine, report),
        state: (machine, state) => clusters.state(machine, state),
      },
    }),
    clock,
    log,
    heartbeatMs: config.heartbeatSeconds * 1000,
    challengeMs: config.challengeSeconds * 1000,
    restartExpectedMs: config.restartExpectedSeconds * 1000,
    signal: stop.signal,
  })

  const clusters: Conductor = new Conductor({
    ...base,
    fleetTargets,
    blobs,
    sessions: registry,
    askMs: config.clusterAskSeconds * 1000,
    stuck: { afterMs: conditions.stuckAfterMs },
    // Whether it was set back is known with the engine.
    halted: () => (engine ? engine.halted() : 'the coordinator is starting'),
    onNews: () => engine?.runner.trigger(),
    signal: stop.signal,
  })

  const ownHost = findOwnHost({ directory, configured: config.ownHost, systemId: await readSystemId() })
  const ownHostCopies = ownHostBackup({ stateDir, store, blobs, clock })
  const actDeps = {
    store,
    clock,
    trust,
    fleetTargets,
    snapshot: (name: string) => clusters.snapshot(name),
  }
  const grant = (asked: Asked) => grantAct(actDeps, asked)
  const clusterSource = conductorSource({ store, clock, clusters, fleetTargets, grantAct: grant })
  const rollouts = await openRolloutEngine({
    ...base,
    sessions: registry,
    clusters: clusterSource,
    rolloutFeed,
    ownHost,
    ownHostBackup: ownHostCopies,
  })
  engine = rollouts

  const onTrustChanged = async () => {
    await trust.reload(store.db)
    registry.broadcast(
      Encoded.of(SessionResponseSchema, {
        message: { case: 'trust', value: { number: BigInt(trust.number) } },
      }),
    )
  }
  const onCommitted = async (revision: CommittedRevision) => {
    await announceRevision(registry, revision)
    await registry.drained(ANNOUNCE_MS)
  }
  const onPublished = ({ revision, trustChanged }: PublishedRevision) => {
    const follow = async () => {
      await followRevision({ db: store.db, directory, registry, fleetTargets })
      clusters.triggerAll()
    }
    // Who is to be trusted is told first: a revision that changes it is announced only after that.
    const told = trustChanged
      ? onTrustChanged()
          .then(() => announceRevision(registry, revision))
          .then(follow)
      : follow()
    told.catch((error: unknown) => log.error({ err: error }, 'revision not announced'))
  }

  let diskProblem: string | undefined
  let addresses = { enrolment: config.enrolmentListen, fleet: config.fleetListen }
  const openCalls = new OpenCalls(clock)
  const deps = {
    ...base,
    ownHost,
    rollouts,
    runner: rollouts.runner,
    restoreWatch: rollouts.restoreWatch,
    halted: rollouts.halted,
    pending: rollouts.pending,
    rolloutFeed,
    presence: rollouts.presence,
    gateQuestions: rollouts.gateQuestions,
    jobQuestions: rollouts.jobQuestions,
    clusters: clusterSource,
    onRolloutsChanged: () => rollouts.runner.changed(),
    openCalls,
    onAuthorityDropped: () => {
      const pins = new Set(authorities.list().map(({ pin }) => pin))
      registry.endIssuedBy(pin => pins.has(pin))
      openCalls.endIssuedBy(pin => pins.has(pin))
    },
    onOperatorRemoved: (id: string) => openCalls.endOperator(id),
    authorities,
    blobs,
    fleetTargets,
    operators,
    registry,
    conditions,
    sessions: registry,
    factsCache: new FactsCache(),
    clusterReader: {
      names: () => [...fleetTargets.current().clusters.keys()],
      snapshot: (name: string) => clusters.snapshot(name),
    },
    nonces: new Nonces(),
    strangers: new StrangerThrottle(config.strangersPerSecond, config.strangersPerSecond * 2),
    refusals: new RefusalLog(store, clock),
    maxPending: config.pendingMachines,
    maxByRule: config.machinesPerRule,
    waitSeconds: Math.max(1, Math.round(config.heartbeatSeconds)),
    trustChain: () => trust.chain(),
    fleetAddress: () => addresses.fleet,
    enrolmentAddress: () => addresses.enrolment,
    stateDir,
    started: clock.now(),
    otherProblems: () => [
      ...(diskProblem === undefined ? [] : [diskProblem]),
      ...clusters.problems(),
      ...haltedProblems(rollouts),
      ...[rollouts.runner.standstill()].filter(problem => problem !== undefined),
    ],
    onDisk: (problem: string | undefined) => {
      diskProblem = problem
    },
    onCommitted,
    onPublished,
    onTrustChanged: () => {
      onTrustChanged().catch((error: unknown) => log.error({ err: error }, 'trust set not announced'))
    },
    heartbeatMs: config.heartbeatSeconds * 1_000,
    observedOf: (machine: string) => clusters.observed(machine),
    showAuditHead: () => auditHeads.show(registry),
    requestRestart: (why: string) => wantRestart(why),
  }

  const clusterDeps = {
    ...deps,
    clusters,
    grantAct: grant,
    judgeAsk: (ask: ActAsk) => judgeAsk(actDeps, ask),
  }
  const remote = (peer: Peer) => callerOf({ directory, operators, authorities, clock }, peer)
  const health = healthService({ store, registry, runner: rollouts.runner })
  const options: ServeOptions = {
    onBug: (method, error) => log.error({ err: error, method }, 'call failed'),
  }
  const enrolment = await openListener(
    config.enrolmentListen,
    createRenewableServerCredentials(authorities, { requireClientCertificate: false }),
    server => {
      serve(server, EnrolmentService, enrolmentService(deps), options)
      serve(server, Health, health, options)
    },
    STRANGERS,
  )
  disposers.use(enrolment)
  const fleet = await openListener(
    config.fleetListen,
    createRenewableServerCredentials(authorities, { requireClientCertificate: true }),
    server => {
      serve(server, AgentService, agentService({ ...deps, callerOf: remote }), options)
      serve(server, OperatorService, operatorService(deps, remote), options)
      serve(server, ClusterService, clusterService(clusterDeps, remote), options)
      serve(server, RolloutService, rolloutService(deps, remote), options)
      serve(server, Health, health, options)
    },
    MEMBERS,
  )
  disposers.use(fleet)
  logRefusedHandshakes(fleet, log, clock)
  const first = config.names[0] ?? '127.0.0.1'
  addresses = {
    enrolment: reachedAt(first, enrolment.port),
    fleet: config.fleetAddress ?? reachedAt(first, fleet.port),
  }
  const local = (): Caller => ({ kind: 'local' })
  disposers.use(
    await openLocalListener(config.socket, server => {
      serve(server, OperatorService, operatorService(deps, local), options)
      serve(server, ClusterService, clusterService(clusterDeps, local), options)
      serve(server, RolloutService, rolloutService(deps, local), options)
      serve(server, Health, health, options)
    }),
  )
  disposers.defer(() => rm(config.socket, { force: true }))

  const running = Promise.all([
    registry.run(),
    clusters.run(),
    rollouts.run(stop.signal),
    housekeeping({ ...deps, config }, stop.signal),
  ])
  disposers.defer(async () => {
    stop.abort(new RpcError(status.UNAVAILABLE, 'the coordinator stops'))
    await running
  })
  log.info(
    {
      stateDir,
      enrolment: addresses.enrolment,
      fleet: addresses.fleet,
      socket: config.socket,
      caPin: authorities.shownPin,
    },
    'coordinator ready',
  )
  return {
    enrolmentPort: enrolment.port,
    fleetPort: fleet.port,
    caPin: authorities.shownPin,
    restartWanted,
    async [Symbol.asyncDispose]() {
      await disposers[Symbol.asyncDispose]()
      log.info({}, 'coordinator stopped')
    },
  }
}

/** What keeps every rollout from going on is a problem of the fleet. */
function haltedProblems({ halted }: Pick<RolloutEngine, 'halted'>): readonly string[] {
  const why = halted()
  return why === undefined ? [] : [why]
}

/** The authority is made at the first start only: one that is missing beside enrolled machines is an error. */
async function openAuthority(
  config: CoordinatorConfig,
  clock: Clock,
  log: Logger,
  directory: MachineDirectory,
): Promise<Authorities> {
  const known = [...directory.ids()].length > 0
  return await openAuthorities(join(config.stateDir, 'authority'), {
    clock,
    names: config.names,
    lifetimes: { machineMs: config.machineCertificateDays * DAY_MS },
    mayCreate: !known,
    onRenewalError: error => log.error({ err: error }, 'certificate of the listeners not renewed'),
  })
}

/** host:port, with brackets where the host is an IPv6 address. */
function reachedAt(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

/** Strangers can cause these at will, so one reason of one address is logged once a minute. */
function logRefusedHandshakes({ server }: Listener, log: Logger, clock: Clock): void {
  const seen = new Map<string, number>()
  watchRefusedHandshakes(server, ({ reason, remoteAddress }) => {
    const key = `${reason} ${remoteAddress ?? ''}`
    const now = clock.now().getTime()
    if (now - (seen.get(key) ?? 0) < 60_000) return
    if (seen.size > 1_000) seen.clear()
    seen.set(key, now)
    log.warn({ reason, address: remoteAddress }, 'connection refused')
  })
}
