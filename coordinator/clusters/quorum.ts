import { type ClusterSnapshot, type DatastoreMember, newestView } from './cluster-snapshot.ts'
import type { Reason } from './reasons.ts'

/** The datastore as the newest fresh view of a live server lists it. Learners do not count as voters. */
export interface Quorum {
  readonly members: readonly DatastoreMember[]
  readonly voters: number
  readonly healthy: number
}

export type QuorumReading =
  | { readonly kind: 'read'; readonly quorum: Quorum }
  | { readonly kind: 'unknown'; readonly reason: Reason }

export function readQuorum(snapshot: ClusterSnapshot, now: number): QuorumReading {
  const reading = newestView(snapshot, now)
  return reading.kind === 'unknown' ? reading : { kind: 'read', quorum: countQuorum(reading.view.members) }
}

export function countQuorum(members: readonly DatastoreMember[]): Quorum {
  const voters = members.filter(({ learner }) => !learner)
  return { members, voters: voters.length, healthy: voters.filter(({ healthy }) => healthy).length }
}

/** How many must be healthy for so many voters to agree. */
export function majority(voters: number): number {
  return Math.floor(voters / 2) + 1
}

/** Why the datastore cannot agree on anything; undefined: it can. */
export function whyNoQuorum(quorum: Quorum): Reason | undefined {
  return quorum.healthy >= majority(quorum.voters) && quorum.voters > 0 ? undefined : lacking(quorum)
}

/** Why no server may join: only a datastore in which everybody is well bears a member more. */
export function whyNotAdd(quorum: Quorum): Reason | undefined {
  const unsettled = quorum.members.find(({ learner, name }) => learner || name === '')
  if (unsettled) return { gate: 'learner', name: unsettled.name }
  return quorum.healthy === quorum.voters && quorum.voters > 0 ? undefined : lacking(quorum)
}

/** Why this member may not be taken out: those that are now must agree to it, and those that are left must be a quorum. */
export function whyNotRemove(quorum: Quorum, name: string): Reason | undefined {
  const lost = whyNoQuorum(quorum)
  if (lost) return lost
  const other = quorum.members.find(member => (member.learner || member.name === '') && member.name !== name)
  if (other) return { gate: 'learner', name: other.name }
  const after = countQuorum(quorum.members.filter(member => member.name !== name))
  if (after.voters === 0) return { gate: 'last-server' }
  return after.healthy >= majority(after.voters)
    ? undefined
    : { gate: 'quorum-after', voters: after.voters, healthy: after.healthy }
}

/**
 * Why this server may not be stopped for a while, as by a restart or an upgrade. A single one may: there is no other way.
 * Of two none may, and where one is ill only that one.
 */
export function whyNotStop(quorum: Quorum, name: string): Reason | undefined {
  const unsettled = quorum.members.find(
    member => (member.learner || member.name === '') && member.name !== name,
  )
  if (unsettled) return { gate: 'learner', name: unsettled.name }
  const own = quorum.members.find(member => member.name === name)
  if (quorum.voters === 1 && own && !own.learner) return undefined
  const others = quorum.members.filter(
    member => !member.learner && member.name !== name && member.healthy,
  ).length
  if (own && !own.healthy) return whyNoQuorum(quorum)
  if (quorum.healthy < quorum.voters) return lacking(quorum)
  return others >= majority(quorum.voters)
    ? undefined
    : { gate: 'quorum-after', voters: quorum.voters, healthy: others }
}

function lacking({ members, voters, healthy }: Quorum): Reason {
  const unhealthy = members.filter(member => !member.learner && !member.healthy).map(({ name }) => name)
  return { gate: 'quorum', voters, healthy, unhealthy }
}
