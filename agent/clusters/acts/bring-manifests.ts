import { lstat, readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { hasCode } from '../../../shared/errors.ts'
import { linkProblem, manifestsFolder } from '../../../shared/tree/manifests-folder.ts'
import { type ActContext, type ActEnd, type ActFailure, doneWith, failedAct, fromDriver } from './act.ts'

const MAX_FILES = 2_000
const MAX_BYTES = 16 * 1024 * 1024
const MAX_DEPTH = 8

/** Brings what a signed revision's tree holds for the cluster, and prunes what it held before. */
export async function bringManifests(context: ActContext<'manifests'>): Promise<ActEnd> {
  const { deps, driver, order, options, action } = context
  const { revision, manifestDigest, allowEmpty } = action.value
  const signal = options.signal ?? new AbortController().signal
  const reading = await deps.manifests.find(revision, manifestDigest, signal)
  if (reading.kind === 'unknown') return failedAct('manifest', reading.reason)
  const { manifest } = reading
  if (!manifest.clusters.has(order.cluster))
    return failedAct('manifest', `revision ${manifest.number} names no cluster ${order.cluster}`)
  await context.begin()
  const { treeDigest, treeLength } = manifest.manifest
  const tree = await deps.fetchTree(
    { number: manifest.number, treeDigest, treeLength: Number(treeLength) },
    signal,
  )
  if (tree.kind === 'failed') return tree
  const files = await readTree(tree.folder, manifestsFolder(order.cluster))
  if ('kind' in files) return files
  // Loaded when it is needed: an agent that is idle holds no reader of YAML.
  const { readManifests } = await import('../../drivers/kubernetes/read-manifests.ts')
  const objects = readManifests(files)
  if (objects.kind === 'failed') return fromDriver(objects)
  const set = { name: order.cluster.slice(0, 40).replace(/-+$/, ''), objects: objects.value, allowEmpty }
  const applied = await driver.cluster.applyManifests(set, signal)
  if (applied.kind === 'failed') return fromDriver(applied)
  const { applied: count, pruned, kept } = applied.value
  const parts = [
    `applied ${count}`,
    ...(pruned.length === 0 ? [] : [`pruned ${pruned.length}: ${pruned.join(', ')}`]),
    ...(kept.length === 0 ? [] : [`kept ${kept.length}: ${kept.join(', ')}`]),
  ]
  return doneWith(parts.join('; '))
}

/**
 * The files below a folder of the tree, by their paths in it, in their order. No folder is no files. A link is refused, wherever in the path
 * it is: it may lead out of what was signed, and to pass it by would prune what it stands for.
 */
async function readTree(tree: string, root: string): Promise<ReadonlyMap<string, string> | ActFailure> {
  const behind = await linkOnTheWay(tree, root)
  if (behind !== undefined) return failedAct('precondition', linkProblem(behind))
  const files = new Map<string, string>()
  let bytes = 0
  const walk = async (folder: string, prefix: string, depth: number): Promise<ActFailure | undefined> => {
    for (const entry of await listed(folder)) {
      const path = join(folder, entry.name)
      const name = `${prefix}${entry.name}`
      if (entry.isSymbolicLink()) return failedAct('precondition', linkProblem(`${root}/${name}`))
      if (entry.isDirectory()) {
        if (depth >= MAX_DEPTH)
          return failedAct('precondition', `manifests: ${name}: deeper than ${MAX_DEPTH} folders`)
        const problem = await walk(path, `${name}/`, depth + 1)
        if (problem) return problem
      } else if (entry.isFile() && /\.(ya?ml|json)$/.test(entry.name)) {
        bytes += (await stat(path)).size
        if (files.size >= MAX_FILES || bytes > MAX_BYTES)
          return failedAct('precondition', `manifests: more than ${MAX_FILES} files or ${MAX_BYTES} bytes`)
        files.set(name, await readFile(path, 'utf8'))
      }
    }
    return undefined
  }
  return (await walk(join(tree, root), '', 1)) ?? files
}

async function linkOnTheWay(tree: string, root: string): Promise<string | undefined> {
  const parts = root.split('/')
  for (const [at] of parts.entries()) {
    const path = parts.slice(0, at + 1).join('/')
    try {
      if ((await lstat(join(tree, path))).isSymbolicLink()) return path
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return undefined
      throw error
    }
  }
  return undefined
}

async function listed(folder: string) {
  try {
    return (await readdir(folder, { withFileTypes: true })).sort((a, b) => (a.name < b.name ? -1 : 1))
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return []
    throw error
  }
}
