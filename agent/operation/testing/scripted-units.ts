import { type ArmRecord, readArmRecord } from '../../safety/arm-record.ts'
import { writeEndMark, writeStartMark } from '../../safety/marks.ts'
import { type ArmFolder, armFolder } from '../../safety/operation-folder.ts'
import { startReturn } from '../../safety/return-unit.ts'
import { walkBack } from '../../safety/walk-back.ts'
import type { Ending, System } from '../../system/system.ts'
import type { AgentUnit, UnitLine, UnitSpec, UnitStart, Units } from '../../units/units.ts'

interface Running {
  readonly unit: UnitSpec
  readonly done: Promise<void>
  readonly stop: AbortController
}

/**
 * A service manager that exists only in a test: units run inside this process, over a scripted machine, and write the
 * marks that real ones write. It outlives the agent under test, as a real one does.
 */
export class ScriptedUnits implements Units {
  readonly kind: Units['kind'] = 'processes'
  /** Names of units started so far, in order. */
  readonly started: string[] = []
  readonly failedUnits = new Set<string>()
  readonly unsteadyUnits = new Set<string>()
  agent: AgentUnit = { kind: 'not-ours' }
  readonly lines = new Map<string, UnitLine[]>()
  /** Called when somebody asks for a restart of the agent, or for a boot. */
  onRestart: () => Promise<void> = async () => {}
  onReboot: () => Promise<void> = async () => {}
  /** How the program that walks back reads what was armed; a test may have it be a newer one. */
  readRecord: (folder: ArmFolder) => Promise<ArmRecord | undefined> = async folder => {
    const reading = await readArmRecord(folder)
    return reading.kind === 'armed' ? reading.record : undefined
  }
  readonly #system: System
  readonly #running = new Map<string, Running>()
  /** All that was launched and has not come to its end, also what a cut took. */
  readonly #ending = new Set<Promise<void>>()
  readonly #timers = new Map<string, { readonly unit: UnitSpec; readonly timer: NodeJS.Timeout }>()

  constructor(system: System) {
    this.#system = system
  }

  /** Timers that are set. */
  get armed(): readonly string[] {
    return [...this.#timers.keys()]
  }

  async start(unit: UnitSpec): Promise<UnitStart> {
    if (this.#running.has(unit.name) || this.#timers.has(unit.name)) return { kind: 'taken' }
    this.#launch(unit)
    return { kind: 'started' }
  }

  async startTimer({ afterMs, ...unit }: UnitSpec & { readonly afterMs: number }): Promise<UnitStart> {
    if (this.#running.has(unit.name) || this.#timers.has(unit.name)) return { kind: 'taken' }
    const timer = setTimeout(() => void this.startLoaded(unit.name), Math.min(afterMs, 2 ** 31 - 1))
    timer.unref()
    this.#timers.set(unit.name, { unit, timer })
    return { kind: 'started' }
  }

  async stopTimer(name: string): Promise<void> {
    const held = this.#timers.get(name)
    if (held) clearTimeout(held.timer)
    this.#timers.delete(name)
  }

  async startLoaded(name: string): Promise<UnitStart> {
    if (this.#running.has(name)) return { kind: 'started' }
    const held = this.#timers.get(name)
    if (!held) return { kind: 'failed', reason: `no unit ${name} is loaded` }
    await this.stopTimer(name)
    this.#launch(held.unit)
    return { kind: 'started' }
  }

  async stop(name: string) {
    const running = this.#running.get(name)
    running?.stop.abort()
    await running?.done
    return { kind: 'gone' } as const
  }

  async state(name: string) {
    return { kind: this.#running.has(name) ? 'running' : 'gone' } as const
  }

  async output(name: string, cursor: string | undefined) {
    const lines = this.lines.get(name) ?? []
    const start = Number(cursor ?? 0)
    return { lines: lines.slice(start), cursor: String(lines.length) }
  }

  async failed(): Promise<ReadonlySet<string>> {
    return new Set(this.failedUnits)
  }

  async unsteady(): Promise<ReadonlySet<string>> {
    return new Set(this.unsteadyUnits)
  }

  async jobs(): Promise<readonly string[]> {
    return []
  }

  async isActive() {
    return true
  }

  async agentUnit(): Promise<AgentUnit> {
    return this.agent
  }

  async restartAgent(): Promise<UnitStart> {
    await this.onRestart()
    return { kind: 'started' }
  }

  async reboot(): Promise<UnitStart> {
    await this.onReboot()
    return { kind: 'started' }
  }

  /** What a power cut does: nothing of what ran or waited is left, and none of it writes any more. */
  async cut(): Promise<void> {
    for (const name of this.armed) await this.stopTimer(name)
    for (const { stop } of this.#running.values()) stop.abort()
    await this.idle()
  }

  /** Waits until nothing runs. */
  async idle(): Promise<void> {
    while (this.#ending.size > 0) await Promise.all(this.#ending)
  }

  #launch(unit: UnitSpec): void {
    this.started.push(unit.name)
    const stop = new AbortController()
    const done = this.#run(unit, stop.signal).finally(() => {
      this.#running.delete(unit.name)
      this.#ending.delete(done)
    })
    this.#running.set(unit.name, { unit, done, stop })
    this.#ending.add(done)
  }

  async #run(unit: UnitSpec, signal: AbortSignal): Promise<void> {
    const own = unit.command.indexOf('return') > 0 || unit.command.indexOf('trigger') > 0
    if (own) return await this.#runOwn(unit, signal)
    const slot = (command: readonly string[] | undefined) => command?.at(-1) ?? ''
    if (unit.before) await writeStartMark(slot(unit.before), new Date(), undefined)
    const [command = '', ...args] = unit.command
    const { ending, stdout, stderr } = await this.#system.run(command, args, { deadlineMs: 60_000, signal })
    const said = `${stderr}${stdout}`.split('\n').filter(text => text !== '')
    const before = this.lines.get(unit.name) ?? []
    const journal = said.map(text => {
      const own = /^(switching to|finished switching)/.test(text)
      return { text, identifier: own ? 'nixos' : 'switch-to-configuration' }
    })
    this.lines.set(unit.name, [...before, ...journal])
    if (unit.after && !signal.aborted) await writeEndMark(slot(unit.after), environmentOf(ending), new Date())
  }

  /** The agent's own program: the same code, in this process. */
  async #runOwn(unit: UnitSpec, signal: AbortSignal): Promise<void> {
    const value = (flag: string) => unit.command[unit.command.indexOf(flag) + 1] ?? ''
    const stateDir = value('--state-dir')
    const folder = armFolder(stateDir, value('--operation'), Number(value('--round')))
    const record = await this.readRecord(folder)
    if (!record) return
    if (unit.command.includes('trigger')) {
      await startReturn(this, folder, record, stateDir)
      return
    }
    const end = await walkBack(
      { system: this.#system, units: this, say: () => {}, signal, stateDir },
      folder,
      record,
    )
    if (end !== 'nothing' && end !== 'stopped' && end.kind !== 'booting') await this.onRestart()
  }
}

function environmentOf(ending: Ending): Readonly<Record<string, string>> {
  if (ending.kind === 'exited') {
    const result = ending.exitCode === 0 ? 'success' : 'exit-code'
    return { SERVICE_RESULT: result, EXIT_CODE: 'exited', EXIT_STATUS: String(ending.exitCode) }
  }
  if (ending.kind === 'signalled') {
    return { SERVICE_RESULT: 'signal', EXIT_CODE: 'killed', EXIT_STATUS: ending.signal.replace(/^SIG/, '') }
  }
  return { SERVICE_RESULT: 'exec', EXIT_CODE: 'exited', EXIT_STATUS: '203' }
}
