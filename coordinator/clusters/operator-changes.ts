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

/**
 * The record after an operator let a host come back: one that left is wanted again, and what failed on its machine, and would wait for a
 * while, may be tried again at once.
 */
export function letReturn(record: ClusterRecord, host: string, machine: string | undefined): ClusterRecord {
  const left = new Map(record.left)
  left.delete(host)
  const attempt = record.attempts.get(machine ?? '')
  if (machine === undefined || attempt === undefined) return { ...record, left }
  return { ...record, left, attempts: new Map(record.attempts).set(machine, { ...attempt, notBeforeMs: 0 }) }
}

/** Whether that changes anything: it left by an operator's word, or what failed on its machine waits. */
export function mayReturn(
  record: ClusterRecord,
  host: string,
  machine: string | undefined,
  now: number,
): boolean {
  return record.left.has(host) || (record.attempts.get(machine ?? '')?.notBeforeMs ?? 0) > now
}
