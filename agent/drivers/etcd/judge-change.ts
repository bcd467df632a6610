import type { SeenMember } from './member.ts'

/** How many voters must agree. */
export function majority(voters: number): number {
  return Math.floor(voters / 2) + 1
}

/**
 * Why this member may not be taken out; undefined: it may. Counted by voters as the datastore lists them: those that are now
 * must be a majority, and those that are left must be one too. One change at a time: a member that is not settled yet stands
 * in the way of every other.
 */
export function whyNotRemove(members: readonly SeenMember[], id: string): string | undefined {
  const own = members.find(member => member.id === id)
  if (!own) return `no member ${id} in the datastore`
  const now = count(members)
  if (now.healthy < majority(now.voters)) {
    return `${now.healthy} of ${now.voters} voters answer: without a majority no member can be taken out; restore a snapshot`
  }
  const unsettled = members.find(member => member.id !== id && (member.learner || member.name === ''))
  if (unsettled) {
    return `member ${unsettled.name || unsettled.peerUrls.join(' ')} is joining: one change of the datastore at a time`
  }
  if (own.learner) return undefined
  const left = count(members.filter(member => member.id !== id))
  if (left.voters === 0) return 'it is the last voter: with it the cluster would be gone'
  if (left.healthy < majority(left.voters)) {
    return `${left.healthy} of the ${left.voters} voters that are left would answer, wanted ${majority(left.voters)}`
  }
  return undefined
}

/** Why no member may be added; undefined: one may. Everybody must be well, since a member more is one more that may fail. */
export function whyNotAdd(members: readonly SeenMember[]): string | undefined {
  const unsettled = members.find(({ learner, name }) => learner || name === '')
  if (unsettled) {
    return `member ${unsettled.name || unsettled.peerUrls.join(' ')} is joining: servers join one at a time`
  }
  const { voters, healthy } = count(members)
  if (voters > 0 && healthy === voters) return undefined
  const ill = members.filter(member => !member.healthy).map(({ name }) => name)
  return `${healthy} of ${voters} voters answer (${ill.join(', ')} does not): mend or remove it first`
}

/**
 * Why this server may not be stopped for a while; undefined: it may. Of one member it may, since there is no other way; of
 * two it may not; and while another one is ill nobody else is touched.
 */
export function whyNotStop(members: readonly SeenMember[], id: string): string | undefined {
  const own = members.find(member => member.id === id)
  const others = members.filter(member => member.id !== id)
  const unsettled = others.find(({ learner, name }) => learner || name === '')
  if (unsettled)
    return `member ${unsettled.name || unsettled.peerUrls.join(' ')} is joining: wait until it votes`
  const { voters } = count(members)
  if (voters === 1 && own && !own.learner) return undefined
  const left = count(others)
  const wanted = majority(voters)
  if (left.healthy >= wanted && (left.healthy === left.voters || !own?.healthy)) return undefined
  return `${left.healthy} of ${voters} voters would answer without it, and ${left.voters - left.healthy} others are ill: wanted ${wanted} and none`
}

/** A voter that was added and never started counts all the same: the others need a majority with it. */
function count(members: readonly SeenMember[]): { readonly voters: number; readonly healthy: number } {
  const voters = members.filter(({ learner }) => !learner)
  return { voters: voters.length, healthy: voters.filter(({ healthy }) => healthy).length }
}
