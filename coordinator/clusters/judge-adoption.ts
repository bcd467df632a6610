import { EASY_CERTS, layoutOf } from '../../shared/kubernetes/distributions.ts'
import { type ClusterRecord, isServer } from './cluster-record.ts'
import {
  type ClusterSnapshot,
  FRESH_MS,
  type NodeData,
  type ServerView,
  type WantedHost,
} from './cluster-snapshot.ts'
import { countQuorum, whyNoQuorum } from './quorum.ts'
import { describeReason } from './reasons.ts'

export interface Adoption {
  readonly authority: string
  readonly firstServer: { readonly host: string; readonly machine: string }
  /** Hosts that count as joined from here on. */
  readonly hosts: readonly string[]
  /** What the servers run. */
  readonly versions: readonly string[]
}

export type AdoptionVerdict =
  | { readonly kind: 'adopt'; readonly adoption: Adoption; readonly warnings: readonly string[] }
  | { readonly kind: 'refused'; readonly problems: readonly string[] }

interface Holder {
  readonly wanted: WantedHost
  readonly machine: string
  readonly data: Extract<NodeData, { kind: 'cluster' }>
  readonly version: string | undefined
  readonly view: ServerView | undefined
}

/**
 * Whether a running cluster can be taken in as it is. Everything that its machines say must fit together: one authority,
 * the distribution of the fleet file, and every member of the datastore a host of the fleet file with a server's role.
 * Names all that stands in the way at once. Nothing is asked of any machine but what it said already.
 */
export function judgeAdoption(snapshot: ClusterSnapshot, now: number): AdoptionVerdict {
  const { record, hosts, machines, distribution } = snapshot
  const problems: string[] = []
  const warnings: string[] = []
  const holders: Holder[] = []
  for (const wanted of hosts) {
    const { host, machine } = wanted
    const view = machine === undefined ? undefined : machines.get(machine)
    const seen = view?.observation
    if (machine === undefined || !seen) {
      warnings.push(
        `${host}: ${machine === undefined ? 'no machine is bound to it' : 'its machine has not said what it has'}`,
      )
    } else if (seen.data.kind === 'cluster') {
      if (!view.connected || now - seen.asOfMs > FRESH_MS)
        warnings.push(`${host}: was last heard of some time ago`)
      const fresh = view.connected && now - seen.asOfMs <= FRESH_MS
      holders.push({
        wanted,
        machine,
        data: seen.data,
        version: seen.version,
        view: fresh ? seen.view : undefined,
      })
    } else if (seen.data.kind === 'lost') {
      warnings.push(`${host}: its datastore ${seen.data.path} is gone`)
    } else if (seen.data.kind === 'unreadable') {
      problems.push(`${host}: what it has on its disk cannot be told: ${seen.data.reason}`)
    }
  }
  const [first] = holders
  if (!first) return { kind: 'refused', problems: [...problems, 'no machine of the cluster has data of one'] }
  if (record.founding?.state === 'founded') {
    problems.push(
      record.founding.authority === first.data.authority
        ? 'the cluster is known already'
        : 'another cluster of this name is known already; what was decided once is not decided anew',
    )
  }
  if (record.founding?.state === 'ordered' && !machines.get(record.founding.machine)?.gone) {
    problems.push(`${record.founding.host} was told to found it, and has not answered`)
  }
  for (const { wanted, data } of holders) {
    if (data.authority !== first.data.authority) {
      problems.push(`${wanted.host} has another authority than ${first.wanted.host}`)
    }
    const layout = layoutOf(distribution)
    if (data.distribution !== layout && data.distribution !== EASY_CERTS) {
      const expected = layout === distribution ? '' : `, which would look like ${layout}`
      problems.push(
        `${wanted.host} runs ${data.distribution || 'what has no name'}, the fleet file says ${distribution}${expected}`,
      )
    }
    if (data.server !== isServer(wanted.role)) {
      problems.push(
        `${wanted.host} has data of a ${data.server ? 'server' : 'worker'}, its role is ${wanted.role}`,
      )
    }
  }
  const easyCerts = holders.filter(({ data }) => data.distribution === EASY_CERTS)
  if (easyCerts.length > 0) {
    const names = easyCerts.map(({ wanted }) => wanted.host).join(', ')
    problems.push(
      `${names}: services.kubernetes with easyCerts, whose certificates let no other server join and end without their issuer; such a cluster is not adopted: found one on other machines and move what runs there, or take role and cluster of these hosts out of fleet.toml (docs/clusters.md, kubernetes)`,
    )
    return { kind: 'refused', problems }
  }
  const servers = holders.filter(({ view }) => view?.ready && view.members.length > 0)
  const [server] = servers
  if (!server?.view) problems.push('no server of it is connected and ready, so its members cannot be read')
  else problems.push(...membersThatDoNotFit(server.view, holders))
  if (problems.length > 0 || !server?.view) return { kind: 'refused', problems }
  for (const { name } of server.view.nodes) {
    if (!hosts.some(({ host }) => host === name))
      warnings.push(`node ${name} is no host of the cluster in the fleet file`)
  }
  const versions = [...new Set(holders.filter(h => h.data.server).map(({ version }) => version ?? 'unknown'))]
  const adoption: Adoption = {
    authority: first.data.authority,
    firstServer: { host: server.wanted.host, machine: server.machine },
    hosts: holders.map(({ wanted }) => wanted.host),
    versions,
  }
  return { kind: 'adopt', adoption, warnings }
}

function membersThatDoNotFit(view: ServerView, holders: readonly Holder[]): string[] {
  const problems = view.members
    .filter(({ name }) => !holders.some(({ wanted, data }) => wanted.host === name && data.server))
    .map(({ name }) => `member ${name || 'without a name'} of the datastore is no server of the fleet file`)
  // What such a server needs to join stays as whoever made the cluster left it.
  const outside = holders
    .filter(({ wanted, data }) => data.server && !view.members.some(({ name }) => name === wanted.host))
    .map(({ wanted }) => `${wanted.host} has data of a server and is no member of the datastore`)
  const lost = whyNoQuorum(countQuorum(view.members))
  return [...problems, ...outside, ...(lost ? [describeReason(lost)] : [])]
}

/** The record after the adoption: as if it had been founded, and nobody was told to do anything. */
export function applyAdoption(record: ClusterRecord, adoption: Adoption, now: number): ClusterRecord {
  const { host, machine } = adoption.firstServer
  return {
    ...record,
    founding: {
      state: 'founded',
      machine,
      host,
      operation: '',
      atMs: now,
      attempt: (record.founding?.attempt ?? 0) + 1,
      authority: adoption.authority,
      adopted: true,
    },
    firstServer: machine,
    settledMs: now,
  }
}
