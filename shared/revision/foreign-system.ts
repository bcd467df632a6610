import type { Target } from '../gen/muster/v1/manifest_pb.ts'

/** Whether a host's system is somebody else's: its target has no way to one, at most its Kubernetes is the fleet's. */
export function hasForeignSystem({ way }: Pick<Target, 'way'>): boolean {
  return way.case === undefined
}

/** Why such a host is given no system, and what moves instead. `cluster`: the one whose Kubernetes it has; empty: none. */
export function whyNoSystem(host: string, cluster: string): string {
  const cure = cluster === '' ? '' : `; \`muster cluster upgrade ${cluster}\` moves its Kubernetes`
  return `no system can be installed on ${host}, it is somebody else's${cure}`
}
