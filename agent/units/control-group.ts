import { join } from 'node:path'
import type { System } from '../system/system.ts'

/** The slice of every unit of ours: where its control group lies must be known when systemd has forgotten the unit. */
export const SLICE = 'system.slice'

export type ControlGroup =
  | { readonly kind: 'empty' }
  /** Processes are in it, of which some are named, such as "process 4711 (cat)". */
  | { readonly kind: 'populated'; readonly processes: readonly string[] }
  | { readonly kind: 'unknown'; readonly reason: string }

/** Where the control groups of systemd's own hierarchy are mounted: of the second version, of both versions, of the first. */
const MOUNTS = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified', '/sys/fs/cgroup/systemd'] as const
/** systemd runs what comes before and after a service in a group below the service's. */
const BELOW = ['', 'control', '.control'] as const
const MAX_BYTES = 64 * 1024
const MOST_NAMED = 5

/**
 * What is left in the control group of a unit of ours, asked of the kernel, at the place that follows from the unit's name.
 * A unit that systemd gave up, because no signal ends its processes, need not tell where its group is: whether systemd
 * keeps it, forgets the group, or forgets the unit with it, differs between its versions.
 */
export async function controlGroupOf(system: System, name: string): Promise<ControlGroup> {
  const root = await rootGroup(system)
  if (root.kind === 'unknown') return root
  let populated = false
  const pids = new Set<string>()
  for (const mount of MOUNTS) {
    const own = join(mount, root.path, SLICE, `${name}.service`)
    const events = await readGroupFile(system, join(own, 'cgroup.events'))
    if (events.kind === 'unknown') return events
    // Tells of all groups below it as well; only the second version has it.
    populated ||= /^populated 1$/m.test(events.text)
    for (const below of BELOW) {
      const processes = await readGroupFile(system, join(own, below, 'cgroup.procs'))
      if (processes.kind === 'unknown') return processes
      for (const pid of processes.text.split('\n')) if (pid !== '') pids.add(pid)
    }
  }
  if (!populated && pids.size === 0) return { kind: 'empty' }
  const named = [...pids].slice(0, MOST_NAMED)
  return { kind: 'populated', processes: await Promise.all(named.map(pid => describeProcess(system, pid))) }
}

type GroupFile =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'unknown'; readonly reason: string }

/** Empty where there is no such group, or where it is taken away at this moment. */
async function readGroupFile(system: System, path: string): Promise<GroupFile> {
  const reading = await system.readFile(path, MAX_BYTES)
  if (reading.kind === 'file') return { kind: 'text', text: reading.bytes.toString('utf8') }
  if (reading.kind === 'missing' || reading.code === 'ENODEV') return { kind: 'text', text: '' }
  return { kind: 'unknown', reason: `${path}: ${reading.code}` }
}

/** The group below which systemd has its slices: that of process 1 without its own last part. */
async function rootGroup(
  system: System,
): Promise<
  { readonly kind: 'root'; readonly path: string } | { readonly kind: 'unknown'; readonly reason: string }
> {
  const reading = await system.readFile('/proc/1/cgroup', MAX_BYTES)
  // Without the file there are no control groups at all.
  if (reading.kind === 'missing') return { kind: 'root', path: '/' }
  if (reading.kind !== 'file') return { kind: 'unknown', reason: '/proc/1/cgroup cannot be read' }
  const found = /^(?:0::|\d+:name=systemd:)(.*)$/m.exec(reading.bytes.toString('utf8'))?.[1] ?? '/'
  return { kind: 'root', path: found.replace(/\/(init\.scope|system\.slice|system)$/, '') || '/' }
}

async function describeProcess(system: System, pid: string): Promise<string> {
  const reading = await system.readFile(`/proc/${pid}/comm`, 256)
  const comm = reading.kind === 'file' ? reading.bytes.toString('utf8').trim() : ''
  return comm === '' ? `process ${pid}` : `process ${pid} (${comm})`
}
