import { isDeepStrictEqual } from 'node:util'
import { type ClusterFacts, isServerRole, parseClusterFacts } from '../drivers/cluster-facts.ts'
import type { System } from '../system/system.ts'
import { runsOtherwise } from './unit-difference.ts'
import { baseOf, settingsOf, type UnitFolderReading } from './unit-folder.ts'

/** What a system says of the Kubernetes in it. */
export type KubernetesPart =
  | { readonly kind: 'facts'; readonly facts: ClusterFacts }
  /** It has none. */
  | { readonly kind: 'none' }
  | { readonly kind: 'unknown'; readonly why: string }

const MAX_BYTES = 256 * 1024

/** Reads the part of a toplevel that is Kubernetes' own. */
export async function readKubernetesPart(system: System, toplevel: string): Promise<KubernetesPart> {
  const path = `${toplevel}/etc/muster/cluster.json`
  const reading = await system.readFile(path, MAX_BYTES)
  if (reading.kind === 'missing') return { kind: 'none' }
  if (reading.kind === 'unreadable') return { kind: 'unknown', why: `${path}: ${reading.code}` }
  if (reading.truncated) return { kind: 'unknown', why: `${path}: longer than ${MAX_BYTES} bytes` }
  const parsed = parseClusterFacts(reading.bytes.toString('utf8'))
  if (parsed.kind === 'facts') return parsed
  return { kind: 'unknown', why: parsed.kind === 'unreadable' ? parsed.reason : `${path}: is empty` }
}

/** What a new system makes of the Kubernetes that runs, which no switch starts, stops or restarts. */
export interface KubernetesChange {
  readonly server: boolean
  /** It lives in a profile of its own, so its version stays. */
  readonly apart: boolean
  /** Versions as the systems say them; undefined: they do not, or Kubernetes lives apart. */
  readonly from: string | undefined
  readonly to: string | undefined
  /** Cluster, distribution, role or container runtime differ, which no restart brings about: "role: server, then worker". */
  readonly becomes: string | undefined
  /** Files that its units read at their start, which are others now. */
  readonly files: readonly string[]
}

interface Side {
  readonly kubernetes: KubernetesPart
  readonly units: UnitFolderReading
}

/**
 * Compares the Kubernetes of two systems; `files` are those of its files that are not the same. undefined: it stays as it is, or the
 * new system has none, which leaves what runs alone. What cannot be compared has changed.
 */
export function kubernetesChange(
  current: Side | undefined,
  target: Side,
  files: readonly string[],
): KubernetesChange | undefined {
  if (target.kubernetes.kind !== 'facts') return undefined
  const { facts } = target.kubernetes
  const before = current?.kubernetes.kind === 'facts' ? current.kubernetes.facts : undefined
  const changed =
    !before ||
    !isDeepStrictEqual(ofUnits(before), ofUnits(facts)) ||
    becomes(before, facts) !== undefined ||
    differs(current, target, facts.units) ||
    files.length > 0
  if (!changed) return undefined
  return {
    server: isServerRole(facts.role),
    apart: facts.life === 'apart',
    from: before && versionOf(before),
    to: versionOf(facts),
    becomes: before && becomes(before, facts),
    files,
  }
}

/** What of the facts the units were started with. The rest is the agent's alone: who the other servers are, and versions. */
function ofUnits(facts: ClusterFacts): Partial<ClusterFacts> {
  const {
    cluster,
    distribution,
    role,
    life,
    endpoint,
    apiPort,
    podCidr,
    serviceCidr,
    nodeAddress,
    nodeName,
    units,
  } = facts
  return {
    cluster,
    distribution,
    role,
    life,
    endpoint,
    apiPort,
    podCidr,
    serviceCidr,
    nodeAddress,
    nodeName,
    units,
  }
}

function differs(current: Side | undefined, target: Side, units: readonly string[]): boolean {
  if (current?.units.kind !== 'folder' || target.units.kind !== 'folder') return true
  const [before, after] = [current.units.folder, target.units.folder]
  return units.some(unit => {
    const old = settingsOf(before, unit, baseOf(before, unit))
    const now = settingsOf(after, unit, baseOf(after, unit))
    return !old || !now || runsOtherwise(old, now)
  })
}

function becomes(before: ClusterFacts, after: ClusterFacts): string | undefined {
  for (const [what, old, now] of [
    ['cluster', before.cluster, after.cluster],
    ['distribution', before.distribution, after.distribution],
    ['role', before.role, after.role],
    ['container runtime', socketOf(before), socketOf(after)],
  ] as const) {
    if (old === now) continue
    // A kubelet that comes or goes changes no runtime.
    if (old === undefined || now === undefined) continue
    // Only taints tell these two apart.
    if (what === 'role' && isServerRole(before.role) && isServerRole(after.role)) continue
    return `${what}: ${old}, then ${now}`
  }
  return undefined
}

/** Pods of the one that goes would run on beside those of the one that comes. */
const socketOf = ({ kubelet }: ClusterFacts): string | undefined =>
  kubelet?.runtime.replace(/^unix:\/\/\/var\/run\//, 'unix:///run/')

/** Of a system that brings Kubernetes along: as it is written, else as the names of its packages say. */
export function versionOf({ life, version, programs }: ClusterFacts): string | undefined {
  if (life === 'apart') return undefined
  if (version !== undefined) return version
  for (const folder of programs) {
    const found =
      /^\/nix\/store\/[0-9a-z]{32}-(?:k3s|k0s|kubernetes|kubelet)[a-z_-]*[_-]v?(\d+\.\d+\.\d+)/.exec(folder)
    if (found) return found[1]
  }
  return undefined
}
