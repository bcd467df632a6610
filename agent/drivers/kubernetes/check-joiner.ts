import type { Distribution } from '../cluster-facts.ts'
import type { Joiner } from '../driver.ts'
import type { SeenMember } from '../etcd/member.ts'
import type { Shortfall } from '../node/preconditions.ts'
import type { NodeReading } from './node-reading.ts'

/** A cluster has no more Node objects than are read at once. */
export const MAX_NODES = 5_000

/**
 * What stands in the way of a machine that is to join under a name, by what the cluster has already: something of another
 * machine, or of this one before it was installed anew. Both are cleared first, never joined over.
 */
export function judgeJoiner(
  joiner: Joiner,
  nodes: readonly NodeReading[],
  members: readonly SeenMember[],
  distribution: Distribution,
): readonly Shortfall[] {
  const found: Shortfall[] = []
  for (const node of nodes) {
    if (node.name === joiner.node) {
      found.push({
        what: 'host-name',
        reason: `the cluster has a node ${node.name} already: take it out first`,
      })
      continue
    }
    if (node.addresses.includes(joiner.address)) {
      found.push({ what: 'address', reason: `${joiner.address} is the address of node ${node.name}` })
    }
    if (joiner.machineId !== undefined && joiner.machineId !== '' && node.machineId === joiner.machineId) {
      const cure = 'they are copies: remove /etc/machine-id of one and run systemd-machine-id-setup there'
      found.push({ what: 'machine-id', reason: `node ${node.name} has the same machine id: ${cure}` })
    }
  }
  if (joiner.role === 'worker') return found
  const old = memberOf(members, joiner.node, [joiner.address], distribution)
  // One that was added for this very joining has no name yet.
  if (old && !(old.learner && old.name === '')) {
    found.push({
      what: 'data',
      reason: `the datastore has a member ${old.name || old.id} of ${joiner.node}: take it out first`,
    })
  }
  return found
}

/**
 * The datastore's member of a node: by its name, or else by its address. k3s puts eight digits behind the name; with any other
 * distribution a member of such a name is that of another node.
 */
export function memberOf(
  members: readonly SeenMember[],
  node: string,
  addresses: readonly string[],
  distribution: Distribution,
): SeenMember | undefined {
  const nodeOf = (name: string) => (distribution === 'k3s' ? name.replace(/-[0-9a-f]{8}$/, '') : name)
  const named = members.find(({ name }) => name !== '' && nodeOf(name) === node)
  return named ?? members.find(({ peerUrls }) => peerUrls.some(url => addresses.includes(hostIn(url) ?? '')))
}

/** The host of a URL, an IPv6 address without its brackets; undefined: it is no URL. */
export function hostIn(url: string): string | undefined {
  return URL.canParse(url) ? new URL(url).hostname.replace(/^\[|\]$/g, '') : undefined
}
