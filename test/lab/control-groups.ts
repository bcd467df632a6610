import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

/**
 * A control group of its own in every hierarchy. Machines that shared one would have one tree of units: systemd in one of
 * them would take the processes of another for its own. Returns the folders, into whose `cgroup.procs` a process writes
 * itself before it becomes a machine.
 */
export function createControlGroups(name: string): readonly string[] {
  return hierarchies().map(hierarchy => {
    const folder = join(hierarchy, name)
    mkdirSync(folder, { recursive: true })
    // A group of cpuset takes no process before it has processors and memory.
    for (const file of ['cpuset.cpus', 'cpuset.mems']) {
      const own = join(folder, file)
      if (existsSync(own) && readFileSync(own, 'utf8').trim() === '' && existsSync(join(hierarchy, 'tasks')))
        writeFileSync(own, readFileSync(join(dirname(folder), file)))
    }
    if (existsSync(join(folder, 'cgroup.clone_children')))
      writeFileSync(join(folder, 'cgroup.clone_children'), '1')
    return folder
  })
}

/** Removes the groups of that name with all below them; they must hold no process any more. */
export function removeControlGroups(name: string): void {
  for (const hierarchy of hierarchies()) removeTree(join(hierarchy, name))
}

function removeTree(folder: string): void {
  if (!existsSync(folder)) return
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) removeTree(join(folder, entry.name))
  }
  try {
    rmdirSync(folder)
  } catch {
    // A process that is just ending holds it; an empty group costs nothing, and the next sweep takes it.
  }
}

/** Mount points of control groups, of the first version and the second. */
function hierarchies(): readonly string[] {
  return readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map(line => line.split(' '))
    .filter(([, , type]) => type === 'cgroup' || type === 'cgroup2')
    .map(([, point = '']) => point)
}
