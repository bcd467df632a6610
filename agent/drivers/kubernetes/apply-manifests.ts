import { pause } from '../../../shared/lifecycle.ts'
import { at, isObject, type JsonObject, listAt, textAt } from '../../../shared/read-value.ts'
import { done, failed, type Result } from '../result.ts'
import { isNotFound, type Kubectl, type KubeResult } from './kubectl.ts'
import {
  comesFirst,
  entryOfObject,
  FIELD_MANAGER,
  type InventoryEntry,
  joinInventories,
  judgePrune,
  labelled,
  MAX_OBJECTS,
  type ManifestSet,
  orphansOf,
  type PruneEnd,
  readInventory,
  writeInventory,
} from './manifests.ts'

const NAMESPACE = 'kube-system'
/** A definition that was just applied is served a moment later. */
const KINDS_MS = 15_000

/**
 * Makes the cluster have the objects of a set, and takes away what the set no longer has. What is about to be made is
 * remembered in the cluster first, so that whatever is killed here nothing of ours is forgotten.
 */
export async function applyManifests(
  kubectl: Kubectl,
  set: ManifestSet,
  signal?: AbortSignal,
): Promise<Result<PruneEnd>> {
  const problem = whyBadSet(set)
  if (problem !== undefined) return failed('precondition', problem)
  const inventory = await readRemembered(kubectl, set.name, signal)
  if (inventory.kind === 'failed') return inventory
  const objects = set.objects.map(object => labelled(object, set.name))
  const first = await kubectl.apply(objects.filter(isFirst), FIELD_MANAGER, signal)
  if (first.kind === 'failed') return first
  const rest = objects.filter(object => !isFirst(object))
  const kinds = await findKinds(kubectl, rest, signal)
  if (kinds.kind === 'failed') return kinds
  const intended = rest.flatMap(object => intendedEntry(object, kinds.value) ?? [])
  if (intended.length < rest.length)
    return failed('unreadable', `manifests ${set.name}: an object has no name or kind`)
  const firstEntries = first.value.flatMap(object => entryOfObject(object) ?? [])
  const before = inventory.value
  const remembered = await remember(
    kubectl,
    set.name,
    joinInventories(before, [...firstEntries, ...intended]),
    signal,
  )
  if (remembered.kind === 'failed') return remembered
  const applied = await kubectl.apply(rest, FIELD_MANAGER, signal)
  if (applied.kind === 'failed') return applied
  const now = [...firstEntries, ...applied.value.flatMap(object => entryOfObject(object) ?? [])]
  const pruned: string[] = []
  const kept: string[] = []
  const left: InventoryEntry[] = []
  for (const entry of orphansOf(before, [...now, ...intended])) {
    const end = await prune(kubectl, entry, set.name, signal)
    if (end.kind === 'failed') return end
    const shown = `${entry.kind} ${entry.namespace === '' ? '' : `${entry.namespace}/`}${entry.name}`
    if (end.value === 'deleted') pruned.push(shown)
    else if (end.value !== 'gone') {
      kept.push(`${shown}: ${end.value.reason}`)
      left.push(entry)
    }
  }
  const settled = await remember(kubectl, set.name, joinInventories(left, now), signal)
  return settled.kind === 'failed' ? settled : done({ applied: now.length, pruned, kept })
}

const isFirst = (object: JsonObject): boolean =>
  comesFirst({ apiVersion: textAt(object, 'apiVersion') ?? '', kind: textAt(object, 'kind') ?? '' })

function whyBadSet({ name, objects, allowEmpty }: ManifestSet): string | undefined {
  if (!/^[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?$/.test(name)) return `manifests: ${name}: is no name for a set`
  if (objects.length === 0 && !allowEmpty) {
    return `manifests ${name}: the set is empty, which would take away everything it brought; where that is meant: muster cluster manifests CLUSTER --allow-empty`
  }
  if (objects.length > MAX_OBJECTS)
    return `manifests ${name}: ${objects.length} objects, at most ${MAX_OBJECTS} are taken`
  const bad = objects.find(
    object => textAt(object, 'metadata', 'name') === undefined || textAt(object, 'kind') === undefined,
  )
  return bad === undefined ? undefined : `manifests ${name}: an object without kind or metadata.name`
}

const mapName = (set: string): string => `muster-manifests-${set}`

async function readRemembered(
  kubectl: Kubectl,
  set: string,
  signal: AbortSignal | undefined,
): Promise<Result<readonly InventoryEntry[]>> {
  const map = await kubectl.get(`/api/v1/namespaces/${NAMESPACE}/configmaps/${mapName(set)}`, signal)
  if (isNotFound(map)) return done([])
  if (map.kind === 'failed') return map
  const entries = readInventory(textAt(map.value, 'data', 'objects') ?? '')
  return entries
    ? done(entries)
    : failed(
        'unreadable',
        `config map ${NAMESPACE}/${mapName(set)}: is damaged; nobody knows what the set brought`,
      )
}

async function remember(
  kubectl: Kubectl,
  set: string,
  entries: readonly InventoryEntry[],
  signal: AbortSignal | undefined,
): Promise<KubeResult<unknown>> {
  const map = {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: mapName(set), namespace: NAMESPACE },
    data: { objects: writeInventory(entries) },
  }
  return await kubectl.apply([map], FIELD_MANAGER, signal)
}

interface Kind {
  readonly plural: string
  readonly namespaced: boolean
}

/** Of every version of an API that objects are of: its kinds. */
type Kinds = ReadonlyMap<string, ReadonlyMap<string, Kind>>

async function findKinds(
  kubectl: Kubectl,
  objects: readonly JsonObject[],
  signal: AbortSignal | undefined,
): Promise<Result<Kinds>> {
  const until = performance.now() + KINDS_MS
  for (;;) {
    const kinds = new Map<string, ReadonlyMap<string, Kind>>()
    for (const version of new Set(objects.map(object => textAt(object, 'apiVersion') ?? ''))) {
      const found = await readKinds(kubectl, version, signal)
      if (found.kind === 'failed') return found
      kinds.set(version, found.value)
    }
    const unknown = objects.find(object => !kindOf(object, kinds))
    if (!unknown) return done(kinds)
    if (performance.now() >= until || signal?.aborted) {
      const shown = `${textAt(unknown, 'apiVersion') ?? ''} ${textAt(unknown, 'kind') ?? ''}`
      return failed(
        'precondition',
        `the cluster knows no ${shown}: bring its definition along, or install what brings it`,
      )
    }
    await pause(1_000, signal)
  }
}

const apiPath = (version: string): string => (version.includes('/') ? `/apis/${version}` : `/api/${version}`)

async function readKinds(
  kubectl: Kubectl,
  version: string,
  signal: AbortSignal | undefined,
): Promise<Result<ReadonlyMap<string, Kind>>> {
  if (!/^([a-z0-9.-]+\/)?v[a-z0-9]+$/.test(version)) return done(new Map())
  const answer = await kubectl.get(apiPath(version), signal)
  if (isNotFound(answer)) return done(new Map())
  if (answer.kind === 'failed') return answer
  const kinds = new Map<string, Kind>()
  for (const each of (listAt(answer.value, 'resources') ?? []).filter(isObject)) {
    const [plural, kind] = [textAt(each, 'name'), textAt(each, 'kind')]
    // With a slash it is a part of another one, such as pods/eviction.
    if (plural === undefined || kind === undefined || plural.includes('/')) continue
    kinds.set(kind, { plural, namespaced: at(each, 'namespaced') === true })
  }
  return done(kinds)
}

const kindOf = (object: JsonObject, kinds: Kinds): Kind | undefined =>
  kinds.get(textAt(object, 'apiVersion') ?? '')?.get(textAt(object, 'kind') ?? '')

/** The object as it will be remembered; kubectl puts what names no namespace into "default". */
function intendedEntry(object: JsonObject, kinds: Kinds): InventoryEntry | undefined {
  const entry = entryOfObject(object)
  if (!entry) return undefined
  const namespaced = kindOf(object, kinds)?.namespaced === true
  return { ...entry, uid: undefined, namespace: namespaced ? entry.namespace || 'default' : '' }
}

async function prune(
  kubectl: Kubectl,
  entry: InventoryEntry,
  set: string,
  signal: AbortSignal | undefined,
): Promise<Result<'deleted' | 'gone' | { readonly reason: string }>> {
  const kinds = await readKinds(kubectl, entry.apiVersion, signal)
  if (kinds.kind === 'failed') return kinds
  const kind = kinds.value.get(entry.kind)
  // With its kind every object of it went.
  if (!kind) return done('gone')
  const namespace = entry.namespace === '' ? '' : `/namespaces/${encodeURIComponent(entry.namespace)}`
  const path = `${apiPath(entry.apiVersion)}${namespace}/${kind.plural}/${encodeURIComponent(entry.name)}`
  const live = await kubectl.get(path, signal)
  if (live.kind === 'failed' && !isNotFound(live)) return live
  const step = judgePrune(entry, live.kind === 'done' ? live.value : undefined, set)
  if (step.kind === 'keep') return done({ reason: step.reason })
  if (step.kind === 'forget') return done('gone')
  const removed = await kubectl.remove(path, step.uid, signal)
  return removed.kind === 'failed' && !isNotFound(removed) ? removed : done('deleted')
}
