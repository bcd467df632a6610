import { suggest } from '../suggest.ts'
import { groupLayers, hostLayers, isOwn, type Layers, pick } from './layers.ts'
import { quote, type Report } from './problem.ts'
import type { GroupTable, HostTable, Sections } from './read-sections.ts'

/** Checks who belongs to which cluster and group, and that every cluster can exist. */
export function checkMembership(sections: Sections, report: Report): void {
  checkReferences(sections, report)
  const servers = new Map<string, number>()
  let certain = true
  for (const host of sections.hosts.values()) {
    const layers = hostLayers(sections, host)
    checkRoleHasCluster(host, layers, report)
    const role = pick(layers, 'role')
    const cluster = pick(layers, 'cluster')
    if (!role.certain || !cluster.certain || host.table.broken.has('group')) certain = false
    const name = cluster.found?.value
    if (name !== undefined && (role.found?.value === 'server' || role.found?.value === 'server+worker')) {
      servers.set(name, (servers.get(name) ?? 0) + 1)
    }
  }
  for (const group of sections.groups.values()) {
    if (group.table.values.admit) checkRoleHasCluster(group, groupLayers(sections, group), report)
  }
  // With an unreadable role or cluster somewhere, the missing server may be that one.
  if (!certain) return
  for (const { name, nameAt } of sections.clusters.values()) {
    const count = servers.get(name) ?? 0
    const path = ['clusters', name]
    if (count === 0) {
      report(nameAt, path, `has no server: give one host role = "server" and cluster = ${quote(name)}`)
    } else if (count % 2 === 0) {
      const text = `has ${count} servers, which bear the loss of no more than ${count - 1} would; make it ${count - 1} or ${count + 1}`
      report(nameAt, path, text, 'warning')
    }
  }
}

/** A name that is used must be defined. */
function checkReferences(sections: Sections, report: Report): void {
  const tables = [
    ...(sections.defaults ? [sections.defaults] : []),
    ...[...sections.groups.values(), ...sections.hosts.values()].map(({ table }) => table),
  ]
  for (const { values } of tables) {
    const { cluster } = values
    if (cluster !== undefined && !sections.clusters.has(cluster.value)) {
      report(cluster.at, cluster.path, undefinedName('cluster', cluster.value, [...sections.clusters.keys()]))
    }
  }
  for (const { table } of sections.hosts.values()) {
    const { group } = table.values
    if (group !== undefined && !sections.groups.has(group.value)) {
      report(group.at, group.path, undefinedName('group', group.value, [...sections.groups.keys()]))
    }
  }
}

function undefinedName(kind: string, name: string, known: readonly string[]): string {
  const near = suggest(name, known.slice(0, 1_000))
  const hint = near === undefined ? `write [${kind}s.${name}] to define it` : `did you mean ${quote(near)}?`
  return `no ${kind} ${quote(name)} is defined; ${hint}`
}

function checkRoleHasCluster(of: HostTable | GroupTable, layers: Layers, report: Report): void {
  const role = pick(layers, 'role')
  const cluster = pick(layers, 'cluster')
  if (!role.certain || !cluster.certain) return
  const name = role.found?.value ?? 'none'
  if (name !== 'none' && role.found !== undefined && cluster.found === undefined) {
    const at = isOwn(layers, role.found) ? role.found.at : of.nameAt
    report(
      at,
      [...of.table.path, 'role'],
      `role ${quote(name)} needs a cluster: write cluster = "NAME" beside it`,
    )
  }
  if (name === 'none' && cluster.found !== undefined && isOwn(layers, cluster.found)) {
    const text = 'has no effect without a role: write role = "server", "worker" or "server+worker" beside it'
    report(cluster.found.at, cluster.found.path, text, 'warning')
  }
}
