import { create, toBinary } from '@bufbuild/protobuf'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { StartRolloutRequestSchema } from '../../shared/gen/muster/v1/rollout_pb.ts'
import { operationId } from '../../shared/ids.ts'
import { DEFAULT_POLICY } from '../../shared/rollout/rollout-policy.ts'
import { desiredRevision } from '../drift/desired-revision.ts'
import { type SampleFleet, START, sampleFleet } from '../revisions/testing/sample-fleet.ts'
import { freezeSettings, settingsToRow } from '../rollouts/frozen-settings.ts'
import { noteLostRollout, readLostRollouts } from '../rollouts/lost-rollouts.ts'
import { lastForAll } from '../rollouts/who-is-behind.ts'
import { insertGrant, insertRollout } from '../store/rollouts.ts'
import { rolloutsOfHosts } from '../store/rollouts-of-hosts.ts'
import {
  leftBehind,
  leftByFailed,
  namedByRollouts,
  succeededUpgrades,
  unprovedRollouts,
} from '../store/unfinished-rollouts.ts'
import { trimRollouts } from './trim-rollouts.ts'

const DAY_MS = 86_400_000
const NOW = START.getTime()
const BEFORE_MS = NOW - 90 * DAY_MS
const HOSTS = ['a', 'b', 'c']
const never = new AbortController().signal

let fleet: SampleFleet
beforeEach(async () => {
  fleet = await sampleFleet()
})
afterEach(() => fleet[Symbol.asyncDispose]())

interface Made {
  readonly action?: string
  readonly state?: string
  readonly revision?: number
  readonly request?: string
  readonly reverts?: string
  readonly after?: readonly string[]
  readonly forAll?: boolean
  /** How each host ended that it names. */
  readonly hosts: Readonly<Record<string, string>>
}

const settings = settingsToRow(
  freezeSettings(DEFAULT_POLICY, undefined, 'apply', { direct: false, prefetch: true, awayMs: 1 }).frozen,
)

/** Takes down a rollout that began so many days ago; gives its id. */
async function put(days: number, made: Made): Promise<string> {
  const { action = 'apply', state = 'succeeded', hosts, forAll = false } = made
  const startedMs = NOW - days * DAY_MS
  const id = operationId(new Date(startedMs))
  const isOpen = state === 'running'
  const row = {
    id,
    request: `${made.request ?? ''}${id}`,
    intent: '',
    action,
    asked: Buffer.from(
      toBinary(StartRolloutRequestSchema, create(StartRolloutRequestSchema, { refs: forAll ? [] : ['a'] })),
    ),
    revision: action === 'rollback' ? 0 : (made.revision ?? 1),
    manifest_digest: '',
    settings,
    state,
    ends_as: '',
    reason: '',
    why: '',
    started: startedMs,
    started_by: 'anna',
    ended: isOpen ? null : startedMs + 60_000,
    reverts: made.reverts ?? '',
    after: JSON.stringify(made.after ?? []),
    generation: 1,
  }
  const members = Object.entries(hosts).map(([host, endedAs], position) => ({
    rollout: id,
    host,
    machine: `m-${host}`,
    cluster: 'home',
    role: 'worker',
    position,
    record: '{}',
    waits: '[]',
    ended_as: isOpen ? '' : endedAs,
  }))
  await fleet.store.transact(tx => insertRollout(tx, row, members))
  return id
}

const trimmed = () => trimRollouts(fleet.store, BEFORE_MS, never)
const ids = async () =>
  (await fleet.store.db.selectFrom('rollouts').select('id').orderBy('started').execute()).map(({ id }) => id)
const done = { a: 'done', b: 'done', c: 'done' }

/** All that is read from rollouts which are over. */
async function whatThePastSays() {
  const { db } = fleet.store
  const last = await lastForAll(db)
  const upgrades = await succeededUpgrades(db)
  const apply = await leftBehind(db, 'apply')
  const upgrade = await leftBehind(db, 'upgrade')
  const wanted = new Set([
    ...apply.map(({ revision }) => `apply ${revision}`),
    ...upgrade.map(({ revision }) => `upgrade ${revision}`),
    ...(last ? [`apply ${last.revision}`] : []),
    ...[...upgrades.values()].map(({ revision }) => `upgrade ${revision}`),
  ])
  const named = (action: 'apply' | 'upgrade', revision: number | undefined) =>
    namedByRollouts(
      db,
      HOSTS.map(host => ({ host, revision: revision ?? 0 })),
      action,
    )
  const rollouts = await rolloutsOfHosts(db, HOSTS)
  const sorted = (rows: readonly { readonly rollout: string; readonly host: string }[]) =>
    rows.map(({ rollout, host }) => `${rollout} ${host}`).toSorted()
  return {
    desired: HOSTS.map(host => desiredRevision(undefined, rollouts.get(host) ?? [], 9)),
    last: last?.id,
    upgrades,
    apply: sorted(apply),
    upgrade: sorted(upgrade),
    stranded: [
      ...sorted(await leftByFailed(db, 'apply', 'catch-up')),
      ...sorted(await leftByFailed(db, 'upgrade', 'catch-up')),
    ],
    namedByApply: last && (await named('apply', last.revision)),
    namedByUpgrade: upgrades.size > 0 && (await named('upgrade', upgrades.get('home')?.revision)),
    unproved: (await unprovedRollouts(db, 'catch-up '))
      .filter(({ action, revision }) => wanted.has(`${action} ${revision}`))
      .map(({ id }) => id),
  }
}

describe('rollouts that ended long ago', () => {
  it('go, with all that was taken down of them, but for the last that names each host', async () => {
    const old: string[] = []
    for (let number = 0; number < 20; number++) old.push(await put(200 - number, { hosts: done }))
    const young = await put(1, { hosts: { a: 'done' } })
    const grant = { host: 'a', step: 'act', attempt: 1, machine: 'm-a', granted: 0, operation: 'op' }
    await fleet.store.transact(tx => insertGrant(tx, { ...grant, rollout: old[0] ?? '' }))
    expect(await trimmed()).toBe(19)
    expect(await ids()).toEqual([old.at(-1), young])
    expect(await fleet.store.db.selectFrom('rollout_grants').selectAll().execute()).toEqual([])
    expect(await fleet.store.db.selectFrom('rollout_hosts').select('host').execute()).toHaveLength(4)
    expect(await trimmed()).toBe(0)
  })

  it('T60: do not pile up where one host fails each time', async () => {
    const one = async (days: number) =>
      await put(days, { state: 'failed', revision: 1000 - days, hosts: { a: 'done', b: 'failed' } })
    for (let days = 300; days > 100; days -= 10) await one(days)
    await trimmed()
    expect(await ids()).toHaveLength(1)
  })

  it('stay while something that is not over refers to them, or a cordon of theirs stands', async () => {
    const [reverted, awaited, drained] = [
      await put(200, { hosts: done }),
      await put(199, { hosts: done }),
      await put(198, { hosts: done }),
    ]
    await put(197, { hosts: done })
    const open = await put(1, {
      action: 'rollback',
      state: 'running',
      reverts: reverted,
      after: [awaited],
      hosts: done,
    })
    await fleet.store.transact(async tx => {
      const grant = { step: 'drain', attempt: 1, machine: 'm-a', granted: 0, operation: 'act-1' }
      await insertGrant(tx, { ...grant, rollout: drained, host: 'a' })
      const cordon = { cluster: 'home', host: 'a', act: 'act-1', asked_by: 'anna', at: 0 }
      await tx.insertInto('cluster_cordons').values(cordon).execute()
    })
    expect(await trimmed()).toBe(0)
    await fleet.store.db.updateTable('rollouts').set({ state: 'succeeded' }).where('id', '=', open).execute()
    await fleet.store.db.deleteFrom('cluster_cordons').execute()
    await trimmed()
    expect(await ids()).not.toContain(awaited)
    expect(await ids()).not.toContain(drained)
  })

  it('are not taken for lost ones where a node that was away tells of them', async () => {
    const gone = await put(200, { hosts: done })
    await put(150, { hosts: done })
    await trimmed()
    const tell = async (id: string) => {
      const claim = { id, action: 'apply', revision: 1, host: 'a' }
      await fleet.store.transact(tx => noteLostRollout(tx, claim, 'a', START))
      return (await readLostRollouts(fleet.store.db)).length
    }
    expect(await tell(gone)).toBe(0)
    expect(await tell(operationId(new Date(NOW - 2 * DAY_MS)))).toBe(1)
  })

  it('say the same of every host before and after, whatever happened', async () => {
    const made = fc.record({
      action: fc.constantFrom('apply', 'apply', 'apply', 'rollback', 'upgrade', 'reboot'),
      state: fc.constantFrom('succeeded', 'succeeded', 'failed', 'aborted'),
      revision: fc.integer({ min: 1, max: 3 }),
      request: fc.constantFrom('', '', 'catch-up ', 'catch-up-alone '),
      forAll: fc.boolean(),
      /** How many rollouts before it the one stands that it takes back. */
      back: fc.option(fc.integer({ min: 1, max: 3 }), { nil: undefined }),
      hosts: fc
        .uniqueArray(fc.tuple(fc.constantFrom(...HOSTS), fc.constantFrom('done', 'failed', 'left')), {
          minLength: 1,
          selector: ([host]) => host,
        })
        .map(pairs => Object.fromEntries(pairs)),
    })
    let went = 0
    await fc.assert(
      fc.asyncProperty(fc.array(made, { maxLength: 14 }), fc.nat(100), async (history, youngest) => {
        await fleet.store.db.deleteFrom('rollouts').execute()
        const begun: string[] = []
        for (const [index, { back, ...one }] of history.entries()) {
          const source = back === undefined ? undefined : history[index - back]
          const reverts =
            one.action === 'rollback' && source?.action === 'apply' ? begun[index - (back ?? 0)] : undefined
          begun.push(await put(youngest + (history.length - index) * 5, { ...one, reverts: reverts ?? '' }))
        }
        const before = await whatThePastSays()
        // What kept another may go by the next run.
        for (let gone = -1; gone !== 0; went += gone) {
          gone = await trimmed()
          expect(await whatThePastSays()).toEqual(before)
        }
      }),
      { numRuns: 150 },
    )
    expect(went).toBeGreaterThan(40)
  })
})
