import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import { pino } from 'pino'
import { expect } from 'vitest'
import { HelloSchema, NodeStatusSchema } from '../../../shared/gen/muster/v1/agent_pb.ts'
import { RolloutPolicySchema, SafetySchema } from '../../../shared/gen/muster/v1/manifest_pb.ts'
import { OperationReportSchema, OutcomeClass, Phase } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { StartRolloutRequestSchema } from '../../../shared/gen/muster/v1/rollout_pb.ts'
import { PROTOCOL_MAX, PROTOCOL_MIN } from '../../../shared/version.ts'
import type { Caller } from '../../api/caller.ts'
import type { GiveOrdersDeps } from '../../api/give-orders.ts'
import { publishRevision } from '../../api/publish-revision.ts'
import { ownHostBackup } from '../../backup/own-host-backup.ts'
import { admitSession } from '../../machines/admit-session.ts'
import { MachineDirectory } from '../../machines/directory.ts'
import { ChangeFeed } from '../../operations/change-feed.ts'
import { recordReport } from '../../operations/record-report.ts'
import { FactsCache } from '../../queries/facts-cache.ts'
import {
  addMachine,
  type SampleFleet,
  sampleFleet,
  sampleRevision,
  streamOf,
  targetOf,
} from '../../revisions/testing/sample-fleet.ts'
import { openOperations } from '../../store/operations.ts'
import { startRollout } from '../api/start-rollout.ts'
import { NO_CLUSTERS } from '../cluster-source.ts'
import type { EngineDeps, RolloutEngine } from '../engine.ts'
import { testEngine } from './test-engine.ts'

export const ANNA: Caller = { kind: 'operator', id: 'a'.repeat(64), name: 'anna' }
export const HOSTS = ['n1', 'n2', 'n3', 'n4', 'n5']
export const MACHINES = HOSTS.map((_, index) => `0${index}${String(index).repeat(62)}`)
const log = pino({ level: 'silent' })

/** Five hosts outside of clusters around a real engine, and what their machines and an operator do; one for each test. */
export class FiveHosts implements AsyncDisposable {
  readonly fleet: SampleFleet
  /** Machines that are not connected. */
  readonly away = new Set<string>()

  private constructor(fleet: SampleFleet) {
    this.fleet = fleet
  }

  static async start(): Promise<FiveHosts> {
    return new FiveHosts(await sampleFleet())
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.fleet[Symbol.asyncDispose]()
  }

  /** What a machine last told of itself. */
  async says(machine: string, status: MessageInitShape<typeof NodeStatusSchema>): Promise<void> {
    const bytes = Buffer.from(toBinary(NodeStatusSchema, create(NodeStatusSchema, status)))
    await this.fleet.store.db
      .updateTable('machines')
      .set({ node_status: bytes })
      .where('id', '=', machine)
      .execute()
  }

  /** Five hosts outside of clusters, all of them connected, and a real engine around them. */
  async prepare(policy: MessageInitShape<typeof RolloutPolicySchema> = {}, gated: readonly string[] = []) {
    const rollout = create(RolloutPolicySchema, policy)
    const probe = { case: 'tcp', value: { address: '127.0.0.1:80' } } as const
    const safety = create(SafetySchema, { gates: [{ name: 'web', probe }] })
    const targets = HOSTS.map((host, index) => ({
      ...targetOf(this.fleet.fleetId, host, { machine: MACHINES[index] ?? '' }),
      ...(gated.includes(host) && { safety }),
    }))
    const publish = publishRevision({ ...this.fleet, log, onPublished: () => {} })
    const signal = new AbortController().signal
    await publish(
      streamOf(sampleRevision(this.fleet, undefined, { targets, rollout }).messages),
      ANNA,
      signal,
    )
    for (const id of MACHINES) await addMachine(this.fleet.store, id)
    const directory = await MachineDirectory.load(this.fleet.store.db, this.fleet.fleetTargets.current())
    const operationFeed = new ChangeFeed()
    const own: Pick<EngineDeps, 'ownHost' | 'ownHostBackup'> = {
      ownHost: () => undefined,
      ownHostBackup: ownHostBackup({ ...this.fleet, stateDir: this.fleet.folder }),
    }
    const live = (machine: string) =>
      this.away.has(machine) ? undefined : { instance: 'one', bootId: 'b', disputed: false, startedMs: 0 }
    const sessions = { live, machines: () => MACHINES.filter(machine => !this.away.has(machine)) }
    const open = async (
      change: Partial<typeof own> & Partial<Pick<EngineDeps, 'clusters'>> = {},
    ): Promise<RolloutEngine> =>
      await testEngine({ ...this.fleet, ...own, ...change, directory, operationFeed, sessions })
    const engine = await open()
    const give: GiveOrdersDeps = {
      ...this.fleet,
      directory,
      operationFeed,
      log,
      ...own,
      rollouts: engine,
      sessions: { online: () => true, lastMessage: () => undefined, wake: () => {} },
      conditions: { stuckAfterMs: 600_000, certificateWarnMs: 86_400_000 },
      factsCache: new FactsCache(),
    }
    const deps = {
      ...give,
      ...engine,
      sessions: { ...give.sessions, ...sessions },
      clusters: NO_CLUSTERS,
      rolloutFeed: new ChangeFeed(),
      onRolloutsChanged: () => engine.runner.changed(),
    }
    return { deps, give, engine, open }
  }

  async begin(deps: Deps, change: object = {}) {
    const request = create(StartRolloutRequestSchema, {
      requestId: 'one',
      settings: { maxUnavailable: '2', soak: { seconds: 60n } },
      ...change,
    })
    return await startRollout(deps)(request, ANNA)
  }

  /** Takes the prefetches and orders that are open as done, as far as their hosts are named. */
  async end(deps: Deps, hosts: readonly string[], kind: OutcomeClass = OutcomeClass.SUCCEEDED) {
    for (const operation of await openOperations(this.fleet.store.db, MACHINES)) {
      if (!hosts.includes(operation.host)) continue
      const report = create(OperationReportSchema, {
        operationId: operation.id,
        revision: BigInt(operation.revision),
        outcome: { class: operation.action === 'plan' ? OutcomeClass.SUCCEEDED : kind, phase: Phase.DONE },
      })
      await recordReport(deps, operation.machine, report)
    }
    await deps.runner.runNow()
  }

  async applies(): Promise<readonly string[]> {
    const open = await openOperations(this.fleet.store.db, MACHINES)
    return open
      .filter(({ action }) => action === 'apply')
      .map(({ host }) => host)
      .toSorted()
  }

  pass(ms: number): void {
    this.fleet.clock.at = new Date(this.fleet.clock.at.getTime() + ms)
  }

  /** What the machine of a host says when it connects. */
  async connect(deps: Deps, machine: string, said: { allowed: readonly string[]; bootCount?: bigint }) {
    const hello = create(HelloSchema, {
      version: '0.1.0',
      protocolMin: PROTOCOL_MIN,
      protocolMax: PROTOCOL_MAX,
      now: timestampFromDate(this.fleet.clock.at),
      bootId: `b${said.bootCount ?? 1n}`,
      bootCount: said.bootCount ?? 1n,
      allowed: [...said.allowed],
    })
    expect((await admitSession(deps, machine, hello, '10.0.0.9')).kind).toBe('ok')
  }
}

type Deps = Awaited<ReturnType<FiveHosts['prepare']>>['deps']
