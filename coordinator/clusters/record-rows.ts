import type { Insertable, Selectable } from 'kysely'
import { roles } from '../../shared/fleet-file/schema.ts'
import type {
  ClusterClearsTable,
  ClusterJoinsTable,
  ClusterLeavesTable,
  ClusterNodesTable,
  ClustersTable,
} from '../store/cluster-tables.ts'
import type { Clear, ClusterRecord, Founding, Join, Leave, MemberRole } from './cluster-record.ts'
import type { NodeData, Observation } from './cluster-snapshot.ts'

// Rows are ours: one that cannot be read is a damaged store, and says so.

const memberRoles = roles.filter((role): role is MemberRole => role !== 'none')
const foundingStates = ['ordered', 'failed', 'founded'] as const
const joinStates = ['asked', 'minted', 'received', 'joined'] as const
const joinEnds = ['joined', 'failed', 'expired', 'withdrawn'] as const

function oneOf<T extends string>(known: readonly T[], text: string, column: string): T {
  const found = known.find(each => each === text)
  if (found === undefined)
    throw new Error(`store: ${column} holds something else than one of ${known.join(', ')}`)
  return found
}

export function foundingOf(row: Selectable<ClustersTable>): Founding | undefined {
  const { founding_state: state, founding_machine: machine, founding_host: host } = row
  const { founding_operation: operation, founding_at: atMs, founding_attempt: attempt } = row
  if (state === null) return undefined
  if (machine === null || host === null || operation === null || atMs === null || attempt === null) {
    throw new Error('store: a founding lacks a part')
  }
  return {
    state: oneOf(foundingStates, state, 'founding_state'),
    machine,
    host,
    operation,
    atMs,
    attempt,
    authority: row.authority ?? undefined,
    adopted: row.adopted === 1,
  }
}

export function clusterRow(
  { name, count, founding, firstServer, settledMs, setBackAt }: ClusterRecord,
  generation: number,
) {
  return {
    name,
    count,
    founding_state: founding?.state ?? null,
    founding_machine: founding?.machine ?? null,
    founding_host: founding?.host ?? null,
    founding_operation: founding?.operation ?? null,
    founding_at: founding?.atMs ?? null,
    founding_attempt: founding?.attempt ?? null,
    authority: founding?.authority ?? null,
    adopted: founding?.adopted ? 1 : 0,
    first_server: firstServer ?? null,
    settled: settledMs,
    set_back: setBackAt,
    generation,
  }
}

export function joinOf(row: Selectable<ClusterJoinsTable>): Join {
  return {
    operation: row.operation,
    machine: row.machine,
    host: row.host,
    role: oneOf(memberRoles, row.role, 'role'),
    minter: row.minter,
    atMs: row.at,
    expiresMs: row.expires,
    state: oneOf(joinStates, row.state, 'state'),
    joinedMs: row.joined ?? undefined,
    tokenId: row.token_id ?? undefined,
    end: row.ended_as === null ? undefined : oneOf(joinEnds, row.ended_as, 'ended_as'),
    joinerDone: row.joiner_done === 1,
    deleter: row.deleter ?? undefined,
    tokenGone: row.token_gone === 1,
  }
}

export function joinRow(cluster: string, join: Join): Selectable<ClusterJoinsTable> {
  const { operation, machine, host, role, minter, atMs, expiresMs, state } = join
  return {
    operation,
    cluster,
    machine,
    host,
    role,
    minter,
    at: atMs,
    expires: expiresMs,
    state,
    joined: join.joinedMs ?? null,
    token_id: join.tokenId ?? null,
    ended_as: join.end ?? null,
    joiner_done: join.joinerDone ? 1 : 0,
    deleter: join.deleter ?? null,
    token_gone: join.tokenGone ? 1 : 0,
  }
}

export function clearOf({ operation, host, machine, server, at }: Selectable<ClusterClearsTable>): Clear {
  return { operation, host, machine, server, atMs: at }
}

export function clearRow(cluster: string, clear: Clear): Selectable<ClusterClearsTable> {
  const { operation, host, machine, server, atMs } = clear
  return { operation, cluster, host, machine, server, at: atMs }
}

export function leaveOf(row: Selectable<ClusterLeavesTable>): Leave {
  const { request, host, machine, operation, executor, failures, not_before: notBeforeMs, reason } = row
  const attempt = operation === null || executor === null ? undefined : { operation, executor }
  const [server, dead] = [row.server === 1, row.dead === 1]
  const signed =
    row.signed_order === null || row.signed_until === null
      ? undefined
      : { envelope: new Uint8Array(row.signed_order), untilMs: row.signed_until }
  return { request, host, machine, server, dead, attempt, failures, notBeforeMs, signed, reason }
}

export function leaveRow(cluster: string, leave: Leave): Insertable<ClusterLeavesTable> {
  const { request, host, machine, attempt, failures, notBeforeMs, signed, reason } = leave
  return {
    request,
    cluster,
    host,
    machine,
    server: leave.server ? 1 : 0,
    dead: leave.dead ? 1 : 0,
    operation: attempt?.operation ?? null,
    executor: attempt?.executor ?? null,
    failures,
    not_before: notBeforeMs,
    signed_order: signed?.envelope ?? null,
    signed_until: signed?.untilMs ?? null,
    reason,
  }
}

/** What is kept of an observation: not what a server sees, which would be old before it is read. */
export function nodeRow(machine: string, seen: Observation): Selectable<ClusterNodesTable> {
  const { data, version, asOfMs, part } = seen
  const row = {
    machine,
    data: data.kind,
    distribution: '',
    server: 0,
    version: version ?? '',
    as_of: asOfMs,
    part,
  }
  switch (data.kind) {
    case 'none':
      return { ...row, detail: '' }
    case 'cluster':
      return { ...row, detail: data.authority, distribution: data.distribution, server: data.server ? 1 : 0 }
    case 'unfinished':
      return { ...row, detail: data.operation }
    case 'unreadable':
      return { ...row, detail: data.reason }
    case 'lost':
      // Until it says so again, it is one that nobody may touch.
      return { ...row, data: 'unreadable', detail: `its datastore ${data.path} was gone` }
  }
}

const dataKinds = ['none', 'cluster', 'unfinished', 'unreadable'] as const

export function observationOf(row: Selectable<ClusterNodesTable>): Observation {
  const { version, as_of: asOfMs, part } = row
  return { asOfMs, part, data: dataOf(row), version: version === '' ? undefined : version, view: undefined }
}

function dataOf({ data, detail, distribution, server }: Selectable<ClusterNodesTable>): NodeData {
  const kind = oneOf(dataKinds, data, 'data')
  switch (kind) {
    case 'none':
      return { kind }
    case 'cluster':
      return { kind, authority: detail, distribution, server: server === 1 }
    case 'unfinished':
      return { kind, operation: detail }
    case 'unreadable':
      return { kind, reason: detail }
  }
}
