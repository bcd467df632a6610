import { isObject, type JsonObject, listAt, readObject, textAt } from '../../../shared/read-value.ts'

/** Objects of the fleet directory that the cluster is to have. */
export interface ManifestSet {
  /** Names the set within the cluster: what another set brought is never touched. Letters, digits and hyphens. */
  readonly name: string
  readonly objects: readonly JsonObject[]
  /** Without it an empty set is refused, since it would take away everything. */
  readonly allowEmpty: boolean
}

export interface PruneEnd {
  readonly applied: number
  readonly pruned: readonly string[]
  /** What is no longer in the set and stays all the same, with the reason. */
  readonly kept: readonly string[]
}

/** On every object of ours; its value is the set's name. */
export const SET_LABEL = 'muster/manifests'
export const FIELD_MANAGER = 'muster'
export const MAX_OBJECTS = 2_000

/** What was brought in, as the cluster remembers it for us. */
export interface InventoryEntry {
  readonly apiVersion: string
  readonly kind: string
  /** "": the object belongs to no namespace. */
  readonly namespace: string
  readonly name: string
  /** undefined: it was about to be made. */
  readonly uid: string | undefined
}

/** One object whatever its version is called: group, kind, namespace and name. */
export function identityOf({ apiVersion, kind, namespace, name }: Omit<InventoryEntry, 'uid'>): string {
  const group = apiVersion.includes('/') ? apiVersion.slice(0, apiVersion.indexOf('/')) : ''
  return [group, kind, namespace, name].join('/')
}

/** Kinds that others live in: taking one away takes what is not ours, and volumes with it. */
const NEVER_PRUNED: ReadonlyMap<string, string> = new Map([
  ['/Namespace', 'a namespace is never deleted, since everything in it would go too'],
  [
    'apiextensions.k8s.io/CustomResourceDefinition',
    'a definition is never deleted, since every object of its kind would go too',
  ],
])

/** Kinds that come before the others, which may live in them or be of them. */
export const comesFirst = (object: Pick<InventoryEntry, 'apiVersion' | 'kind'>): boolean =>
  whyNeverPruned(object) !== undefined

export function whyNeverPruned({
  apiVersion,
  kind,
}: Pick<InventoryEntry, 'apiVersion' | 'kind'>): string | undefined {
  const group = apiVersion.includes('/') ? apiVersion.slice(0, apiVersion.indexOf('/')) : ''
  return NEVER_PRUNED.get(`${group}/${kind}`)
}

export type PruneStep =
  | { readonly kind: 'delete'; readonly uid: string }
  | { readonly kind: 'keep'; readonly reason: string }
  /** There is nothing to delete. */
  | { readonly kind: 'forget' }

/**
 * What happens to an object that the set no longer has. It is deleted only as the very object that was brought in: the same
 * uid, still with our label. One that was made anew by somebody else, or taken over by taking our label off, is theirs.
 */
export function judgePrune(entry: InventoryEntry, live: JsonObject | undefined, set: string): PruneStep {
  const never = whyNeverPruned(entry)
  if (never !== undefined) return live ? { kind: 'keep', reason: never } : { kind: 'forget' }
  if (!live) return { kind: 'forget' }
  const uid = textAt(live, 'metadata', 'uid')
  if (uid === undefined) return { kind: 'keep', reason: 'the API server shows no uid of it' }
  if (entry.uid !== undefined && entry.uid !== uid)
    return { kind: 'keep', reason: 'somebody made it anew: it is another object' }
  if (textAt(live, 'metadata', 'labels', SET_LABEL) !== set)
    return { kind: 'keep', reason: `it has no label ${SET_LABEL}=${set}` }
  return textAt(live, 'metadata', 'deletionTimestamp') === undefined
    ? { kind: 'delete', uid }
    : { kind: 'forget' }
}

/** What the set no longer has, in an order in which what depends goes first. */
export function orphansOf(
  before: readonly InventoryEntry[],
  wanted: readonly Omit<InventoryEntry, 'uid'>[],
): readonly InventoryEntry[] {
  const kept = new Set(wanted.map(identityOf))
  return before.filter(entry => !kept.has(identityOf(entry))).toReversed()
}

/** Both lists as one; what the second knows of an object counts. */
export function joinInventories(
  before: readonly InventoryEntry[],
  after: readonly InventoryEntry[],
): readonly InventoryEntry[] {
  const joined = new Map(before.map(entry => [identityOf(entry), entry]))
  for (const entry of after) {
    const known = joined.get(identityOf(entry))
    joined.set(identityOf(entry), { ...entry, uid: entry.uid ?? known?.uid })
  }
  return [...joined.values()]
}

export function writeInventory(entries: readonly InventoryEntry[]): string {
  return JSON.stringify(
    entries.map(({ apiVersion, kind, namespace, name, uid }) => ({ apiVersion, kind, namespace, name, uid })),
  )
}

/** undefined: it is damaged, so that nobody knows what is ours: nothing is pruned then. */
export function readInventory(text: string): readonly InventoryEntry[] | undefined {
  const items = listAt(readObject(`{"items":${text}}`), 'items')
  if (!items || items.length > 2 * MAX_OBJECTS) return undefined
  const entries = items.flatMap(item => readEntry(item) ?? [])
  return entries.length === items.length ? entries : undefined
}

/** An object of the API server as an entry. */
export function entryOfObject(object: JsonObject): InventoryEntry | undefined {
  return readEntry({
    apiVersion: object.apiVersion,
    kind: object.kind,
    namespace: textAt(object, 'metadata', 'namespace') ?? '',
    name: textAt(object, 'metadata', 'name'),
    uid: textAt(object, 'metadata', 'uid'),
  })
}

function readEntry(value: unknown): InventoryEntry | undefined {
  if (!isObject(value)) return undefined
  const [apiVersion, kind, namespace, name] = ['apiVersion', 'kind', 'namespace', 'name'].map(key =>
    textAt(value, key),
  )
  if (apiVersion === undefined || kind === undefined || namespace === undefined || name === undefined)
    return undefined
  // These become part of a path.
  if (!/^([a-z0-9.-]+\/)?v[a-z0-9]+$/.test(apiVersion) || !/^[A-Za-z]+$/.test(kind) || name === '')
    return undefined
  return { apiVersion, kind, namespace, name, uid: textAt(value, 'uid') }
}

/** The object with our label on it. */
export function labelled(object: JsonObject, set: string): JsonObject {
  const metadata = isObject(object.metadata) ? object.metadata : {}
  const labels = isObject(metadata.labels) ? metadata.labels : {}
  return { ...object, metadata: { ...metadata, labels: { ...labels, [SET_LABEL]: set } } }
}
