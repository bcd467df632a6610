import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, openSync, readdirSync, readlinkSync } from 'node:fs'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { waitUntil } from '../support/wait-until.ts'
import { createControlGroups, removeControlGroups } from './control-groups.ts'
import { childrenOf, formatIdentity, identityOf, isLeader } from './process-identity.ts'
import { must, tail } from './run.ts'

export interface ContainerOptions {
  /** Holds the disk and what the host keeps of the container. */
  readonly folder: string
  /** Of its control groups, and as systemd-nspawn knows it: no other on the host has it. */
  readonly name: string
  readonly hostName: string
  /** Folders below its own disk, the topmost first. */
  readonly lower: readonly string[]
  /** What stands in front of a command to run it in the network namespace with the bridge br0. */
  readonly network: readonly string[]
  /** Read-only mounts, "from:to". */
  readonly binds: readonly string[]
  /** Mounts that can be written to, "from:to"; folders of the host that are missing are made. */
  readonly writable: readonly string[]
  readonly environment: Readonly<Record<string, string>>
  /** What becomes process 1. */
  readonly init: string
  /** Called when process 1 is there, also after a reboot from inside. */
  readonly onBoot: () => Promise<void>
}

/** What systemd-nspawn with --keep-unit ends with when the container asked for a reboot. */
const REBOOT = 133
const START_MS = 30_000
const STOP_MS = 90_000

/** One systemd-nspawn container that boots again when it reboots itself, on an overlay that stays. */
export class Container implements AsyncDisposable {
  readonly #options: ContainerOptions
  #nspawn: ChildProcess | undefined
  /** Its process 1 as the host numbers it; undefined while it is off. */
  leader: number | undefined
  boots = 0
  /** Whether a reboot from inside starts it again. */
  #on = false
  /** Why it could not be started again after a reboot. */
  #failure: unknown

  constructor(options: ContainerOptions) {
    this.#options = options
  }

  get root(): string {
    return join(this.#options.folder, 'root')
  }

  /** Makes the disk and mounts it; it stays mounted while the container is off. */
  async prepare(): Promise<void> {
    const { folder, lower, writable } = this.#options
    for (const name of ['upper', 'work', 'root']) await mkdir(join(folder, name), { recursive: true })
    for (const [from = ''] of writable.map(bind => bind.split(':'))) {
      if (!existsSync(from)) await mkdir(from, { recursive: true })
    }
    const layers = `lowerdir=${lower.join(':')},upperdir=${join(folder, 'upper')},workdir=${join(folder, 'work')}`
    await must('mount', ['-t', 'overlay', 'overlay', '-o', layers, this.root])
  }

  async start(): Promise<void> {
    if (this.#nspawn) throw new Error(`${this.#options.hostName} is on`)
    this.#on = true
    this.#failure = undefined
    await this.#launch()
  }

  async #launch(): Promise<void> {
    const { folder, name, hostName, network, binds, writable, environment, init } = this.#options
    const groups = createControlGroups(name)
    // The shell enters the groups, then becomes nsenter, which becomes systemd-nspawn: one process all the way.
    const script = `for group in ${groups.join(' ')}; do echo $$ >$group/cgroup.procs; done; exec "$@"`
    const nspawn = [
      ...['systemd-nspawn', '--quiet', '--register=no', '--keep-unit', '--capability=all'],
      ...['--system-call-filter=@keyring bpf', '--kill-signal=SIGRTMIN+3', '--link-journal=no'],
      ...['--resolv-conf=off', '--timezone=off', '--console=read-only', '--network-bridge=br0'],
      ...[`--machine=${name}`, `--hostname=${hostName}`, `--directory=${this.root}`],
      ...binds.map(bind => `--bind-ro=${bind}`),
      ...writable.map(bind => `--bind=${bind}`),
      ...Object.entries(environment).map(([key, value]) => `--setenv=${key}=${value}`),
    ]
    const log = openSync(join(folder, 'console'), 'a')
    // With whoever started it dies the machine: the kernel sees to it, even when that process is killed.
    const own = ['setpriv', '--pdeathsig', 'KILL', 'sh', '-c', script, 'sh']
    const [command = '', ...args] = [...own, ...network, ...nspawn, init]
    const child = spawn(command, args, { cwd: '/', stdio: ['ignore', log, log] })
    this.#nspawn = child
    child.once('exit', code => void this.#ended(child, code))
    await once(child, 'spawn')
    const identity = child.pid === undefined ? undefined : identityOf(child.pid)
    if (identity) await writeFile(join(folder, 'supervisor'), formatIdentity(identity))
    this.leader = await this.#findLeader(child)
    const leader = identityOf(this.leader)
    if (leader) await writeFile(join(folder, 'leader'), formatIdentity(leader))
    this.boots += 1
    await this.#options.onBoot()
  }

  async #findLeader(child: ChildProcess): Promise<number> {
    for (const until = Date.now() + START_MS; Date.now() < until; await sleep(20)) {
      const found = childrenOf(child.pid ?? 0).find(isLeader)
      if (found !== undefined) return found
      if (child.exitCode !== null || child.signalCode !== null) break
    }
    throw new Error(`${this.#options.hostName} did not start; it said:\n${tail(await this.console(), 2_000)}`)
  }

  async #ended(child: ChildProcess, code: number | null): Promise<void> {
    if (this.#nspawn !== child) return
    this.#nspawn = undefined
    this.leader = undefined
    if (!this.#on || code !== REBOOT) return
    await this.#launch().catch((error: unknown) => {
      this.#failure = error
    })
  }

  /** The name of the bridge's end of its cable; undefined while it is off. */
  async hostLink(): Promise<string | undefined> {
    const look = async () => {
      const { leader } = this
      if (leader === undefined) return ''
      // What the other end is called says its index; systemd-nspawn moves this one in after process 1 is there.
      const { stdout } = await must('nsenter', ['-t', `${leader}`, '-n', 'ip', '-o', 'link', 'show', 'host0'])
      const index = /host0@if(\d+)/.exec(stdout)?.[1]
      const [command = '', ...args] = [...this.#options.network, 'ip', '-o', 'link']
      const links = await must(command, args)
      return new RegExp(`^${index}: ([^@:]+)`, 'm').exec(links.stdout)?.[1]
    }
    const what = `cable of ${this.#options.hostName}`
    return (await waitUntil(what, look, { timeoutMs: START_MS, everyMs: 50 })) || undefined
  }

  /** What stands in front of a command to run it inside: in the running container, or on its disk. */
  enter(): readonly string[] {
    if (this.leader === undefined) return ['chroot', this.root]
    return ['nsenter', '-t', `${this.leader}`, '-m', '-u', '-i', '-n', '-p', '-C']
  }

  async console(): Promise<string> {
    return await readFile(join(this.#options.folder, 'console'), 'utf8').catch(() => '')
  }

  /** Ends everything in it at once. */
  async kill(): Promise<void> {
    this.#on = false
    for (const until = Date.now() + STOP_MS; this.#nspawn && Date.now() < until; await sleep(20)) {
      // The leader first: systemd-nspawn then takes its own end of the cable away.
      if (this.leader !== undefined) powerOff(this.leader)
      else this.#nspawn.kill('SIGKILL')
    }
    await this.untilOff()
  }

  /** Ends it and takes its disk away. */
  async discard(): Promise<void> {
    await this.kill()
    await must('umount', ['--lazy', this.root])
    for (const name of ['upper', 'work'])
      await rm(join(this.#options.folder, name), { recursive: true, force: true })
  }

  async untilOff(): Promise<void> {
    for (const until = Date.now() + STOP_MS; this.#nspawn; await sleep(50)) {
      if (Date.now() > until) throw new Error(`${this.#options.hostName} does not end`)
    }
    if (this.#failure !== undefined) throw this.#failure
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill()
    await must('umount', ['--lazy', this.root])
    removeControlGroups(this.#options.name)
  }
}

/**
 * Ends everything at one moment, as a power cut does: process 1 closes its sockets a while before the kernel ends the others, who would
 * take that for an answer and write it down.
 */
function powerOff(leader: number): void {
  for (const pid of inNamespaceOf(leader)) if (pid !== leader) signalIfThere(pid, 'SIGSTOP')
  signalIfThere(leader, 'SIGKILL')
}

/** Processes of the same process namespace, as far as they can still be looked at. */
function inNamespaceOf(leader: number): readonly number[] {
  const namespaceOf = (pid: number) => {
    try {
      return readlinkSync(`/proc/${pid}/ns/pid`)
    } catch {
      return undefined // it ended meanwhile
    }
  }
  const wanted = namespaceOf(leader)
  const pids = readdirSync('/proc').flatMap(name => (/^\d+$/.test(name) ? [Number(name)] : []))
  return wanted === undefined ? [] : pids.filter(pid => namespaceOf(pid) === wanted)
}

function signalIfThere(pid: number, signal: 'SIGKILL' | 'SIGSTOP'): void {
  try {
    process.kill(pid, signal)
  } catch {
    // It ended by itself meanwhile.
  }
}
