import type { ChainHead } from '../../shared/audit/event-chain.ts'
import type { AuditHead } from '../../shared/gen/muster/v1/agent_pb.ts'
import { isDigest } from '../../shared/ids.ts'
import type { AgentStateFile } from '../state/agent-state.ts'
import { recordEvent } from './event-messages.ts'

/**
 * Keeps how far the record of events goes, as it was shown. It only ever goes forwards: a link that is older than the one
 * that is kept, or another one in its place, means that the record was cut or rewritten. That is told, and the newer is kept.
 */
export async function keepAuditHead(state: AgentStateFile, shown: AuditHead, now: Date): Promise<void> {
  const id = Number(shown.id)
  if (!Number.isSafeInteger(id) || id < 1 || !isDigest(shown.hash)) return
  const kept = state.current.auditHeads.at(-1)
  if (kept?.id === id && kept.hash === shown.hash) return
  if (kept && id <= kept.id) {
    const reason = `was shown event ${id} of the record, after event ${kept.id}: the record was cut, rewritten or restored`
    const known = state.current.events.some(event => event.class === 'audit' && event.reason === reason)
    if (!known) await recordEvent(state, 'audit', reason, now)
    return
  }
  await state.update(before => ({
    ...before,
    auditHeads: thinned([...before.auditHeads, { id, hash: shown.hash }]),
  }))
}

/** Links that are kept, and the newest of them that are kept in any case. */
const KEPT = 32
const NEWEST = 8

/**
 * Takes one link away when there are too many: the one that leaves the smallest gap for the age it has, so that the first
 * stays, and fewer and fewer of the older ones.
 */
export function thinned(heads: readonly ChainHead[]): readonly ChainHead[] {
  if (heads.length <= KEPT) return heads
  const newest = heads.at(-1)?.id ?? 0
  const cost = (index: number) => {
    const gap = (heads[index + 1]?.id ?? 0) - (heads[index - 1]?.id ?? 0)
    return gap / Math.max(1, newest - (heads[index]?.id ?? 0))
  }
  let cheapest = 1
  for (let index = 2; index < heads.length - NEWEST; index++)
    if (cost(index) < cost(cheapest)) cheapest = index
  return heads.toSpliced(cheapest, 1)
}
