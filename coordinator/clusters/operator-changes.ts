import type { ClusterRecord, Leave } from './cluster-record.ts'

/**
 * The record after an operator asked a host to leave. Asked again for the same machine it stays as it is; asked as dead, it
 * becomes that, of a worker though it was begun: whoever was to do it himself is gone. A server that began may still be at
 * it, and servers change one at a time: that one is sent away first. `request` names what was asked for. Who may ask was
 * judged before.
 */
export function askToLeave(
  record: ClusterRecord,
  asked: Pick<Leave, 'host' | 'machine' | 'server' | 'dead' | 'signed'>,
  request: string,
): ClusterRecord {
  const known = record.leaves.find(({ host, machine }) => host === asked.host && machine === asked.machine)
  if (known) {
    if (known.dead || !asked.dead || (known.server && known.attempt)) return record
    const again = { request, dead: true, signed: asked.signed, attempt: undefined, notBeforeMs: 0 }
    // Leaves stand in the order in which they were asked for, and this one was asked for anew.
    return { ...record, leaves: [...record.leaves.filter(leave => leave !== known), { ...known, ...again }] }
  }
  const leave: Leave = { ...asked, request, attempt: undefined, failures: 0, notBeforeMs: 0, reason: '' }
  return { ...record, leaves: [...record.leaves, leave] }
}

/** The record after an operator let a host that left come back. */
export function letReturn(record: ClusterRecord, host: string): ClusterRecord {
  const left = new Map(record.left)
  left.delete(host)
  return { ...record, left }
}
