import { authorityOf, isNamedBy, isServer } from '../cluster-record.ts'
import {
  belongs,
  type ClusterSnapshot,
  freshObservation,
  hasLostDatastore,
  liveServers,
  settledObservation,
} from '../cluster-snapshot.ts'
import { FIRST_AWAY_MS } from '../decide-founding.ts'
import { describeReason } from '../reasons.ts'
import { isSpent } from '../server-change.ts'

/**
 * Why a host may not be made the only server from a snapshot; empty: it may. While another server serves it never is. On a machine
 * that has nothing of the cluster all its servers must be lost: none that has data of it is connected, and of none that had was it
 * looked for only now.
 */
export function whyNotRestore(
  snapshot: ClusterSnapshot,
  { host, machine }: { readonly host: string; readonly machine: string | undefined },
  now: number,
): string[] {
  const served = whyServed(snapshot, host, now)
  const data = freshObservation(snapshot, machine, now)?.data
  if (data?.kind !== 'none' && data?.kind !== 'unfinished' && !hasLostDatastore(snapshot, data))
    return [...(data ? whyUnknown(snapshot) : []), ...served, ...whatChanges(snapshot, false)]
  const barred = snapshot.hosts.find(each => each.host === host)?.barred
  return [
    ...served,
    ...(barred ? [`${host}: ${describeReason(barred)}`] : []),
    ...whatChanges(snapshot, true),
    ...whoMayServe(snapshot, machine ?? '', now),
    ...whyNotFound(snapshot, machine ?? '', now),
  ]
}

/** Of a cluster that is not known here nobody sets a datastore back that lies there already. */
function whyUnknown({ record }: ClusterSnapshot): string[] {
  return authorityOf(record) === undefined
    ? [`cluster ${record.name} runs and was not adopted: \`muster cluster adopt ${record.name}\``]
    : []
}

function whyServed(snapshot: ClusterSnapshot, host: string, now: number): string[] {
  return liveServers(snapshot, now)
    .filter(server => server.host !== host)
    .map(
      server =>
        `${server.host} serves the datastore as it is: let it leave first (\`muster leave ${server.host}\`), it joins anew afterwards`,
    )
}

/**
 * What is under way. Where all servers are lost only what a machine may still be at: no token of a datastore that is no more brings
 * a worker in, nobody answers who was to take something away, and a leave that waits goes on waiting.
 */
function whatChanges(snapshot: ClusterSnapshot, areLost: boolean): string[] {
  const { record, machines, hosts, distribution } = snapshot
  const { joins, clears, leaves } = record
  const mayGoOn = (machine: string) =>
    !areLost || ((machines.get(machine)?.connected ?? false) && !machines.get(machine)?.gone)
  const nameOf = (machine: string) =>
    hosts.find(host => host.machine === machine)?.host ?? `machine ${machine.slice(0, 12)}`
  const busy = [
    ...joins
      .filter(
        join => !areLost || (isServer(join.role) && !isSpent(join, distribution) && mayGoOn(join.machine)),
      )
      .map(({ host, operation, end, minter, deleter }) =>
        end === undefined
          ? `${host} is joining (operation ${operation})`
          : `the token that ${host} joined with is not known to be deleted by ${nameOf(deleter ?? minter)} (operation ${operation})`,
      ),
    ...clears
      .filter(({ server }) => mayGoOn(server))
      .map(
        ({ host, operation, server }) =>
          `${nameOf(server)} takes an older ${host} away (operation ${operation})`,
      ),
    ...leaves
      .filter(({ attempt }) => !areLost || (attempt && mayGoOn(attempt.executor)))
      .map(({ host, attempt }) =>
        attempt
          ? `${host} is leaving (operation ${attempt.operation})`
          : `${host} is to leave, and waits: \`muster cluster show\` says for what`,
      ),
  ]
  return busy.map(what => `${what}: a datastore is not set back meanwhile, ask again once that is over`)
}

/** Servers that have the cluster's data, or had when they were last heard, and may come up with it at any moment. */
function whoMayServe(snapshot: ClusterSnapshot, target: string, now: number): string[] {
  const { record, hosts, machines, firstAbsentMs } = snapshot
  const problems: string[] = []
  let isLookedFor = false
  for (const [machine, view] of machines) {
    if (machine === target || view.gone) continue
    const wanted = hosts.find(each => each.machine === machine)
    const name = wanted?.host ?? `machine ${machine.slice(0, 12)}`
    const { data } = view.observation ?? {}
    if (!data) {
      if (view.connected && wanted && isServer(wanted.role))
        problems.push(`${name}: ${describeReason({ gate: 'unknown-state' })}`)
      continue
    }
    const isServers = data.kind === 'cluster' ? data.server : wanted !== undefined && isServer(wanted.role)
    const isOurs =
      data.kind === 'unreadable' ||
      (data.kind === 'cluster' && (authorityOf(record) === undefined || belongs(snapshot, data)))
    if (!isServers || !isOurs) continue
    if (view.connected) {
      problems.push(
        `${name} has data of the cluster and is connected: go back to the snapshot there, or stop that machine for good and evict it`,
      )
    } else isLookedFor = true
  }
  if (isLookedFor && firstAbsentMs !== undefined && now - firstAbsentMs < FIRST_AWAY_MS) {
    problems.push(
      'servers that had data of the cluster are looked for not yet a minute: ask again in a moment',
    )
  }
  return problems
}

/** Of a cluster that nobody knows here it is the founding, which is one machine's. */
function whyNotFound(snapshot: ClusterSnapshot, target: string, now: number): string[] {
  const { record, hosts, machines } = snapshot
  const { founding } = record
  if (founding?.state === 'founded') return []
  const problems = hosts.flatMap(({ host, role, machine }) => {
    const view = machine === undefined ? undefined : machines.get(machine)
    if (!isServer(role) || machine === undefined || machine === target || view?.gone || view?.observation)
      return []
    return [describeReason({ gate: 'server-unknown', host })]
  })
  if (!founding || machines.get(founding.machine)?.gone) return problems
  const { host, machine, operation, state } = founding
  const isOwn = machine === target
  if (state === 'ordered' && !(isOwn && !isNamedBy(record, operation)))
    problems.push(describeReason({ gate: 'founder-away', host, machine }))
  if (state === 'failed' && !isOwn && settledObservation(snapshot, machine, now)?.data.kind !== 'none')
    problems.push(describeReason({ gate: 'founder-data', host }))
  return problems
}
