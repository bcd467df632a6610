import { randomUUID } from 'node:crypto'
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { waitUntil } from '../../support/wait-until.ts'
import type { Lab } from '../lab.ts'
import type { ExecOptions, SystemState } from '../machine.ts'
import { insideNetwork, machineAddress } from '../network.ts'
import { must, tail } from '../run.ts'
import { Emulator } from './emulator.ts'
import type { GuestResult } from './guest-channel.ts'
import { WATCHDOG_TABLE } from './qemu-arguments.ts'
import { type DiskOptions, makeDisk } from './virtual-disk.ts'
import { watchdogTable } from './watchdog-table.ts'
import { FIRMWARE, VARIABLES } from './why-not.ts'

/** What the firmware and the devices say of the machine: facts that an agent reads. */
export interface Hardware {
  readonly manufacturer: string
  readonly product: string
  readonly serial: string
  readonly uuid: string
  readonly diskSerial: string
  readonly mac: string
}

export interface VirtualMachineOptions extends DiskOptions {
  readonly hardware?: Partial<Hardware>
  /** Default 1024. */
  readonly memoryMegabytes?: number
  /** Whether its board has a watchdog, which resets the machine when nobody feeds it any more; default: no. */
  readonly watchdog?: boolean
}

export interface BootOptions {
  /** What the battery-backed clock says when it is switched on; default: the host's time. It runs on from there, over reboots. */
  readonly clock?: Date
}

/** From power to a first word: half a minute on an idle machine of two cores, several times as much on a busy one. */
const BOOT_MS = 10 * 60_000
const PATH = '/run/current-system/sw/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
const LINK = 'vm'
const FIRST_INDEX = 150

/** The address for the `index`th virtual machine of a lab, from 0; its systems set it up. */
export const virtualAddress = (index: number): string => machineAddress(FIRST_INDEX + index)

/**
 * A machine of a lab with firmware, disk, boot loader, kernel and clock of its own, in qemu's software emulation. It has
 * the methods of a LabMachine; what differs:
 *
 * - a boot takes half a minute. Each is a cold one: qemu is started anew, and memory keeps nothing;
 * - `powerCut` ends qemu, and with it the guest's memory: what the guest had not synced is lost. What it wrote without a
 *   flush may survive in the host's cache, except in parts of the disk that were never written before, which qemu forgets;
 * - firmware variables (a one-shot entry, for example) outlive everything, as they do on real boards.
 */
export class VirtualMachine implements AsyncDisposable {
  readonly name: string
  readonly address: string
  readonly hardware: Hardware
  readonly dir: string
  readonly #lab: Lab
  readonly #link: string
  readonly #memoryMegabytes: number
  readonly #watchdog: boolean
  #emulator: Emulator | undefined
  /** Told apart by identity: one for each time it is switched on; undefined while it is off. */
  #power: { readonly clockOffsetMs: number } | undefined
  /** Ends when the power does. */
  #following: Promise<void> = Promise.resolve()
  #failure: unknown
  #bootsBefore = 0

  private constructor(lab: Lab, name: string, index: number, options: VirtualMachineOptions) {
    this.name = name
    this.dir = join(lab.dir, 'virtual', name)
    this.address = virtualAddress(index)
    this.#lab = lab
    this.#link = `${LINK}${index}`
    this.#memoryMegabytes = options.memoryMegabytes ?? 1024
    this.#watchdog = options.watchdog ?? false
    this.hardware = {
      manufacturer: 'Lab',
      product: 'Emulated',
      serial: `LAB${String(index).padStart(4, '0')}`,
      uuid: randomUUID(),
      diskSerial: `S4EVNX0M${String(index).padStart(6, '0')}`,
      mac: `02:4c:41:42:00:${index.toString(16).padStart(2, '0')}`,
      ...options.hardware,
    }
  }

  /** Makes its disk and its cable; it is off. The lab disposes of it. */
  static async install(
    lab: Lab,
    name: string,
    index: number,
    options: VirtualMachineOptions,
  ): Promise<VirtualMachine> {
    const machine = new VirtualMachine(lab, name, index, options)
    await mkdir(machine.dir, { recursive: true })
    lab.defer(() => machine[Symbol.asyncDispose]())
    const base = await makeDisk(machine.dir, name, machine.hardware.mac, options)
    // A layer of its own: of what a guest wrote there and did not flush, qemu's sudden end loses what is new.
    const layer = ['-q', '-f', 'qcow2', '-F', 'raw', '-b', base, join(machine.dir, 'disk.qcow2')]
    await must('qemu-img', ['create', ...layer])
    await copyFile(VARIABLES, join(machine.dir, 'variables.fd'))
    if (machine.#watchdog) await writeFile(join(machine.dir, WATCHDOG_TABLE), watchdogTable())
    const commands = [
      ['tuntap', 'add', 'dev', machine.#link, 'mode', 'tap'],
      ['link', 'set', machine.#link, 'master', 'br0', 'up'],
    ]
    for (const command of commands) await must('ip', ['-n', lab.name, ...command])
    return machine
  }

  get running(): boolean {
    return this.#power !== undefined
  }

  /** How often its system came up. */
  get boots(): number {
    return this.#bootsBefore + (this.#emulator?.channel.boots.length ?? 0)
  }

  /** Switches it on and waits until its system answers. */
  async boot(options: BootOptions = {}): Promise<void> {
    if (this.running) throw new Error(`${this.name} is on already`)
    const next = this.boots + 1
    const power = { clockOffsetMs: options.clock === undefined ? 0 : options.clock.getTime() - Date.now() }
    this.#power = power
    this.#failure = undefined
    this.#emulator = await this.#start(power.clockOffsetMs)
    this.#following = this.#follow(power, this.#emulator)
    await this.untilBooted(next)
  }

  async #start(clockOffsetMs: number): Promise<Emulator> {
    return await Emulator.start(insideNetwork(this.#lab.name), {
      folder: this.dir,
      firmware: FIRMWARE,
      link: this.#link,
      hardware: this.hardware,
      memoryMegabytes: this.#memoryMegabytes,
      watchdog: this.#watchdog,
      clock: new Date(Date.now() + clockOffsetMs),
    })
  }

  /** Starts the emulator anew whenever the guest, its kernel's panic or the reset button does, until the power is off. */
  async #follow(power: { readonly clockOffsetMs: number }, first: Emulator): Promise<void> {
    for (let emulator = first; ; ) {
      const reason = await emulator.untilOff()
      this.#bootsBefore += emulator.channel.boots.length
      this.#emulator = undefined
      if (this.#power !== power) return
      if (reason === undefined || !reason.endsWith('reset')) {
        this.#failure = new Error(`${this.name} is off (${reason ?? 'qemu ended'}): ${tail(emulator.said)}`)
        this.#power = undefined
        return
      }
      try {
        emulator = await this.#start(power.clockOffsetMs)
      } catch (error) {
        this.#failure = error
        this.#power = undefined
        return
      }
      this.#emulator = emulator
      if (this.#power !== power) await emulator.kill()
    }
  }

  /** Waits until its system answers. `least`: it must be at least its boot with this number, from 1. */
  async untilBooted(least = Math.max(1, this.boots), timeoutMs = BOOT_MS): Promise<void> {
    const look = async () => {
      if (this.#failure !== undefined) return 'off'
      if (this.boots < least) throw new Error(`its boot number ${least} did not begin`)
      return 'on'
    }
    const wait = waitUntil(`boot of ${this.name}`, look, { timeoutMs })
    const found = await wait.catch(async (error: Error) => {
      throw new Error(`${error.message}; its console:\n${tail(await this.console(), 2_000)}`)
    })
    if (found === 'off') throw this.#failure
  }

  /** Waits until systemd has started everything, even if some of it failed; what it says then. */
  async untilStarted(timeoutMs = BOOT_MS): Promise<string> {
    const { stdout } = await this.exec(['systemctl', 'is-system-running', '--wait'], { timeoutMs })
    return stdout.trim()
  }

  /** Orders a reboot inside, and waits until the next system answers. */
  async reboot(): Promise<void> {
    const next = this.boots + 1
    // The answer may be lost in the very reboot; that it came about is what counts.
    await this.exec(['systemctl', '--no-block', 'reboot']).catch(() => {})
    await this.untilBooted(next)
  }

  /** The reset button, and the next boot. Memory is lost; what the disk was given stays. */
  async reset(): Promise<void> {
    const next = this.boots + 1
    if (this.#emulator === undefined) throw new Error(`${this.name} is off`)
    await this.#emulator.monitor.command('system_reset')
    await this.untilBooted(next)
  }

  /** SIGKILL of qemu. */
  async powerCut(): Promise<void> {
    this.#power = undefined
    await this.#emulator?.kill()
    await this.#following
  }

  /** Pulls the network cable; it stays out over reboots. */
  async cutNetwork(): Promise<void> {
    await must('ip', ['-n', this.#lab.name, 'link', 'set', this.#link, 'nomaster'])
  }

  async healNetwork(): Promise<void> {
    await must('ip', ['-n', this.#lab.name, 'link', 'set', this.#link, 'master', 'br0', 'up'])
  }

  /** Runs a command as root. Throws when the machine is off, goes off or starts anew before it ended. */
  async exec(argv: readonly string[], options: ExecOptions = {}): Promise<GuestResult> {
    const channel = this.#emulator?.channel
    if (channel === undefined) throw new Error(`${this.name} is off, or just starting anew`)
    const env = Object.entries(options.env ?? {}).map(([name, value]) => `${name}=${value}`)
    const clean = ['env', '-i', `PATH=${PATH}`, 'HOME=/root', 'LC_ALL=C.UTF-8', ...env]
    const seconds = (options.timeoutMs ?? 60_000) / 1000
    return await channel.request([...clean, ...argv], options.input ?? '', seconds)
  }

  /** Runs a command that must succeed; its standard output. */
  async ok(argv: readonly string[], options: ExecOptions = {}): Promise<string> {
    const { code, stdout, stderr, late } = await this.exec(argv, options)
    if (code === 0) return stdout
    const how = late ? 'ended by its deadline' : `exit ${code}`
    throw new Error(`${this.name}: ${argv.join(' ')}: ${how}\n${tail(stdout)}\n${tail(stderr)}`)
  }

  /** Runs lines of shell that must succeed. */
  async sh(script: string, options: ExecOptions = {}): Promise<string> {
    return await this.ok(['sh', '-euc', script], options)
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

  async bootId(): Promise<string> {
    return (await this.readFile('/proc/sys/kernel/random/boot_id')).trim()
  }

  async state(): Promise<SystemState> {
    const script = `
      readlink /run/booted-system || echo
      readlink /run/current-system || echo
      readlink -f /nix/var/nix/profiles/system || echo
      entry=$(sed -n 's/^default  *//p' /boot/loader/loader.conf)
      sed -n 's/^options init=\\([^ ]*\\)\\/init.*/\\1/p' "/boot/loader/entries/$entry"`
    const [booted = '', current = '', profile = '', bootDefault = ''] = (await this.sh(script)).split('\n')
    return { booted, current, profile, bootDefault }
  }

  /** What firmware, boot loader and kernel said on the serial line, over all boots. */
  async console(): Promise<string> {
    return await readFile(join(this.dir, 'console.log'), 'latin1').catch(() => '')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.powerCut()
  }
}
