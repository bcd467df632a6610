import type { ClusterRecord, Leave } from './cluster-record.ts'

/**
 * The record after an operator asked a host to leave. Asked again for the same machine it stays as it is; asked as dead,
 * what has not begun becomes that. `request` names what was asked for. Who may ask was judged before.
 */
export function askToLeave(
  record: ClusterRecord,
  asked: Pick<Leave, 'host' | 'machine' | 'server' | 'dead' | 'signed'>,
  request: string,
): ClusterRecord {
  const known = record.leaves.find(({ host, machine }) => host === asked.host && machine === asked.machine)
  if (known) {
    if (known.attempt !== undefined || known.dead || !asked.dead) return record
    const changed = { ...known, request, dead: true, signed: asked.signed, notBeforeMs: 0 }
    return { ...record, leaves: record.leaves.map(leave => (leave === known ? changed : leave)) }
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
