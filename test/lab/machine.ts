import { randomBytes } from 'node:crypto'
import { mkdir, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Finished } from '../support/program.ts'
import { runProgram } from '../support/program.ts'
import { waitUntil } from '../support/wait-until.ts'
import { Container } from './container.ts'
import type { Lab } from './lab.ts'
import { machineFiles } from './machine-files.ts'
import { COORDINATOR_ADDRESS, machineAddress, PREFIX_LENGTH, setCable } from './network.ts'
import { must, tail } from './run.ts'

export interface MachineOptions {
  /** Folders laid over the root, the topmost first; with what a machine must have in its store, for example. */
  readonly layers?: readonly string[]
  /** A system of these layers' store that is installed: profile, boot entry. Absent: Debian, with an address. */
  readonly system?: string
  /** false: installed and off. */
  readonly start?: boolean
  /** More read-only mounts, "from:to". */
  readonly binds?: readonly string[]
  /**
   * Folders of the machine that lie beside its disk, because what they hold brings an overlay of its own, which no overlay
   * can carry. They outlive its boots as the disk does; a machine that is off shows them in `dir`, below `data`.
   */
  readonly data?: readonly string[]
  /** Whether containers can run in it: control groups and kernel settings can be written to, and it has a default route. */
  readonly containers?: boolean
  /** More files of its disk, by path without the first /. */
  readonly files?: Readonly<Record<string, string>>
}

export interface ExecOptions {
  readonly input?: string
  /** After it the command is killed, with all it started that stayed in its process group. Absent: 30 s. */
  readonly timeoutMs?: number
  readonly env?: Readonly<Record<string, string>>
}

/** Which systems a machine runs and would boot: store paths, "" where there is none. */
export interface SystemState {
  readonly booted: string
  readonly current: string
  readonly profile: string
  /** The system that the boot loader's default entry names. */
  readonly bootDefault: string
}

const TOOLS = join(import.meta.dirname, 'inside')
const PATH =
  '/run/current-system/sw/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/muster-lab'
const BOOT_MS = 60_000

/**
 * A machine of a lab: a container with a disk of its own that outlives its boots, its own systemd as process 1, address,
 * machine id and boot ids. It shares kernel, clock and hardware with the host.
 */
export class LabMachine implements AsyncDisposable {
  readonly name: string
  readonly address: string
  readonly mac: string
  readonly dir: string
  readonly #lab: Lab
  readonly #options: MachineOptions
  readonly #container: Container
  #plugged = true

  constructor(lab: Lab, name: string, index: number, options: MachineOptions) {
    if (!/^[a-z][a-z0-9-]{0,30}$/.test(name)) throw new Error(`${name}: no name for a machine`)
    this.name = name
    this.address = machineAddress(index)
    // Locally administered; different in every lab, so that an agent never meets the key it had in another.
    this.mac = `02:${randomBytes(4).toString('hex').match(/../g)?.join(':')}:${index.toString(16).padStart(2, '0')}`
    this.dir = join(lab.dir, 'machines', name)
    this.#lab = lab
    this.#options = options
    this.#container = new Container({
      folder: this.dir,
      name: `${lab.name}-${name}`,
      hostName: name,
      lower: [...(options.layers ?? []), lab.root],
      network: lab.inside,
      binds: [`${TOOLS}:/opt/muster-lab`, ...(options.binds ?? [])],
      writable: [
        ...(options.data ?? []).map(path => `${this.dataFolder(path)}:${path}`),
        ...(options.containers === true ? ['/dev/kmsg:/dev/kmsg'] : []),
      ],
      environment: {
        LAB_ADDRESS: `${this.address}/${PREFIX_LENGTH}`,
        LAB_MAC: this.mac,
        ...(options.containers === true ? { LAB_CONTAINERS: COORDINATOR_ADDRESS } : {}),
      },
      init: '/opt/muster-lab/boot',
      onBoot: async () => {
        if (!this.#plugged) await this.#applyCable()
      },
    })
  }

  /** The machine's disk as the host sees it. Links in it that begin with / lead astray there. */
  get root(): string {
    return this.#container.root
  }

  get running(): boolean {
    return this.#container.leader !== undefined
  }

  /** How often it was started or started itself again. */
  get boots(): number {
    return this.#container.boots
  }

  /** Where the host has one of the machine's `data` folders. */
  dataFolder(path: string): string {
    return join(this.dir, 'data', path.slice(1).replaceAll('/', '-'))
  }

  /** Puts onto its disk what makes it this machine. Called once, by the lab. */
  async install(): Promise<void> {
    await this.#container.prepare()
    const files = { ...machineFiles(randomBytes(16).toString('hex')), ...this.#options.files }
    for (const [path, text] of Object.entries(files)) {
      await mkdir(join(this.root, path, '..'), { recursive: true })
      await writeFile(join(this.root, path), text, { mode: path.includes('/bin/') ? 0o755 : 0o644 })
    }
    await mkdir(join(this.root, 'var/log/journal'), { recursive: true })
    if (this.#options.system !== undefined) await this.#installSystem(this.#options.system)
  }

  /** What nixos-install does at the end: the first generation of the profile, and its boot entry. */
  async #installSystem(system: string): Promise<void> {
    const profiles = join(this.root, 'nix/var/nix/profiles')
    await mkdir(profiles, { recursive: true })
    await symlink(system, join(profiles, 'system-1-link'))
    await symlink('system-1-link', join(profiles, 'system'))
    await must('chroot', [this.root, `${system}/install-boot-loader`, system])
  }

  /** Switches it on and waits until its systemd has started everything, even if some of it failed. */
  async boot({ wait = true }: { readonly wait?: boolean } = {}): Promise<void> {
    await this.#container.start()
    if (wait) await this.untilBooted()
  }

  /** Waits until systemd has started everything. `least`: it must be at least its boot with this number, from 1. */
  async untilBooted(least = this.boots, timeoutMs = BOOT_MS): Promise<void> {
    const look = async () => {
      if (this.boots < least) throw new Error(`its boot number ${least} did not begin`)
      const said = this.running ? (await this.exec(['systemctl', 'is-system-running'])).stdout.trim() : 'off'
      if (['running', 'degraded'].includes(said)) return said
      throw new Error(`systemd says ${JSON.stringify(said)}`)
    }
    await waitUntil(`boot of ${this.name}`, look, { timeoutMs }).catch(async (error: Error) => {
      throw new Error(`${error.message}; its console:\n${tail(await this.console(), 2_000)}`)
    })
  }

  /** Puts a new disk into it, with nothing on it but what it was first installed with; it is off afterwards. */
  async replaceDisk(): Promise<void> {
    await this.#container.discard()
    await rm(join(this.dir, 'data'), { recursive: true, force: true })
    await this.install()
  }

  /** Orders a reboot inside, and waits until the next boot is complete. */
  async reboot(): Promise<void> {
    const next = this.boots + 1
    await this.exec(['systemctl', 'reboot'])
    await this.untilBooted(next)
  }

  /** Shuts it down in order. */
  async shutDown(): Promise<void> {
    await this.exec(['systemctl', 'poweroff'])
    await this.#container.untilOff()
  }

  /** SIGKILL of everything in it. What was written is on the disk even if it was not synced: the host's cache survives. */
  async powerCut(): Promise<void> {
    await this.#container.kill()
  }

  /** Sends its systemd, which is process 1 there, a signal of the host: one from inside could not stop it. */
  signalSystemd(signal: 'SIGSTOP' | 'SIGCONT'): void {
    const { leader } = this.#container
    if (leader !== undefined) process.kill(leader, signal)
  }

  /** Pulls the network cable; it stays out over reboots. */
  async cutNetwork(): Promise<void> {
    this.#plugged = false
    await this.#applyCable()
  }

  async healNetwork(): Promise<void> {
    this.#plugged = true
    await this.#applyCable()
  }

  async #applyCable(): Promise<void> {
    const link = await this.#container.hostLink()
    if (link !== undefined) await setCable(this.#lab.name, link, this.#plugged)
  }

  /** What stands in front of a command to run it inside, with an environment of its own. */
  enter(env: Readonly<Record<string, string>> = {}): readonly string[] {
    const own = { PATH, HOME: '/root', LC_ALL: 'C.UTF-8', ...env }
    const settings = Object.entries(own).map(([name, value]) => `${name}=${value}`)
    return [...this.#container.enter(), 'env', '-i', ...settings]
  }

  /** Runs a command as root: in the running machine, or on the disk of one that is off. */
  async exec(argv: readonly string[], options: ExecOptions = {}): Promise<Finished> {
    const timeoutMs = options.timeoutMs ?? 30_000
    // Timed inside, because what is entered from outside outlives the program that entered.
    const timed = ['timeout', '--signal=KILL', `${timeoutMs / 1000}`, ...argv]
    const [command = '', ...args] = [...this.enter(options.env), ...timed]
    return await runProgram(command, args, {
      cwd: '/',
      timeoutMs: timeoutMs + 5_000,
      ...(options.input === undefined ? {} : { input: options.input }),
    })
  }

  /** Runs a command that must succeed; its standard output. */
  async ok(argv: readonly string[], options: ExecOptions = {}): Promise<string> {
    const { code, signal, stdout, stderr } = await this.exec(argv, options)
    if (code === 0) return stdout
    throw new Error(
      `${this.name}: ${argv.join(' ')}: ${signal ?? `exit ${code}`}\n${tail(stdout)}\n${tail(stderr)}`,
    )
  }

  async readFile(path: string): Promise<string> {
    return await this.ok(['cat', path])
  }

  /** Writes a file with its folders; the mode is octal text. */
  async writeFile(path: string, text: string, mode = '644'): Promise<void> {
    const script = 'mkdir -p "$(dirname "$1")" && cat >"$1" && chmod "$2" "$1"'
    await this.ok(['sh', '-c', script, 'sh', path, mode], { input: text })
  }

  /** Lines of the journal over all boots; more arguments of journalctl narrow it. */
  async journal(unit?: string, ...args: readonly string[]): Promise<string> {
    const units = unit === undefined ? [] : [`--unit=${unit}`]
    return await this.ok(['journalctl', '--no-pager', '--output=cat', ...units, ...args])
  }

  /** Names of the failed units. */
  async failedUnits(): Promise<readonly string[]> {
    const lines = await this.ok(['systemctl', 'list-units', '--failed', '--plain', '--no-legend'])
    return lines.split('\n').flatMap(line => line.split(' ')[0] || [])
  }

  async bootId(): Promise<string> {
    return (await this.readFile('/proc/sys/kernel/random/boot_id')).trim()
  }

  async state(): Promise<SystemState> {
    const script = `
      readlink /run/booted-system || echo
      readlink /run/current-system || echo
      readlink -f /nix/var/nix/profiles/system || echo
      entry=$(sed -n 's/^default  *//p' /boot/loader/loader.conf)
      sed -n 's/^options.* init=\\([^ ]*\\)\\/init.*/\\1/p' "/boot/loader/entries/$entry"`
    const [booted = '', current = '', profile = '', bootDefault = ''] = (
      await this.ok(['sh', '-c', script])
    ).split('\n')
    return { booted, current, profile, bootDefault }
  }

  /** Everything that was said on its console so far. */
  async console(): Promise<string> {
    return await this.#container.console()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#container[Symbol.asyncDispose]()
  }
}
