import { hostOf } from '../driver-base.ts'
import type { EtcdMember } from '../etcd/member.ts'

export const peerUrl = (address: string): string => `https://${hostOf(address)}:2380`

/** What etcd's unit reads at its first start: its members, and whether they are a cluster already. */
export function startEnvironment(initialCluster: string, state: 'new' | 'existing'): string {
  return `ETCD_INITIAL_CLUSTER=${initialCluster}\nETCD_INITIAL_CLUSTER_STATE=${state}\n`
}

/** Members as etcd takes them; one that has not started has the name that it will start with. */
export function initialCluster(
  members: readonly EtcdMember[],
  joiner: { node: string; peerUrl: string },
): string {
  return members
    .flatMap(({ name, peerUrls }) =>
      peerUrls.map(url => `${name === '' && url === joiner.peerUrl ? joiner.node : name}=${url}`),
    )
    .join(',')
}

/** Addresses of the client listeners of the other members: of the same hosts as their peers'. */
export function otherClients(cluster: string, ownPeerUrl: string): readonly string[] {
  return cluster.split(',').flatMap(pair => {
    const url = pair.slice(pair.indexOf('=') + 1)
    return url === ownPeerUrl || !URL.canParse(url) ? [] : [`${new URL(url).hostname}:2379`]
  })
}

/** A token's id stands beside the member that was added for the same join. */
export function writeTokenId(token: string | undefined, member: string | undefined): string {
  return [
    ...(token === undefined ? [] : [token]),
    ...(member === undefined ? [] : [`member-${member}`]),
  ].join(',')
}

export function readTokenId(text: string): {
  readonly token: string | undefined
  readonly member: string | undefined
} {
  const parts = text.split(',')
  return {
    token: parts.find(part => /^[a-z0-9]{6}$/.test(part)),
    member: parts.find(part => /^member-[0-9a-f]{1,16}$/.test(part))?.slice('member-'.length),
  }
}
