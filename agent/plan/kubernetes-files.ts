import type { ClusterFacts } from '../drivers/cluster-facts.ts'
import type { System } from '../system/system.ts'
import type { KubernetesPart } from './kubernetes-change.ts'

const MAX_BYTES = 256 * 1024

interface Side {
  readonly path: string
  readonly kubernetes: KubernetesPart
}

/**
 * Of the files below /etc that Kubernetes reads at its start, those that two systems do not have alike. Units name them by paths that
 * stay, so no unit tells. All that either system names is compared; what cannot be compared is not alike.
 */
export async function changedKubernetesFiles(
  system: System,
  current: Side | undefined,
  target: Side,
): Promise<readonly string[]> {
  if (current === undefined) return []
  return await changedAmong(system, current, target, ({ files }) => files)
}

/** The same of the files that the container runtime reads. */
export async function changedRuntimeFiles(
  system: System,
  current: Side | undefined,
  target: Side,
): Promise<readonly string[]> {
  if (current === undefined) return []
  return await changedAmong(system, current, target, ({ runtime }) => runtime?.files ?? [])
}

async function changedAmong(
  system: System,
  current: Side,
  target: Side,
  namesIn: (facts: ClusterFacts) => readonly string[],
): Promise<readonly string[]> {
  const names = [current, target].flatMap(({ kubernetes }) =>
    kubernetes.kind === 'facts' ? namesIn(kubernetes.facts) : [],
  )
  const changed: string[] = []
  for (const path of new Set(names)) {
    if (!(await isAlike(system, current.path + path, target.path + path))) changed.push(path)
  }
  return changed.sort()
}

async function isAlike(system: System, one: string, other: string): Promise<boolean> {
  const links = await Promise.all([system.readLink(one), system.readLink(other)])
  const [a, b] = links.map(link => (link.kind === 'link' ? link.target : undefined))
  // The same path of the store; it may be a folder.
  if (a?.startsWith('/') && a === b) return true
  const [before, after] = await Promise.all([
    system.readFile(one, MAX_BYTES),
    system.readFile(other, MAX_BYTES),
  ])
  if (before.kind === 'missing' && after.kind === 'missing') return true
  if (before.kind !== 'file' || after.kind !== 'file') return false
  return !before.truncated && !after.truncated && before.bytes.equals(after.bytes)
}
