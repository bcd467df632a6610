import type { Kysely, Transaction } from 'kysely'
import type { RolloutClaim } from '../operations/node-claims.ts'
import { recordEvent } from '../store/events.ts'
import { readMeta, writeMeta } from '../store/meta.ts'
import { mayBePruned } from '../store/old-rollouts.ts'
import { findRollout } from '../store/rollouts.ts'
import type { Database } from '../store/tables.ts'
import { whatItDoes } from './what-it-does.ts'

const KEY = 'lost_rollouts'
/** Enough to see what is missing. A node that makes them up fills the list, and nothing else. */
const MOST_ROLLOUTS = 50
const MOST_HOSTS = 100

/** A rollout that nodes had orders of and that is on no record here. */
export interface LostRollout {
  readonly id: string
  readonly action: string
  /** 0: it had none. */
  readonly revision: number
  /** Hosts that tell of it, in the order in which they told. */
  readonly hosts: readonly string[]
  readonly sinceMs: number
}

export async function readLostRollouts(db: Kysely<Database>): Promise<readonly LostRollout[]> {
  const text = await readMeta(db, KEY)
  const value: unknown = text === undefined ? [] : JSON.parse(text)
  if (!Array.isArray(value)) throw new Error('store: lost rollouts are no list')
  return value.map(item => {
    const [id, action, revision, hosts, sinceMs] = Array.isArray(item) ? item : []
    return {
      id: String(id),
      action: String(action),
      revision: Number(revision),
      hosts: Array.isArray(hosts) ? hosts.map(String) : [],
      sinceMs: Number(sinceMs),
    }
  })
}

/** What is on record once a host has told of a rollout; the same list: nothing is new. */
export function withClaim(
  lost: readonly LostRollout[],
  { id, action, revision }: RolloutClaim,
  host: string,
  nowMs: number,
): readonly LostRollout[] {
  const known = lost.find(one => one.id === id)
  if (!known) {
    return lost.length < MOST_ROLLOUTS
      ? [...lost, { id, action, revision, hosts: [host], sinceMs: nowMs }]
      : lost
  }
  // Who was only found drained did not say what that was for.
  const isFuller = known.action === 'drain' && action !== 'drain'
  const isTold = known.hosts.includes(host) || known.hosts.length >= MOST_HOSTS
  if (isTold && !isFuller) return lost
  const next = {
    ...known,
    ...(isFuller && { action, revision }),
    hosts: isTold ? known.hosts : [...known.hosts, host],
  }
  return lost.map(one => (one === known ? next : one))
}

/** Takes down that a node tells of a rollout, unless it is on record. Said once of each rollout in the events. */
export async function noteLostRollout(
  tx: Transaction<Database>,
  claim: RolloutClaim,
  host: string,
  now: Date,
): Promise<void> {
  if ((await findRollout(tx, claim.id)) || (await mayBePruned(tx, claim.id))) return
  const before = await readLostRollouts(tx)
  const lost = withClaim(before, claim, host, now.getTime())
  if (lost === before) return
  await write(tx, lost)
  if (lost.length === before.length) return
  const reason = `${host} has had an order of rollout ${claim.id} (${whatItDoes(claim)}), which is not in the store`
  await recordEvent(tx, { at: now, class: 'rollout-lost', reason, actor: 'coordinator' })
}

/** An operator has looked: says what was lost. */
export async function acceptLostRollouts(tx: Transaction<Database>): Promise<readonly string[]> {
  const lost = await readLostRollouts(tx)
  if (lost.length > 0) await write(tx, [])
  return lost.map(textOfLost)
}

/** For people. */
export function textOfLost(lost: LostRollout): string {
  const { id, hosts } = lost
  const named = hosts.slice(0, 10).join(', ')
  const more = hosts.length > 10 ? ` and ${hosts.length - 10} more` : ''
  return `rollout ${id} (${whatItDoes(lost)}) is not in the store: ${named}${more} had orders of it`
}

async function write(tx: Transaction<Database>, lost: readonly LostRollout[]): Promise<void> {
  const rows = lost.map(({ id, action, revision, hosts, sinceMs }) => [id, action, revision, hosts, sinceMs])
  await writeMeta(tx, KEY, JSON.stringify(rows))
}
