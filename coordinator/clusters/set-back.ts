import { authorityOf, type ClusterRecord } from './cluster-record.ts'
import { noteSuccess } from './steps.ts'

/**
 * The record after a machine became the only server, from a snapshot. What was under way was so in a datastore that is no more: tokens
 * that were minted there open nothing here, and what was being taken away is looked for anew. Of a cluster that nobody knew of
 * it is the founding.
 */
export function setBack(
  record: ClusterRecord,
  by: { readonly machine: string; readonly host: string; readonly operation: string },
  authority: string,
  now: number,
): ClusterRecord {
  const count = record.count + 1
  const { founding } = record
  const known = authorityOf(record) ?? authority
  // An agent of an older version does not say which cluster it went back to, and then only where it had one.
  if (known === '')
    return { ...noteSuccess(record, by.machine, now), firstServer: by.machine, settledMs: now }
  return {
    ...noteSuccess(record, by.machine, now),
    count,
    setBackAt: count,
    founding: {
      state: 'founded',
      machine: by.machine,
      host: by.host,
      operation: by.operation,
      atMs: now,
      attempt: founding?.attempt ?? 1,
      authority: known,
      adopted: founding?.adopted ?? false,
    },
    firstServer: by.machine,
    // Where a server's secret is good for ever, only the joiner can say that nothing comes of it any more.
    joins: record.joins.map(join => ({ ...join, end: join.end ?? 'withdrawn', tokenGone: true })),
    clears: [],
    leaves: record.leaves.map(leave => ({ ...leave, attempt: undefined })),
    settledMs: now,
  }
}

/**
 * A server of the datastore that there is. One that has data of before it was set back is of another, whatever its authority: it
 * was not minted for since then, which only a machine is that has nothing.
 */
export function isOfDatastore({ setBackAt, founding, attempts }: ClusterRecord, machine: string): boolean {
  if (setBackAt === 0 || founding?.machine === machine) return true
  return (attempts.get(machine)?.mintedAt ?? 0) > setBackAt
}
