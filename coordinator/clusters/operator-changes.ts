import { type ClusterRecord, type Leave, nextOperation } from './cluster-record.ts'

/**
 * The record after an operator asked a host to leave. Asked again for the same machine it stays as it is; asked as dead,
 * what has not begun becomes that. Who may ask was judged before.
 */
export function askToLeave(
  record: ClusterRecord,
  asked: Pick<Leave, 'host' | 'machine' | 'server' | 'dead'>,
  now: number,
): ClusterRecord {
  const known = record.leaves.find(({ host, machine }) => host === asked.host && machine === asked.machine)
  if (known) {
    if (known.attempt !== undefined || known.dead || !asked.dead) return record
    const changed = { ...known, dead: true }
    return { ...record, leaves: record.leaves.map(leave => (leave === known ? changed : leave)) }
  }
  const request = nextOperation(record, now)
  const leave: Leave = { ...asked, request, attempt: undefined, failures: 0, notBeforeMs: 0 }
  return { ...record, count: record.count + 1, leaves: [...record.leaves, leave] }
}

/** The record after an operator let a host that left come back. */
export function letReturn(record: ClusterRecord, host: string): ClusterRecord {
  const left = new Map(record.left)
  left.delete(host)
  return { ...record, left }
}
