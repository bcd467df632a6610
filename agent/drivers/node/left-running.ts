import { basename } from 'node:path'
import { pause } from '../../../shared/lifecycle.ts'
import type { System } from '../../system/system.ts'
import { DONE, done, failed, type Result } from '../result.ts'

const MAX_PROCESSES = 262_144
const MAX_BYTES = 64 * 1024
const AT_ONCE = 64
/** What was killed may take a moment to go. */
const LOOKS = 20
const LOOK_MS = 500
const NAMED = 5

/** A process of this machine, as /proc tells of it. */
export interface SeenProcess {
  readonly pid: string
  readonly args: readonly string[]
  /** The text of its `cgroup`. */
  readonly cgroup: string
}

/**
 * Done when nothing runs any more that pods are made of: containers outlive what started them, and what is to end them may say that it did
 * and have left some. `socket` is that of the runtime: containers of another one on this machine are nobody's pods.
 */
export async function untilNothingRuns(
  system: System,
  socket: string,
  signal?: AbortSignal,
): Promise<Result<void>> {
  for (let look = 1; ; look++) {
    const seen = await readProcesses(system)
    if (seen.kind === 'failed') return seen
    const left = whatIsLeft(seen.value, socket)
    if (left.length === 0) return DONE
    if (look === LOOKS) return failed('command', describeLeft(left))
    if (!(await pause(LOOK_MS, signal))) return failed('cancelled', 'it is no longer waited for containers')
  }
}

/** Processes that hold a container of this runtime, or are in a pod of this machine. */
export function whatIsLeft(processes: readonly SeenProcess[], socket: string): readonly SeenProcess[] {
  const roots = rootsOf(processes.find(({ pid }) => pid === '1')?.cgroup ?? '')
  return processes.filter(each => isShim(each, socket) || isInPod(each, roots))
}

function isShim({ args }: SeenProcess, socket: string): boolean {
  return basename(args[0] ?? '').startsWith('containerd-shim') && args.includes(socket)
}

/** A container on this machine may have a Kubernetes of its own, whose groups lie deeper. */
function isInPod({ cgroup }: SeenProcess, roots: ReadonlyMap<string, string>): boolean {
  return groupsOf(cgroup).some(([hierarchy, path]) => {
    const root = roots.get(hierarchy) ?? ''
    return ['kubepods', 'kubepods.slice'].some(name => path.startsWith(`${root}/${name}/`))
  })
}

/** By hierarchy the group that this machine's own are below: in a container it is not the first of all. */
function rootsOf(cgroup: string): ReadonlyMap<string, string> {
  return new Map(
    groupsOf(cgroup).map(([hierarchy, path]) => [hierarchy, path.replace(/\/init\.scope$|\/$/, '')]),
  )
}

/** Lines such as `4:memory:/kubepods/burstable/…`, or the one `0::/kubepods.slice/…`. */
function groupsOf(cgroup: string): readonly (readonly [hierarchy: string, path: string])[] {
  return cgroup.split('\n').flatMap(line => {
    const [, hierarchy, path] = /^(\d+):[^:]*:(\/.*)$/.exec(line) ?? []
    return hierarchy !== undefined && path !== undefined ? [[hierarchy, path] as const] : []
  })
}

function describeLeft(left: readonly SeenProcess[]): string {
  const named = left.slice(0, NAMED).map(({ pid, args }) => `${basename(args[0] ?? '?')} (${pid})`)
  const more = left.length > NAMED ? ` and ${left.length - NAMED} more` : ''
  return `pods still run here: ${named.join(', ')}${more}; end them, or boot this machine anew (its Kubernetes stays down), then this goes on`
}

async function readProcesses(system: System): Promise<Result<readonly SeenProcess[]>> {
  const listing = await system.listDir('/proc', MAX_PROCESSES)
  if (listing.kind !== 'dir' || listing.truncated)
    return failed('unreadable', '/proc cannot be read: nobody knows which containers still run here')
  const pids = listing.names.filter(name => /^\d+$/.test(name))
  const seen: SeenProcess[] = []
  for (let first = 0; first < pids.length; first += AT_ONCE) {
    const found = await Promise.all(
      pids.slice(first, first + AT_ONCE).map(async pid => await readProcess(system, pid)),
    )
    seen.push(...found.flatMap(each => each ?? []))
  }
  // Without it nobody can tell a pod's group from another one.
  if (!seen.some(({ pid, cgroup }) => pid === '1' && cgroup !== ''))
    return failed('unreadable', '/proc/1/cgroup cannot be read: nobody knows which containers still run here')
  return done(seen)
}

/** undefined: it has gone meanwhile. */
async function readProcess(system: System, pid: string): Promise<SeenProcess | undefined> {
  const text = async (name: string) => {
    const reading = await system.readFile(`/proc/${pid}/${name}`, MAX_BYTES)
    return reading.kind === 'file' ? reading.bytes.toString('utf8') : undefined
  }
  const [line = '', cgroup] = [await text('cmdline'), await text('cgroup')]
  return cgroup === undefined ? undefined : { pid, args: line.split('\0'), cgroup }
}
