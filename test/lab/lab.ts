import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { kill } from 'node:process'
import { Disposers } from '../../shared/lifecycle.ts'
import { removeControlGroups } from './control-groups.ts'
import { LabMachine, type MachineOptions } from './machine.ts'
import { createNetwork, insideNetwork, removeNetwork } from './network.ts'
import { formatIdentity, identityOf, isRunning, parseIdentity } from './process-identity.ts'
import { ensureLabRoot } from './root.ts'
import { must } from './run.ts'

/** Folders, network namespaces and control groups of labs begin with it. */
const PREFIX = 'muster-lab-'

/** A network of its own with machines in it. Several labs run beside each other. */
export class Lab implements AsyncDisposable {
  readonly dir: string
  /** Name of the network namespace and of the control groups. */
  readonly name: string
  readonly root: string
  readonly machines: LabMachine[] = []
  readonly #disposers = new Disposers()

  constructor(dir: string, root: string) {
    this.dir = dir
    this.name = basename(dir)
    this.root = root
  }

  /** What stands in front of a command of the host to run it in the lab's network. */
  get inside(): readonly string[] {
    return insideNetwork(this.name)
  }

  /** Released before the machines and the network are, the last one first. */
  defer(undo: () => unknown): void {
    this.#disposers.defer(undo)
  }

  /** A machine on a disk of its own; booted unless told otherwise. */
  async startMachine(name: string, options: MachineOptions = {}): Promise<LabMachine> {
    if (this.machines.some(machine => machine.name === name)) throw new Error(`there is a machine ${name}`)
    const machine = new LabMachine(this, name, this.machines.length, options)
    this.machines.push(machine)
    await machine.install()
    if (options.start !== false) await machine.boot()
    return machine
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#disposers[Symbol.asyncDispose]()
    if (process.env.MUSTER_KEEP) {
      console.error(`MUSTER_KEEP: the disks of the lab stay in ${this.dir}`)
      await Promise.all(this.machines.map(machine => machine.powerCut()))
      return
    }
    await Promise.all(this.machines.map(machine => machine[Symbol.asyncDispose]()))
    await removeLab(this.dir)
  }
}

/** An empty lab. Its root is made at the first call on this machine, which takes a minute or two. */
/** Each machine's systemd watches some dozens of files; the kernel's usual bound is one machine's worth or two. */
async function makeRoomForWatches(): Promise<void> {
  const path = '/proc/sys/fs/inotify/max_user_instances'
  if (Number(await readFile(path, 'utf8')) < INOTIFY_INSTANCES)
    await writeFile(path, String(INOTIFY_INSTANCES))
}
const INOTIFY_INSTANCES = 1_024

export async function startLab(): Promise<Lab> {
  await sweepLabs()
  await makeRoomForWatches()
  const root = await ensureLabRoot()
  const dir = await mkdtemp(join(tmpdir(), PREFIX))
  const own = identityOf(process.pid)
  if (own === undefined) throw new Error('/proc does not tell of this process')
  await writeFile(join(dir, 'owner'), formatIdentity(own))
  await mkdir(join(dir, 'machines'))
  await createNetwork(basename(dir))
  return new Lab(dir, root)
}

/** Removes what labs left behind whose process was killed. */
export async function sweepLabs(): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    if (!name.startsWith(PREFIX)) continue
    const dir = join(tmpdir(), name)
    const text = await readFile(join(dir, 'owner'), 'utf8').catch(() => '')
    const owner = parseIdentity(text)
    // Without an owner it is being made just now, or was killed in that very moment and holds nothing yet.
    if (owner === undefined || isRunning(owner)) continue
    // Others may sweep it at the same moment; what stays is swept the next time.
    await removeLab(dir).catch(() => {})
  }
}

async function removeLab(dir: string): Promise<void> {
  const name = basename(dir)
  for (const machine of await readdir(join(dir, 'machines')).catch(() => [])) {
    const folder = join(dir, 'machines', machine)
    for (const name of ['supervisor', 'leader']) {
      const process = parseIdentity(await readFile(join(folder, name), 'utf8').catch(() => ''))
      if (process && isRunning(process)) kill(process.pid, 'SIGKILL')
    }
    await unmountWithin(join(folder, 'root'))
    removeControlGroups(`${name}-${machine}`)
  }
  if (existsSync(`/run/netns/${name}`)) await removeNetwork(name)
  await rm(dir, { recursive: true, force: true })
}

async function unmountWithin(point: string): Promise<void> {
  const mounts = await readFile('/proc/self/mounts', 'utf8')
  // Lazily: a machine that is just ending may still use it.
  if (mounts.includes(` ${point} `)) await must('umount', ['--lazy', point])
}
