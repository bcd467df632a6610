import { compareVersions, parseVersion, type Version } from '../../../shared/kubernetes/version.ts'
import type { ClusterView } from './rollout-snapshot.ts'

/**
 * Whether a host that an upgrade left behind has still to get its Kubernetes. One that runs it by now, or of which nobody can say what it
 * runs, is not drained for nothing. `wanted` undefined: the revision names no version, so that nobody can tell who has it.
 */
export function needsUpgrade(
  host: string,
  cluster: Pick<ClusterView, 'members'> | undefined,
  wanted: Version | undefined,
): boolean {
  const member = cluster?.members.get(host)
  if (!member || member.joined === undefined) return false
  if (!member.joined || wanted === undefined) return true
  const version = versionOf(member)
  return version !== undefined && compareVersions(version, wanted) !== 0
}

/**
 * Whether a host that no upgrade has ever named follows the newest one of its cluster: it runs an older Kubernetes than that brought, and every
 * other server has that already. An upgrade of a few workers, to see how it does, is for those alone.
 */
export function followsUpgrade(
  host: string,
  cluster: Pick<ClusterView, 'members'> | undefined,
  wanted: Version,
): boolean {
  const own = cluster?.members.get(host)
  const version = own?.joined ? versionOf(own) : undefined
  if (!cluster || version === undefined || compareVersions(version, wanted) >= 0) return false
  const servers = [...cluster.members].filter(
    ([name, { server, joined }]) => server && joined && name !== host,
  )
  return (
    servers.length > 0 &&
    servers.every(([, server]) => {
      const has = versionOf(server)
      return has !== undefined && compareVersions(has, wanted) === 0
    })
  )
}

function versionOf({ version }: { readonly version: string | undefined }): Version | undefined {
  return version === undefined ? undefined : parseVersion(version)
}
