import { randomUUID } from 'node:crypto'
import { copyFile, mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Program } from '../../support/program.ts'
import { waitUntil } from '../../support/wait-until.ts'
import type { Lab } from '../lab.ts'
import type { ExecOptions, SystemState } from '../machine.ts'
import { insideNetwork, machineAddress } from '../network.ts'
import { must, tail } from '../run.ts'
import { GuestChannel, type GuestResult } from './guest-channel.ts'
import { sendToMonitor } from './monitor.ts'
import { qemuArguments } from './qemu-arguments.ts'
import { type DiskOptions, makeDisk } from './virtual-disk.ts'
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
}

export interface BootOptions {
  /** What the battery-backed clock says when it is switched on; default: the host's time. It runs on from there. */
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
 * - a boot takes half a minute;
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
  #qemu: Program | undefined
  #channel: GuestChannel | undefined
  #bootsBefore = 0

  private constructor(lab: Lab, name: string, index: number, options: VirtualMachineOptions) {
    this.name = name
    this.dir = join(lab.dir, 'virtual', name)
    this.address = virtualAddress(index)
    this.#lab = lab
    this.#link = `${LINK}${index}`
    this.#memoryMegabytes = options.memoryMegabytes ?? 1024
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
    const commands = [
      ['tuntap', 'add', 'dev', machine.#link, 'mode', 'tap'],
      ['link', 'set', machine.#link, 'master', 'br0', 'up'],
    ]
    for (const command of commands) await must('ip', ['-n', lab.name, ...command])
    return machine
  }

  get running(): boolean {
    return this.#qemu?.running === true
  }

  /** How often its system came up. */
  get boots(): number {
    return this.#bootsBefore + (this.#channel?.boots.length ?? 0)
  }

  /** Switches it on and waits until its system answers. */
  async boot(options: BootOptions = {}): Promise<void> {
    if (this.running) throw new Error(`${this.name} is on already`)
    const next = this.boots + 1
    const socket = join(this.dir, 'control.sock')
    const args = qemuArguments({
      folder: this.dir,
      firmware: FIRMWARE,
      link: this.#link,
      hardware: this.hardware,
      memoryMegabytes: this.#memoryMegabytes,
      ...options,
    })
    // Ends with this process, however that ends.
    const command = ['--pdeathsig', 'KILL', ...insideNetwork(this.#lab.name), 'qemu-system-x86_64', ...args]
    const qemu = new Program('setpriv', command, { cwd: this.dir })
    this.#qemu = qemu
    const channel = await Promise.race([
      GuestChannel.open(socket),
      qemu.finished.then(({ stderr }) => {
        throw new Error(`${this.name}: qemu ended: ${tail(stderr)}`)
      }),
    ])
    this.#bootsBefore = this.boots
    this.#channel?.[Symbol.dispose]()
    this.#channel = channel
    await this.untilBooted(next)
  }

  /** Waits until its system answers. `least`: it must be at least its boot with this number, from 1. */
  async untilBooted(least = Math.max(1, this.boots), timeoutMs = BOOT_MS): Promise<void> {
    const look = async () => {
      if (!this.running) throw new Error(`${this.name} is off: ${tail(this.#qemu?.stderr ?? '')}`)
      if (this.boots < least) throw new Error(`its boot number ${least} did not begin`)
      return true
    }
    await waitUntil(`boot of ${this.name}`, look, { timeoutMs }).catch(async (error: Error) => {
      throw new Error(`${error.message}; its console:\n${tail(await this.console(), 2_000)}`)
    })
  }

  /** Waits until systemd has started everything, even if some of it failed; what it says then. */
  async untilStarted(timeoutMs = BOOT_MS): Promise<string> {
    const { stdout } = await this.exec(['systemctl', 'is-system-running', '--wait'], { timeoutMs })
    return stdout.trim()
  }

  /** Orders a reboot inside, and waits until the next system answers. */
  async reboot(): Promise<void> {
    const next = this.boots + 1
    await this.exec(['systemctl', '--no-block', 'reboot'])
    await this.untilBooted(next)
  }

  /** The reset button, and the next boot. Memory is lost; what the disk was given stays. */
  async reset(): Promise<void> {
    const next = this.boots + 1
    await sendToMonitor(join(this.dir, 'monitor.sock'), 'system_reset')
    await this.untilBooted(next)
  }

  /** SIGKILL of qemu. */
  async powerCut(): Promise<void> {
    await this.#qemu?.kill('SIGKILL')
    this.#bootsBefore = this.boots
    this.#channel?.[Symbol.dispose]()
    this.#channel = undefined
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
    if (this.#channel === undefined) throw new Error(`${this.name} is off`)
    const env = Object.entries(options.env ?? {}).map(([name, value]) => `${name}=${value}`)
    const clean = ['env', '-i', `PATH=${PATH}`, 'HOME=/root', 'LC_ALL=C.UTF-8', ...env]
    const seconds = (options.timeoutMs ?? 60_000) / 1000
    return await this.#channel.request([...clean, ...argv], options.input ?? '', seconds)
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
