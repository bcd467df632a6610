import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { chmod, mkdir, readdir, rename, rm, stat, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { randomId } from '../../shared/ids.ts'
import { LockError, lockDirectory } from '../../shared/process-lock.ts'
import { must } from './run.ts'

/** What a cached root file system is made of; its name in the cache is derived from all of it. */
export interface RootRecipe {
  /** Stands in the folder's name, for people. */
  readonly name: string
  readonly suite: string
  /** What debootstrap installs. */
  readonly packages: readonly string[]
  /** What apt installs afterwards in the new root: packages whose set-up needs a complete system. */
  readonly later: readonly string[]
  /** Commands for /bin/sh in the new root, at the end. */
  readonly finish: string
}

const CONTAINER_ROOT: RootRecipe = {
  name: 'container',
  suite: 'bookworm',
  packages: [
    ...['systemd', 'systemd-sysv', 'dbus', 'udev', 'kmod', 'mount', 'util-linux', 'procps'],
    ...['iproute2', 'iputils-ping', 'curl', 'ca-certificates', 'git', 'python3', 'libstdc++6'],
  ],
  later: ['nix-bin'],
  // As on NixOS, units come from the toplevel alone: nothing may be enabled that no toplevel names.
  finish:
    'rm -rf /etc/systemd/system/* /etc/systemd/network/* /etc/resolv.conf /etc/machine-id /etc/hostname',
}

/** Where roots are kept between runs. */
export function labCache(): string {
  return (
    process.env.MUSTER_LAB_CACHE ??
    join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'muster', 'lab')
  )
}

const LONGEST_WAIT_MS = 15 * 60_000
const KEPT_DAYS = 30

/** The root of container machines: a folder that nobody writes to. Made at the first call, which takes a minute or two. */
export function ensureLabRoot(): Promise<string> {
  return ensureRoot(CONTAINER_ROOT)
}

/** Makes a root unless it is cached. Several processes may ask at once: one makes it, the others wait. */
export async function ensureRoot(recipe: RootRecipe): Promise<string> {
  return await ensureCached(`root-${recipe.name}-${keyOf(recipe)}`, async folder => {
    await makeRoot(recipe, folder)
  })
}

const keyOf = (value: unknown) =>
  createHash('sha256').update(JSON.stringify(value)).digest('hex').slice(0, 12)

/**
 * A folder of the cache that is there whole or not at all: made aside by `make`, then renamed. What was not used for a
 * month is removed.
 */
export async function ensureCached(name: string, make: (folder: string) => Promise<void>): Promise<string> {
  const cache = labCache()
  const folder = join(cache, name)
  const used = join(cache, `${name}.used`)
  if (!existsSync(folder)) {
    await mkdir(cache, { recursive: true, mode: 0o700 })
    await using _lock = await waitForLock(cache)
    if (!existsSync(folder)) {
      await removeOld(cache)
      const partial = join(cache, `partial-${randomId()}`)
      try {
        await mkdir(partial, { mode: 0o755 })
        await make(partial)
        await rename(partial, folder)
      } finally {
        await rm(partial, { recursive: true, force: true })
      }
    }
  }
  await writeFile(used, '')
  return folder
}

async function waitForLock(cache: string): Promise<AsyncDisposable> {
  const until = Date.now() + LONGEST_WAIT_MS
  for (;;) {
    try {
      return await lockDirectory(cache, 'maker of lab machines')
    } catch (error) {
      if (!(error instanceof LockError) || Date.now() > until) throw error
      await sleep(500)
    }
  }
}

/** What others left half-made, and what nobody used for long. Only called with the lock held. */
async function removeOld(cache: string): Promise<void> {
  for (const name of await readdir(cache)) {
    const path = join(cache, name)
    if (name.startsWith('partial-')) await rm(path, { recursive: true, force: true })
    if (!name.endsWith('.used')) continue
    const age = Date.now() - (await stat(path)).mtimeMs
    if (age < KEPT_DAYS * 86_400_000) continue
    await rm(path.slice(0, -'.used'.length), { recursive: true, force: true })
    await rm(path, { force: true })
  }
}

async function makeRoot({ suite, packages, later, finish }: RootRecipe, folder: string): Promise<void> {
  // A mirror of the site's own; absent, debootstrap knows one.
  const mirror = process.env.MUSTER_LAB_MIRROR
  const args = ['--variant=minbase', `--include=${packages.join(',')}`, suite, folder]
  const options = { timeoutMs: LONGEST_WAIT_MS, env: { DEBIAN_FRONTEND: 'noninteractive' } }
  await must('debootstrap', mirror === undefined ? args : [...args, mirror], options)
  await chmod(folder, 0o755)
  // In a mount namespace of its own, so that nothing stays mounted whatever happens.
  const script = `
    set -e
    mount --make-rprivate /
    mount --bind /dev "$0/dev"
    mount -t proc proc "$0/proc"
    cp -L /etc/resolv.conf "$0/etc/resolv.conf" || true
    printf '#!/bin/sh\\nexit 101\\n' > "$0/usr/sbin/policy-rc.d"
    chmod 755 "$0/usr/sbin/policy-rc.d"
    chroot "$0" /bin/sh -ec "$1"
  `
  const inside = `
    export PATH=/usr/sbin:/usr/bin:/sbin:/bin
    ${later.length === 0 ? '' : `apt-get update -q; apt-get install -y -q --no-install-recommends ${later.join(' ')}`}
    apt-get clean
    rm -rf /var/lib/apt/lists/* /usr/sbin/policy-rc.d
    ${finish}
  `
  await must('unshare', ['--mount', '/bin/sh', '-c', script, folder, inside], options)
}
