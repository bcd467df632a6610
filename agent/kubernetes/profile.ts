import { join, resolve } from 'node:path'
import { describeEnding, type System, succeeded } from '../system/system.ts'
import { linkExternalFiles } from './external-files.ts'

/** Where Kubernetes lives that lives apart from the system; the units name programs in it. */
export const KUBERNETES_PROFILE = 'nix/var/nix/profiles/muster-kubernetes'
const SET_MS = 60_000
/** Generations of the profile that stay, for a person to go back to. */
const KEPT = 5

/** What the profile names; undefined: nothing, or it cannot be read. */
export async function readProfile(system: System, root: string): Promise<string | undefined> {
  let path = join(root, KUBERNETES_PROFILE)
  for (let links = 0; links < 2; links++) {
    const link = await system.readLink(path)
    if (link.kind !== 'link') return undefined
    path = resolve(path, '..', link.target)
    if (path.startsWith('/nix/store/')) return path
  }
  return undefined
}

/**
 * Makes a package the Kubernetes of this machine: the profile moves in one step, and its older generations hold what ran
 * before. Nothing is started. Done twice it changes nothing. Says what is in the way.
 */
export async function installProfile(
  system: System,
  {
    root,
    storePath,
    say,
  }: { readonly root: string; readonly storePath: string; readonly say: (line: string) => void },
): Promise<string | undefined> {
  const profile = join(root, KUBERNETES_PROFILE)
  if ((await readProfile(system, root)) !== storePath) {
    const set = await system.run('nix-env', ['-p', profile, '--set', storePath], { deadlineMs: SET_MS })
    if (!succeeded(set.ending)) {
      return `${profile} could not be set: ${describeEnding('nix-env --set', set.ending)} ${set.stderr.trim().split('\n').at(-1) ?? ''}`
    }
    say(`${profile} is ${storePath}`)
    // What stays too long costs room alone.
    await system.run('nix-env', ['-p', profile, '--delete-generations', `+${KEPT}`], { deadlineMs: SET_MS })
  }
  // Where the system is somebody else's, the package brings the units besides.
  return await linkExternalFiles(system, { root, profile, storePath, say })
}
