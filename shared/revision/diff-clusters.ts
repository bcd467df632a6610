import type { Cluster, JobGateSettings } from '../fleet-file/fleet.ts'
import { changedFields, type FieldChange } from './changed-fields.ts'

export interface ClusterChange {
  readonly kind: 'cluster'
  readonly name: string
  readonly change: 'added' | 'removed' | 'changed'
  readonly fields: readonly FieldChange[]
  /** What the revision does not do by itself. */
  readonly notes: readonly string[]
}

/**
 * What changes of clusters themselves, sorted by name; those that stay as they are do not appear. Which hosts are in them is told with the
 * hosts.
 */
export function diffClusters(older: readonly Cluster[], newer: readonly Cluster[]): ClusterChange[] {
  const before = new Map(older.map(cluster => [cluster.name, cluster]))
  const after = new Map(newer.map(cluster => [cluster.name, cluster]))
  return [...new Set([...before.keys(), ...after.keys()])].sort().flatMap(name => {
    const [old, next] = [before.get(name), after.get(name)]
    const fields = changedFields(describe(old), describe(next))
    if (old && next && fields.length === 0) return []
    const change = !old ? ('added' as const) : !next ? ('removed' as const) : ('changed' as const)
    return [
      {
        kind: 'cluster' as const,
        name,
        change,
        fields,
        notes: change === 'changed' ? notesFor(name, fields) : [],
      },
    ]
  })
}

/** What is written into a datastore when it is founded stays as it was founded. */
const FOUNDED_WITH: ReadonlySet<string> = new Set(['pod network', 'service network'])

function notesFor(name: string, fields: readonly FieldChange[]): string[] {
  const fixed = fields.map(({ field }) => field).filter(field => FOUNDED_WITH.has(field))
  return fixed.length === 0
    ? []
    : [`cluster ${name} changes its ${fixed.join(', ')}, which a cluster keeps as it was founded with`]
}

/** The parts of a cluster as texts by which people know them; parts that are not there are left out. */
function describe(cluster: Cluster | undefined): ReadonlyMap<string, string> {
  if (!cluster) return new Map()
  const parts: (readonly [string, string | undefined])[] = [
    ['distribution', cluster.distribution],
    ['version', cluster.version],
    ['life', cluster.life],
    ['endpoint', cluster.endpoint],
    ['endpoint keeper', cluster.endpoint === undefined ? undefined : cluster.endpointKeeper],
    ['node interface', cluster.nodeInterface],
    ['pod network', cluster.podCidr],
    ['service network', cluster.serviceCidr],
    ['after', cluster.after.join(' ')],
    ...cluster.gates.map(gate => [`gate ${gate.name}`, describeGate(gate)] as const),
  ]
  return new Map(parts.flatMap(([field, text]) => (text ? [[field, text] as const] : [])))
}

function describeGate({ path, deadlineMs }: JobGateSettings): string {
  return `job ${path}${deadlineMs === undefined ? '' : `, deadline ${deadlineMs / 1_000} s`}`
}
