import { lstat, mkdir, readdir, readlink, realpath, rename, rm, symlink } from 'node:fs/promises'
import { basename, dirname, join, relative } from 'node:path'
import { hasCode, reasonOf } from '../../shared/errors.ts'
import { describeEnding, type System, succeeded } from '../system/system.ts'

const RELOAD_MS = 60_000
const MOST_FILES = 500
const UNITS = 'systemd/system'
const WANTS = `${UNITS}/multi-user.target.wants`
/** NixOS starts these at a boot by links of its own; the package holds the units alone. */
const AT_BOOT = ['muster-cluster-secrets.service', 'muster-kubernetes.service']

interface Links {
  readonly root: string
  readonly profile: string
  readonly storePath: string
  readonly say: (line: string) => void
}

/**
 * Links what a package brings in `etc` into the machine's own /etc, through the profile: so a later version is there with the
 * profile's move. INVARIANTS: nothing that somebody else put there is replaced; links of ours that lead to nothing any more
 * are taken away; done twice it changes nothing. A package without `etc` changes nothing. Says what is in the way.
 */
export async function linkExternalFiles(
  system: System,
  { root, profile, storePath, say }: Links,
): Promise<string | undefined> {
  const etc = join(root, 'etc')
  try {
    const files = await filesBelow(join(storePath, 'etc'))
    if (files === undefined) return undefined
    if (files.length > MOST_FILES) return `${storePath}/etc holds more than ${MOST_FILES} files`
    const wanted = new Map(files.map(name => [join(etc, name), join(profile, 'etc', name)]))
    for (const unit of AT_BOOT) {
      if (!files.includes(join(UNITS, unit))) continue
      const path = join(etc, WANTS, unit)
      wanted.set(path, join(profile, 'etc', UNITS, unit))
    }
    const taken = await firstTaken(wanted, profile)
    if (taken !== undefined) {
      return `${taken} is there and not Muster's; move it away, for Kubernetes brings a file of this name`
    }
    const stored = await firstInStore([...wanted.keys()], join(root, 'nix/store'))
    if (stored !== undefined) {
      return `${stored} is part of a system of NixOS, and nothing can be added to it: make this host one whose system is the fleet's (no os = "external")`
    }
    let changed = false
    for (const [path, target] of wanted) {
      if ((await linkAt(path)) === target) continue
      await mkdir(dirname(path), { recursive: true })
      const temporary = `${path}.muster-new`
      await rm(temporary, { force: true })
      await symlink(target, temporary)
      await rename(temporary, path)
      changed = true
    }
    changed = (await removeStale(etc, profile, wanted)) || changed
    if (changed) say(`${wanted.size} files of Kubernetes are linked into ${etc}`)
  } catch (error) {
    return `the files of Kubernetes could not be linked into ${etc}: ${reasonOf(error)}`
  }
  // Also when a cut kept an earlier one from it: the profile's move alone changes units.
  const reloaded = await system.run('systemctl', ['daemon-reload'], { deadlineMs: RELOAD_MS })
  return succeeded(reloaded.ending) ? undefined : describeEnding('systemctl daemon-reload', reloaded.ending)
}

/** Paths of all files below a folder, relative to it; undefined: there is no such folder. */
async function filesBelow(folder: string): Promise<readonly string[] | undefined> {
  try {
    const entries = await readdir(folder, { recursive: true, withFileTypes: true })
    // A package of links: what they lead to may be a folder, which is then linked as a whole.
    return entries
      .filter(entry => !entry.isDirectory())
      .map(entry => relative(folder, join(entry.parentPath ?? entry.path, entry.name)))
      .sort()
  } catch (error) {
    if (hasCode(error, 'ENOENT') || hasCode(error, 'ENOTDIR')) return undefined
    throw error
  }
}

async function firstTaken(wanted: ReadonlyMap<string, string>, profile: string): Promise<string | undefined> {
  for (const path of wanted.keys()) {
    const link = await linkAt(path)
    if (link === 'other' || (link !== undefined && !link.startsWith(`${profile}/`))) return path
  }
  return undefined
}

/** A folder of these files that leads into the store: on NixOS that of units does. Even where it could be written to, it is not ours. */
async function firstInStore(paths: readonly string[], store: string): Promise<string | undefined> {
  const real = await realpathOf(store)
  for (const folder of new Set(paths.map(path => dirname(path)))) {
    if ((await realpathOf(folder)).startsWith(`${real}/`)) return folder
  }
  return undefined
}

/** Of what is not there yet, that of the folder in which it would be made. */
async function realpathOf(path: string): Promise<string> {
  try {
    return await realpath(path)
  } catch (error) {
    if (!hasCode(error, 'ENOENT') || dirname(path) === path) throw error
    return join(await realpathOf(dirname(path)), basename(path))
  }
}

/** Where a link leads; "other": it is no link; undefined: there is nothing. */
async function linkAt(path: string): Promise<string | undefined> {
  try {
    return (await lstat(path)).isSymbolicLink() ? await readlink(path) : 'other'
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined
    throw error
  }
}

async function namesIn(folder: string): Promise<readonly string[]> {
  try {
    return await readdir(folder)
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return []
    throw error
  }
}

/** Links of an earlier package, which this one does not bring: of the folders that it may have put them into. */
async function removeStale(
  etc: string,
  profile: string,
  wanted: ReadonlyMap<string, string>,
): Promise<boolean> {
  let removed = false
  const folders = new Set([...wanted.keys()].map(dirname))
  for (const folder of new Set([...folders, join(etc, UNITS), join(etc, WANTS)])) {
    for (const name of await namesIn(folder)) {
      const path = join(folder, name)
      if (wanted.has(path)) continue
      if (!(await linkAt(path))?.startsWith(`${profile}/`)) continue
      await rm(path)
      removed = true
    }
  }
  return removed
}
