import type { Running, SkewProblem } from './judge-skew.ts'
import { compareVersions, type Version, versionText } from './version.ts'

/**
 * etcd 3.6 is reached from 3.5.26 or newer alone: only that brings members that were taken out into the one of its two lists which
 * 3.6 believes. From an older one they come back, and the datastore has no majority. k3s brings its etcd along: 3.6 since 1.34.0,
 * 3.5.26 in 1.33 since 1.33.8. What the other distributions run cannot be told by their version.
 */
const FIRST_WITH_3_6: Version = { major: 1, minor: 34, patch: 0 }
const FIRST_READY: Version = { major: 1, minor: 33, patch: 8 }

/** What stands in the way of a version for the datastores of these servers. Empty: nothing that versions tell. */
export function judgeDatastore(
  distribution: string,
  servers: readonly Running[],
  to: Version,
): SkewProblem[] {
  if (distribution !== 'k3s' || compareVersions(to, FIRST_WITH_3_6) < 0) return []
  return servers
    .filter(({ version }) => compareVersions(version, FIRST_READY) < 0)
    .map(({ host, version }) => ({
      rule: 'old-datastore',
      host,
      reason: `${host} runs ${versionText(version)}, whose etcd must not be followed by the one of ${versionText(to)} (3.6): go to ${versionText(FIRST_READY)} or a later 1.33 before`,
    }))
}
