import type { KubernetesTarget, Target } from '../gen/muster/v1/manifest_pb.ts'
import { changedFields, type FieldChange } from './changed-fields.ts'
import { describeSafety } from './describe-safety.ts'

/** What a diff needs to know of a revision. */
export interface RevisionContent {
  readonly targets: readonly Target[]
  /** Cluster name to distribution, from the tree's fleet file; absent where that was not read. */
  readonly distributions?: ReadonlyMap<string, string> | undefined
}

export interface TargetChange {
  readonly kind: 'host' | 'group'
  readonly name: string
  readonly change: 'added' | 'removed' | 'changed'
  readonly fields: readonly FieldChange[]
  /** What the revision does not do by itself, and the command that would. */
  readonly notes: readonly string[]
}

/** What a revision changes for each host and group, sorted by name; those that stay as they are do not appear. */
export function diffRevisions(older: RevisionContent, newer: RevisionContent): TargetChange[] {
  // Distributions that were read on one side only are no change.
  const comparable = older.distributions !== undefined && newer.distributions !== undefined
  const distributionOf = (content: RevisionContent, target: Target) =>
    comparable ? content.distributions?.get(target.cluster) : undefined
  const before = new Map(older.targets.map(target => [keyOf(target), target]))
  const after = new Map(newer.targets.map(target => [keyOf(target), target]))
  return [...new Set([...before.keys(), ...after.keys()])]
    .sort()
    .map(key => {
      const old = before.get(key)
      const next = after.get(key)
      return diffTarget(
        old && { target: old, fields: describe(old, distributionOf(older, old)) },
        next && { target: next, fields: describe(next, distributionOf(newer, next)) },
      )
    })
    .filter(change => change !== undefined)
}

interface Described {
  readonly target: Target
  readonly fields: ReadonlyMap<string, string>
}

function diffTarget(old: Described | undefined, next: Described | undefined): TargetChange | undefined {
  const target = next?.target ?? old?.target
  if (!target) return undefined
  const kind = target.group === '' ? 'host' : 'group'
  const name = target.host || target.group
  const from = old?.fields ?? new Map<string, string>()
  const to = next?.fields ?? new Map<string, string>()
  const fields = changedFields(from, to)
  if (old && next && fields.length === 0) return undefined
  return {
    kind,
    name,
    change: !old ? 'added' : !next ? 'removed' : 'changed',
    fields,
    notes: old ? notesFor(kind, name, old.target, next?.target, fields) : [],
  }
}

/** A revision never destroys: leaving a cluster or a fleet is a command of its own. */
function notesFor(
  kind: 'host' | 'group',
  name: string,
  old: Target,
  next: Target | undefined,
  fields: readonly FieldChange[],
): string[] {
  const command = (verb: string) =>
    kind === 'host' ? `\`muster ${verb} ${name}\`` : `\`muster ${verb} HOST\` for each of its hosts`
  if (!next) return [`${kind} ${name} is dropped but keeps running as it is; ${command('remove')} removes it`]
  if (old.role === 'none' || old.cluster === '') return []
  const has = (names: ReadonlySet<string>) =>
    fields.map(({ field }) => field).filter(field => names.has(field))
  const moved = has(KUBERNETES_FIELDS)
  const notes =
    moved.length === 0
      ? []
      : [
          `${kind} ${name} changes its ${moved.join(', ')} but stays in its cluster as it is; ${command('leave')} takes it out first`,
        ]
  const { kubernetes, cluster } = next
  return kubernetes?.apart && old.kubernetes && has(VERSION_FIELDS).length > 0
    ? [
        ...notes,
        `Kubernetes of ${kind} ${name} lives apart, and no apply moves it; \`muster cluster upgrade ${cluster} ${kubernetes.version || 'VERSION'}\` does`,
      ]
    : notes
}

const VERSION_FIELDS: ReadonlySet<string> = new Set(['kubernetes version', 'kubernetes store path'])
const KUBERNETES_FIELDS: ReadonlySet<string> = new Set(['cluster', 'role', 'distribution'])

/** The parts of a target as texts by which people know them; parts that are not there are left out. */
function describe(target: Target, distribution: string | undefined): Map<string, string> {
  const { binding, way } = target
  const parts: (readonly [string, string | undefined])[] = [
    ['cluster', target.cluster],
    ['role', target.role],
    ['distribution', distribution],
    ['system', target.system],
    ['way', way.case],
    ['binding machine', binding?.machine],
    ['binding serial', binding?.serial],
    ['binding uuid', binding?.uuid],
    ['binding mac', binding?.mac],
    ['binding disk serial', binding?.diskSerial],
    ['rule', binding?.rule],
    ['name template', binding?.nameTemplate],
  ]
  if (way.case === 'source') {
    parts.push(['attribute', way.value.attribute])
    if (way.value.leastMemoryBytes > 0n)
      parts.push(['least memory bytes', String(way.value.leastMemoryBytes)])
  }
  if (way.case === 'closure') {
    parts.push(
      ['store path', way.value.storePath],
      ['closure digest', way.value.closureDigest],
      ['substituters', way.value.substituters.join(' ')],
      ['public keys', way.value.publicKeys.join(' ')],
    )
  }
  parts.push(...describeKubernetes(target.kubernetes), ...describeSafety(target.safety))
  const fields = new Map<string, string>()
  for (const [field, value] of parts) if (value) fields.set(field, value)
  for (const [key, value] of Object.entries(target.labels)) fields.set(`label ${key}`, value)
  return fields
}

function describeKubernetes(kubernetes: KubernetesTarget | undefined): [string, string | undefined][] {
  if (!kubernetes) return []
  const { version, apart, way, externalSystem } = kubernetes
  const { storePath, closureDigest } = way.case === 'closure' ? way.value : {}
  return [
    ['kubernetes version', version],
    ['kubernetes life', apart ? 'apart' : 'with-system'],
    ['kubernetes system', externalSystem ? 'external' : ''],
    ['kubernetes way', way.case],
    ['kubernetes attribute', way.case === 'source' ? way.value.attribute : ''],
    ['kubernetes store path', storePath],
    ['kubernetes closure digest', closureDigest],
  ]
}

function keyOf(target: Target): string {
  return target.group === '' ? `host ${target.host}` : `group ${target.group}`
}
