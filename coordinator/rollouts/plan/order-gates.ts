import type { Wait } from './decision.ts'
import type { GateInput } from './gates.ts'
import { lastServer } from './last-server.ts'

/** Who must be done before: edges between hosts and clusters, servers before workers, the server that leads last. */
export function* turn({ snapshot, host, standing, predecessors }: GateInput): Iterable<Wait> {
  const before = host.after.find(name => standing.host(name) !== undefined && !standing.isDone(name))
  if (before !== undefined && before !== host.host) {
    yield { gate: 'order', reason: `goes after ${before}`, opens: `${before} is done`, on: before }
  }
  const { cluster } = host
  if (cluster === undefined) return
  for (const earlier of snapshot.follows.get(cluster) ?? []) {
    const open = earlier === cluster ? undefined : standing.firstUndone(earlier)
    if (!open) continue
    const reason = `cluster ${cluster} goes after ${earlier}, where ${open.host} is not done`
    yield { gate: 'cluster', reason, opens: `cluster ${earlier} is done`, on: open.host }
    break
  }
  const last = host.server ? lastServer(snapshot.clusters.get(cluster)) : undefined
  if (host.server && last?.host !== host.host) return
  for (const server of standing.undoneServers(cluster)) {
    if (server.host === host.host) continue
    // An edge is somebody's word, and who leads is chance: were both kept, each would wait for the other.
    if (last && predecessors.of(server.host).has(host.host)) continue
    const reason = last ? `goes after server ${server.host}: ${last.why}` : `goes after server ${server.host}`
    yield { gate: 'servers', reason, opens: `${server.host} is done`, on: server.host }
    return
  }
}

/**
 * Everybody waits for the canaries, but for those that any of them must wait for: were these kept for another canary, two canaries could
 * wait for each other's predecessors for ever.
 */
export function* canaries({ host, standing, predecessors }: GateInput): Iterable<Wait> {
  if (host.canary) return
  let first: string | undefined
  for (const canary of standing.undoneCanaries()) {
    if (predecessors.of(canary.host).has(host.host)) return
    first ??= canary.host
  }
  if (first === undefined) return
  yield {
    gate: 'canary',
    reason: `canary ${first} has not proved it`,
    opens: `${first} is done and has stayed well`,
    on: first,
  }
}
