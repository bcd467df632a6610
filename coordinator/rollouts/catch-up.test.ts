// Upgrades of a Kubernetes that lives apart; how hosts catch up with a system stands with the runner's tests.
import { create } from '@bufbuild/protobuf'
import { TimestampSchema, timestampMs } from '@bufbuild/protobuf/wkt'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { KubernetesTargetSchema, SourceBuildSchema } from '../../shared/gen/muster/v1/manifest_pb.ts'
import { OperationReportSchema, OutcomeClass, Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import { StartRolloutRequestSchema } from '../../shared/gen/muster/v1/rollout_pb.ts'
import type { Caller } from '../api/caller.ts'
import { publishRevision } from '../api/publish-revision.ts'
import { ownHostBackup } from '../backup/own-host-backup.ts'
import { MachineDirectory } from '../machines/directory.ts'
import { ChangeFeed } from '../operations/change-feed.ts'
import { recordReport } from '../operations/record-report.ts'
import { FactsCache } from '../queries/facts-cache.ts'
import {
  addMachine,
  type SampleFleet,
  sampleFleet,
  sampleRevision,
  streamOf,
  targetOf,
} from '../revisions/testing/sample-fleet.ts'
import { openOperations } from '../store/operations.ts'
import { findRollout, grantsOfRollouts, hostsOfRollouts, openRollouts } from '../store/rollouts.ts'
import { listStandings } from './api/list-standings.ts'
import { lockHost, unlockHost } from './api/locks.ts'
import { getRollout } from './api/show-rollouts.ts'
import { startRollout } from './api/start-rollout.ts'
import { catchUp } from './catch-up.ts'
import { NO_CLUSTERS } from './cluster-source.ts'
import { PendingHosts } from './pending-hosts.ts'
import type { MemberView } from './plan/rollout-snapshot.ts'
import { sampleHost } from './plan/testing/sample.ts'
import { sampleCluster } from './plan/testing/sample-cluster.ts'
import { noteOfRow } from './read-record.ts'
import { testEngine } from './testing/test-engine.ts'

const ANNA: Caller = { kind: 'operator', id: 'a'.repeat(64), name: 'anna' }
const HOSTS = ['s1', 'w1', 'w2', 'w3']
const MACHINES = HOSTS.map((_, index) => `0${index}${String(index).repeat(62)}`)
const THERE = { version: '1.35.4' }
const PROFILE = 'config.muster.kubernetes.profile.package'
const log = pino({ level: 'silent' })

let fleet: SampleFleet
/** What is seen of the cluster's hosts. */
let seen: Record<string, Partial<MemberView>>
beforeEach(async () => {
  fleet = await sampleFleet()
  seen = {}
})
afterEach(() => fleet[Symbol.asyncDispose]())

/** A server and workers whose Kubernetes lives apart; the last of them came an hour after the others. */
async function prepare() {
  const roleOf = (host: string) => (host === 's1' ? 'server' : 'worker')
  const targets = HOSTS.map((host, index) => ({
    ...targetOf(fleet.fleetId, host, { machine: MACHINES[index] ?? '' }),
    role: roleOf(host),
    cluster: 'home',
    kubernetes: create(KubernetesTargetSchema, {
      version: '1.35.4',
      apart: true,
      way: {
        case: 'source',
        value: create(SourceBuildSchema, { attribute: `nixosConfigurations.${host}.${PROFILE}` }),
      },
    }),
  }))
  const members = HOSTS.map((host, index) => ({ host, role: roleOf(host), machine: MACHINES[index] ?? '' }))
  const clusters = [{ name: 'home', distribution: 'k3s', version: '1.35.4', members }]
  const publish = publishRevision({ ...fleet, log, onPublished: () => {} })
  const revision = sampleRevision(fleet, undefined, { targets, clusters })
  await publish(streamOf(revision.messages), ANNA, new AbortController().signal)
  const late = fleet.clock.at.getTime() + 3_600_000
  for (const id of MACHINES) {
    await addMachine(fleet.store, id, {
      allowed: '["apply","upgrade","drain"]',
      ...(id === MACHINES[3] && { admitted_at: late }),
    })
  }
  const directory = await MachineDirectory.load(fleet.store.db, fleet.fleetTargets.current())
  const operationFeed = new ChangeFeed()
  const own = { ownHost: () => undefined, ownHostBackup: ownHostBackup({ ...fleet, stateDir: fleet.folder }) }
  const live = () => ({ instance: 'one', bootId: 'b', disputed: false, startedMs: 0 })
  const sessions = { live, machines: () => MACHINES }
  const views = HOSTS.map(host => sampleHost(host, { cluster: 'home', server: host === 's1' }))
  const source = {
    ...NO_CLUSTERS,
    views: async () => new Map([['home', sampleCluster(views, seen)]]),
    ask: async () => undefined,
  }
  const engine = await testEngine({ ...fleet, ...own, directory, operationFeed, sessions, clusters: source })
  const deps = {
    ...fleet,
    ...engine,
    ...own,
    directory,
    operationFeed,
    log,
    clusters: source,
    sessions: { ...sessions, online: () => true, lastMessage: () => undefined, wake: () => {} },
    conditions: { stuckAfterMs: 600_000, certificateWarnMs: 86_400_000 },
    factsCache: new FactsCache(),
    rolloutFeed: new ChangeFeed(),
    onRolloutsChanged: () => engine.runner.changed(),
  }
  return deps
}

type Deps = Awaited<ReturnType<typeof prepare>>

async function upgrade(deps: Deps, refs: readonly string[], settings = {}): Promise<string> {
  const soak = { seconds: 0n }
  const request = create(StartRolloutRequestSchema, {
    requestId: refs.join(),
    action: 'upgrade',
    refs: [...refs],
    settings: { maxUnavailable: '5', soak, canarySoak: soak, ...settings },
  })
  return (await startRollout(deps)(request, ANNA)).rollout?.id ?? ''
}

/** Whatever was ordered ends so. */
async function end(deps: Deps, kind: OutcomeClass = OutcomeClass.SUCCEEDED): Promise<void> {
  for (const operation of await openOperations(fleet.store.db, MACHINES)) {
    const report = create(OperationReportSchema, {
      operationId: operation.id,
      revision: BigInt(operation.revision),
      outcome: { class: kind, phase: Phase.DONE },
    })
    await recordReport(deps, operation.machine, report)
  }
  await deps.runner.runNow()
}

const pass = (ms: number) => {
  fleet.clock.at = new Date(fleet.clock.at.getTime() + ms)
}
const lock = { $typeName: 'muster.v1.LockHostRequest', host: 'w1', why: 'a guest' } as const
const unlock = { $typeName: 'muster.v1.UnlockHostRequest', host: 'w1' } as const
const open = async () =>
  (await openRollouts(fleet.store.db)).map(
    ({ action, why, started_by }) => `${action} by ${started_by}: ${why}`,
  )

describe('a host that an upgrade passed by', () => {
  it('gets its Kubernetes by a rollout of its own, once nothing keeps it', async () => {
    const deps = await prepare()
    // Nobody has joined: Kubernetes is put there, and nothing is drained for it.
    for (const host of HOSTS) seen[host] = { joined: false, version: undefined }
    await lockHost(deps)(lock, ANNA)
    const id = await upgrade(deps, ['w1', 'w2'])
    for (const _ of ['fetch', 'upgrade']) await end(deps)
    expect(await findRollout(fleet.store.db, id)).toMatchObject({
      state: 'succeeded',
      reason: 'left behind: w1',
    })
    pass(10_000)
    expect(await catchUp(deps)).toBe(0)
    await unlockHost(deps)(unlock, ANNA)
    expect(await catchUp(deps)).toBe(1)
    expect(await open()).toEqual([
      `upgrade by coordinator: catches up with rollout ${id}, which left it behind`,
    ])
    for (const _ of ['fetch', 'upgrade']) await end(deps)
    pass(3_600_000)
    await deps.runner.runNow()
    expect(await open()).toEqual([])
    expect(await catchUp(deps)).toBe(0)
  })

  it('is left alone where it has that Kubernetes by now, or nobody can say what it runs', async () => {
    const deps = await prepare()
    for (const host of HOSTS) seen[host] = { joined: false, version: undefined }
    await lockHost(deps)(lock, ANNA)
    await upgrade(deps, ['w1', 'w2'])
    for (const _ of ['fetch', 'upgrade']) await end(deps)
    await unlockHost(deps)(unlock, ANNA)
    for (const known of [THERE, { version: undefined }, { joined: undefined }]) {
      seen.w1 = known
      expect(await catchUp(deps), JSON.stringify(known)).toBe(0)
    }
    seen.w1 = { version: '1.34.3' }
    expect(await catchUp(deps)).toBe(1)
  })
})

describe('a host that was enrolled after an upgrade', () => {
  /** The upgrade of the others is over, as the store says. */
  async function upgraded(): Promise<Deps> {
    const deps = await prepare()
    await asIfOver(deps, await upgrade(deps, ['s1', 'w1', 'w2']))
    return deps
  }

  async function asIfOver(deps: Deps, id: string): Promise<void> {
    const { db } = fleet.store
    await db.updateTable('rollouts').set({ state: 'succeeded', ended: 1 }).where('id', '=', id).execute()
    await db.updateTable('rollout_hosts').set({ ended_as: 'done' }).where('rollout', '=', id).execute()
    await db.updateTable('rollout_grants').set({ outcome: 'done', closed: 1 }).execute()
    await db.deleteFrom('operations').execute()
    await deps.runner.runNow()
  }

  it('follows it when it runs an older Kubernetes than all servers do', async () => {
    const deps = await upgraded()
    expect(await catchUp(deps)).toBe(0)
    seen = { s1: THERE }
    expect(await catchUp(deps)).toBe(1)
    expect(await open()).toEqual([expect.stringMatching(/^upgrade by coordinator: /)])
    expect(await catchUp(deps)).toBe(0)
  })

  it('does so however many have caught up before it had joined', async () => {
    const deps = await upgraded()
    pass(2 * 3_600_000)
    const id = await upgrade(deps, ['w2'])
    await asIfOver(deps, id)
    seen = { s1: THERE }
    expect(await catchUp(deps)).toBe(1)
  })

  it('does not when it has it already, or was there before', async () => {
    const deps = await upgraded()
    // Those that were there were left out by whoever began it.
    seen = { s1: THERE, w3: THERE }
    await fleet.store.db.deleteFrom('rollout_hosts').where('host', '=', 'w2').execute()
    expect(await catchUp(deps)).toBe(0)
  })
})

describe('hosts that one rollout left behind', () => {
  const NAMES = ['w2', 'w3']
  const say = { $typeName: 'muster.v1.LockHostRequest', why: 'a guest' } as const

  /** An upgrade that had w1 for its canary, and passed the other workers by. */
  async function passedBy(): Promise<{ readonly deps: Deps; readonly id: string }> {
    const deps = await prepare()
    for (const host of HOSTS) seen[host] = { joined: false, version: undefined }
    for (const host of NAMES) await lockHost(deps)({ ...say, host }, ANNA)
    const id = await upgrade(deps, ['w1', ...NAMES], { canaries: ['w1'] })
    for (const _ of ['fetch', 'upgrade']) await end(deps)
    expect(await findRollout(fleet.store.db, id)).toMatchObject({ reason: 'left behind: w2, w3' })
    pass(10_000)
    return { deps, id }
  }

  const free = async (deps: Deps, host: string) =>
    await unlockHost(deps)({ $typeName: 'muster.v1.UnlockHostRequest', host }, ANNA)
  /** What is told of a host: the gate and why, what opens it, since when. */
  const standing = async (deps: Deps, host: string) => {
    const { standings } = await listStandings(deps)({ $typeName: 'muster.v1.ListStandingsRequest', host })
    return (standings ?? []).flatMap(one =>
      (one.waits ?? []).flatMap(({ gate, reason, opens, since }) => [
        `${one.host}: ${gate}: ${reason}`,
        opens,
        new Date(since ? timestampMs(create(TimestampSchema, since)) : 0).toISOString(),
      ]),
    )
  }
  const members = async () => {
    const rows = await hostsOfRollouts(
      fleet.store.db,
      (await openRollouts(fleet.store.db)).map(({ id }) => id),
    )
    return rows.map(({ host, record }) => `${host}${noteOfRow(record).canary ? ', the canary' : ''}`)
  }

  it('catch up together, under its settings, and nobody follows once one of them has failed', async () => {
    const { deps, id } = await passedBy()
    for (const host of NAMES) await free(deps, host)
    expect(await catchUp(deps)).toBe(1)
    expect(await open()).toEqual([
      `upgrade by coordinator: catches up with rollout ${id}, which left them behind`,
    ])
    expect(await members()).toEqual(['w2, the canary', 'w3'])
    const [by] = await openRollouts(fleet.store.db)
    await end(deps)
    const failedMs = fleet.clock.at.getTime()
    await end(deps, OutcomeClass.ACTIVATION_FAILED)
    expect(await open()).toEqual([])
    pass(3_600_000)
    expect(await catchUp(deps)).toBe(0)
    // And it is told who waits for what, since when, and what would open it.
    const why = `rollout ${by?.id}, by which it was to catch up, failed: 1 failed: w2: activation failed: `
    const told = (host: string) => [
      `${host}: catch-up: ${why}`,
      `somebody begins one for it: \`muster rollout start 1 --action upgrade --host ${host}\``,
      new Date(failedMs).toISOString(),
    ]
    expect(await standing(deps, 'w3')).toEqual(told('w3'))
    const failed = { $typeName: 'muster.v1.GetRolloutRequest', id: by?.id ?? '' } as const
    const shown = await getRollout(deps)(failed)
    expect(shown.pending?.map(({ host, behind, pending }) => [host, behind, pending])).toEqual([
      ['w3', by?.id, true],
    ])
    // Since when is what the store says, so that it stays over a restart.
    pass(3_600_000)
    const anew = { ...deps, pending: new PendingHosts() }
    expect(await catchUp(anew)).toBe(0)
    expect(await standing(anew, 'w3')).toEqual(told('w3'))
    // Somebody has done so.
    await upgrade(deps, ['w3'])
    expect(await catchUp(deps)).toBe(0)
    expect(deps.pending.all()).toEqual([])
  })

  it('say so where others failed that caught up before them', async () => {
    const { deps } = await passedBy()
    await free(deps, 'w2')
    expect(await catchUp(deps)).toBe(1)
    const [by] = await openRollouts(fleet.store.db)
    await end(deps)
    await end(deps, OutcomeClass.ACTIVATION_FAILED)
    await free(deps, 'w3')
    expect(await catchUp(deps)).toBe(0)
    const [words] = await standing(deps, 'w3')
    expect(words).toMatch(
      `w3: catch-up: rollout ${by?.id} (upgrade revision 1), by which others caught up, failed: 1 failed: w2`,
    )
  })

  it('say which gate holds them, since when, and what would open it', async () => {
    const { deps, id } = await passedBy()
    expect(await catchUp(deps)).toBe(0)
    pass(3_600_000)
    expect(await catchUp(deps)).toBe(0)
    const sinceMs = fleet.clock.at.getTime() - 3_600_000 - 10_000
    expect(await standing(deps, 'w2')).toEqual([
      'w2: lock: locked: a guest',
      '`muster unlock w2`',
      new Date(sinceMs).toISOString(),
    ])
    await free(deps, 'w2')
    expect(await catchUp(deps)).toBe(1)
    await free(deps, 'w3')
    expect(await catchUp(deps)).toBe(0)
    const [by] = await openRollouts(fleet.store.db)
    expect(await standing(deps, 'w3')).toEqual([
      `w3: catch-up: rollout ${by?.id} (upgrade revision 1) proves it first with others that were behind`,
      'that rollout is over',
      new Date(fleet.clock.at).toISOString(),
    ])
    const shown = await getRollout(deps)({ $typeName: 'muster.v1.GetRolloutRequest', id })
    expect(shown.pending?.map(({ host }) => host)).toEqual(['w3'])
  })

  it('wait for those that prove it already, where canaries are wanted', async () => {
    const { deps } = await passedBy()
    await free(deps, 'w2')
    expect(await catchUp(deps)).toBe(1)
    await free(deps, 'w3')
    expect(await catchUp(deps)).toBe(0)
    for (const _ of ['fetch', 'upgrade']) await end(deps)
    expect(await open()).toEqual([])
    expect(await catchUp(deps)).toBe(1)
    expect(await members()).toEqual(['w3'])
  })

  it.each([
    ['failed', 2, 'left', 1],
    ['aborted', 2, 'left', 1],
    ['failed', 2, 'done', 0],
    ['succeeded', 2, 'done', 0],
    ['running', 2, '', 0],
    // The same was tried once more, or called off.
    ['failed', 1, 'left', 0],
    ['aborted', 1, 'left', 0],
  ])(
    'are not forgotten for a later one that says nothing of them: %s, revision %i, %s',
    async (state, revision, ended, count) => {
      const { deps } = await passedBy()
      const { db } = fleet.store
      const later = await upgrade(deps, ['w2'])
      await db.updateTable('rollouts').set({ state, revision, ended: 1 }).where('id', '=', later).execute()
      await db.updateTable('rollout_hosts').set({ ended_as: ended }).where('rollout', '=', later).execute()
      await free(deps, 'w2')
      expect(await catchUp(deps)).toBe(count)
    },
  )
})

describe('a host that joins its cluster after its upgrade began', () => {
  it('is drained first, and nothing else is begun in that cluster', async () => {
    const deps = await prepare()
    for (const host of HOSTS) seen[host] = { joined: false, version: undefined }
    const id = await upgrade(deps, ['w1'])
    const row = async () => (await hostsOfRollouts(fleet.store.db, [id]))[0]
    expect(await row()).toMatchObject({ host: 'w1', cluster: '' })
    seen = { s1: THERE, w1: { version: '1.34.3' } }
    await end(deps)
    expect(await row()).toMatchObject({ host: 'w1', cluster: 'home' })
    const grants = await grantsOfRollouts(fleet.store.db, [id])
    expect(grants.map(({ step }) => step)).toEqual(['prefetch', 'drain'])
    expect(grants.at(-1)).toMatchObject({ closed: null })
    await expect(upgrade(deps, ['w2'])).rejects.toThrow(`rollout ${id} is not over and has cluster home`)
  })
})
