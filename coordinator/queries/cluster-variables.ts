import type { CelInput } from '@bufbuild/cel'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import { type ClusterSnapshot, freshObservation, newestView } from '../clusters/cluster-snapshot.ts'

/** Where the state of Kubernetes is read from. */
export interface ClusterReader {
  /** Names of the clusters of the newest revision. */
  names(): readonly string[]
  /** All that is known of one now; undefined: it is none any more. */
  snapshot(name: string): Promise<ClusterSnapshot | undefined>
}

/** `cluster` for each machine of a cluster; for the others it is NO_CLUSTER. */
export async function clusterVariables(
  reader: ClusterReader,
  nowMs: number,
): Promise<ReadonlyMap<string, CelInput>> {
  const found = new Map<string, CelInput>()
  for (const name of reader.names()) {
    const snapshot = await reader.snapshot(name)
    for (const { machine, host, role } of snapshot?.hosts ?? []) {
      if (snapshot === undefined || machine === undefined) continue
      found.set(machine, describeMember(snapshot, { name, machine, host, role }, nowMs))
    }
  }
  return found
}

export const NO_CLUSTER: CelInput = new Map([['name', '']])

/** What a machine has on its disk is as old as `asOf`; what servers see of it is there only while a server answers. */
function describeMember(
  snapshot: ClusterSnapshot,
  member: { readonly name: string; readonly machine: string; readonly host: string; readonly role: string },
  nowMs: number,
): CelInput {
  const { name, machine, host, role } = member
  const fields = new Map<string, CelInput>([
    ['name', name],
    ['role', role],
    ['distribution', snapshot.distribution],
  ])
  const observation = snapshot.machines.get(machine)?.observation
  if (observation) {
    fields.set('asOf', timestampFromMs(observation.asOfMs))
    fields.set('part', observation.part)
    fields.set('data', observation.data.kind)
    if (observation.version !== undefined) fields.set('version', observation.version)
  }
  const seen = freshObservation(snapshot, machine, nowMs)
  if (seen?.view) fields.set('serverReady', seen.view.ready)
  const view = newestView(snapshot, nowMs)
  if (view.kind === 'unknown') return fields
  const node = view.view.nodes.find(one => one.name === host && one.uid !== '')
  fields.set('nodeReady', node?.ready === true)
  if (node) fields.set('nodeVersion', node.version)
  const datastore = view.view.members.find(one => one.name === host)
  if (role !== 'worker') fields.set('voter', datastore !== undefined && !datastore.learner)
  return fields
}
