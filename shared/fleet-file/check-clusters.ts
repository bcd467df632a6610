import { type Network, networksOverlap, parseAddress, parseNetwork, sameNetwork } from './address.ts'
import { groupLayers, hostLayers, isOwn, type Layers, pick } from './layers.ts'
import { quote, type Report } from './problem.ts'
import type { ClusterTable, Sections } from './read-sections.ts'
import { isTunnel } from './tunnel-interface.ts'
import type { Placed } from './value-type.ts'

/** The API server takes no larger network of services, and its tenth address is that of the name service. */
const SERVICE_PREFIX = { 4: { least: 12, most: 28 }, 6: { least: 108, most: 124 } } as const
/** What each node gets of the pods' network, by every distribution's default. */
const NODE_PREFIX = { 4: 24, 6: 64 } as const

interface Member {
  readonly name: string
  readonly layers: Layers
}

/** Checks what a cluster asks of its networks, its endpoint and its members. */
export function checkClusters(sections: Sections, report: Report): void {
  const members = membersByCluster(sections)
  for (const cluster of sections.clusters.values()) {
    const own = members.get(cluster.name) ?? []
    checkNetworks(cluster, own, report)
    checkEndpoint(cluster, own, report)
    checkSeveralServers(cluster, own, report)
  }
  for (const host of sections.hosts.values()) checkExternal(sections, hostLayers(sections, host), report)
  for (const group of sections.groups.values()) checkExternal(sections, groupLayers(sections, group), report)
}

function membersByCluster(sections: Sections): ReadonlyMap<string, readonly Member[]> {
  const members = new Map<string, Member[]>()
  for (const host of sections.hosts.values()) {
    const layers = hostLayers(sections, host)
    const role = pick(layers, 'role').found?.value ?? 'none'
    const cluster = pick(layers, 'cluster').found?.value
    if (role === 'none' || cluster === undefined) continue
    const known = members.get(cluster)
    if (known === undefined) members.set(cluster, [{ name: host.name, layers }])
    else known.push({ name: host.name, layers })
  }
  return members
}

function checkNetworks(
  { table: { values } }: ClusterTable,
  members: readonly Member[],
  report: Report,
): void {
  const pods = placedNetwork(values['pod-cidr'])
  const services = placedNetwork(values['service-cidr'])
  if (pods !== undefined) {
    const most = NODE_PREFIX[pods.network.address.family]
    if (pods.network.prefixLength > most) {
      const text = `each node gets a /${most} of it; write a prefix length of at most ${most}`
      report(pods.placed.at, pods.placed.path, `${pods.placed.value} is too small: ${text}`)
    }
  }
  if (services !== undefined) {
    const { least, most } = SERVICE_PREFIX[services.network.address.family]
    const { prefixLength } = services.network
    if (prefixLength < least || prefixLength > most) {
      const text = `has no size that a network of services may have; write a prefix length from ${least} to ${most}`
      report(services.placed.at, services.placed.path, `${services.placed.value} ${text}`)
    }
  }
  if (pods !== undefined && services !== undefined) {
    if (pods.network.address.family !== services.network.address.family) {
      const text = `is of another address family than pod-cidr ${pods.placed.value}; write both as IPv4 or both as IPv6`
      report(services.placed.at, services.placed.path, `${services.placed.value} ${text}`)
    } else if (networksOverlap(pods.network, services.network)) {
      const text = `overlaps pod-cidr ${pods.placed.value}; choose networks that have no address in common`
      report(services.placed.at, services.placed.path, `${services.placed.value} ${text}`)
    }
  }
  for (const one of [pods, services]) {
    if (one !== undefined) checkMembersOutside(one, members, report)
  }
}

function placedNetwork(placed: Placed<string> | undefined) {
  const network = placed === undefined ? undefined : parseNetwork(placed.value)
  return placed === undefined || network === undefined ? undefined : { placed, network }
}

function checkMembersOutside(
  { placed, network }: { readonly placed: Placed<string>; readonly network: Network },
  members: readonly Member[],
  report: Report,
): void {
  for (const { name, layers } of members) {
    const address = parseAddress(pick(layers, 'address').found?.value ?? '')
    if (address === undefined || !sameNetwork(address, network.address, network.prefixLength)) continue
    const cure = 'choose a network in which no machine has its address'
    report(placed.at, placed.path, `${placed.value} holds the address of host ${quote(name)}; ${cure}`)
    return
  }
}

function checkEndpoint(
  { table: { values, broken } }: ClusterTable,
  members: readonly Member[],
  report: Report,
): void {
  const { endpoint, 'endpoint-keeper': keeper } = values
  if (keeper?.value !== 'servers' || broken.has('endpoint')) return
  const address = endpoint === undefined ? undefined : parseAddress(endpoint.value)
  if (endpoint === undefined || address === undefined) {
    const cure = 'write endpoint = "ADDRESS" with a free address of their network'
    report(keeper.at, keeper.path, `the servers can keep an address only, and endpoint is none; ${cure}`)
    return
  }
  const nodeInterface = values['node-interface']
  // Where nodes speak over a tunnel, the address is kept in the network of the hosts themselves.
  const byTunnel = nodeInterface !== undefined && isTunnel(nodeInterface.value)
  const ownInterface = nodeInterface === undefined || byTunnel
  const systems = members.flatMap(({ layers }) => {
    const role = pick(layers, 'role').found?.value
    return role === 'server' || role === 'server+worker' ? [pick(layers, 'os').found?.value] : []
  })
  if (systems.length > 0 && systems.every(os => os === 'external')) {
    const text =
      'the systems of all its servers are somebody else’s (os = "external"), and what keeps an address comes with a system'
    const cure = 'write endpoint-keeper = "outside", and have its owner keep it'
    report(keeper.at, keeper.path, `${text}; ${cure}`)
    return
  }
  for (const { name, layers } of members) {
    const placed = pick(layers, 'address').found
    const own = placed === undefined ? undefined : parseAddress(placed.value)
    if (own?.bits === address.bits && own.family === address.family) {
      const cure = 'choose one that no machine has, or endpoint-keeper = "outside"'
      report(endpoint.at, endpoint.path, `${endpoint.value} is the address of host ${quote(name)}; ${cure}`)
      return
    }
    const role = pick(layers, 'role').found?.value
    const length = pick(layers, 'prefix-length').found?.value
    if (role !== 'server' && role !== 'server+worker') continue
    if (!ownInterface) continue
    const on = pick(layers, 'interface').found?.value
    if (on === undefined) {
      const cure = byTunnel
        ? `write interface for every server: ${nodeInterface.value} is a tunnel, where no address can be kept`
        : 'write interface for every server, or node-interface for the cluster'
      report(keeper.at, keeper.path, `nothing says on which interface host ${quote(name)} keeps it; ${cure}`)
      return
    }
    if (isTunnel(on)) {
      const cure = 'write an interface of their common network, or endpoint-keeper = "outside"'
      report(
        keeper.at,
        keeper.path,
        `host ${quote(name)} would keep it on ${on}, a tunnel, which carries no VRRP; ${cure}`,
      )
      return
    }
    if (own === undefined || length === undefined) continue
    if (!sameNetwork(own, address, length)) {
      const cure = 'the servers can keep an address of their own network only'
      report(
        endpoint.at,
        endpoint.path,
        `${endpoint.value} is outside the network of host ${quote(name)}; ${cure}`,
      )
      return
    }
  }
}

/** k3s has a load balancer of its own on every node; the others' kubelets know one address for good. */
function checkSeveralServers(
  { nameAt, table: { path, values, broken } }: ClusterTable,
  members: readonly Member[],
  report: Report,
): void {
  const distribution = values.distribution?.value
  if (distribution === undefined || distribution === 'k3s') return
  if (values.endpoint !== undefined || broken.has('endpoint')) return
  const servers = members.filter(({ layers }) => {
    const role = pick(layers, 'role').found?.value
    return role === 'server' || role === 'server+worker'
  })
  if (servers.length < 2) return
  const text = `has ${servers.length} servers and no endpoint: nodes keep the address of the server that let them in, and are lost together with it`
  const cure =
    'write endpoint = "ADDRESS", of a load balancer or, with endpoint-keeper = "servers", a free one that the servers keep'
  report(nameAt, path, `${text}; ${cure}`, 'warning')
}

/** Only what has a profile of its own can be installed where the system is somebody else's. */
function checkExternal(sections: Sections, layers: Layers, report: Report): void {
  const os = pick(layers, 'os').found
  const role = pick(layers, 'role').found
  const cluster = pick(layers, 'cluster').found
  if (os === undefined || role === undefined || role.value === 'none' || cluster === undefined) return
  const table = sections.clusters.get(cluster.value)?.table
  if (table === undefined || table.broken.has('life') || table.values.life?.value === 'apart') return
  const at = isOwn(layers, os) ? os : role
  const cure = `write life = "apart" in [clusters.${cluster.value}], or leave the role away`
  report(at.at, at.path, `with os = "external" the system does not bring Kubernetes along; ${cure}`)
}
