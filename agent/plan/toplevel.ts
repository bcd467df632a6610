import type { System } from '../system/system.ts'
import { type BootLoaderKind, bootLoaderOf } from './boot-loader.ts'
import { type KubernetesPart, readKubernetesPart } from './kubernetes-change.ts'
import { type Part, readLinkPart, readTextPart } from './part.ts'
import type { SystemParts } from './reboot-reasons.ts'
import { programOf } from './unit-file.ts'
import { readUnitFolder, settingsOf, type UnitFolderReading } from './unit-folder.ts'

/** The units without which a node that switches to a toplevel is lost. */
export const AGENT_UNIT = 'muster-agent.service'
export const DEAD_MAN_UNIT = 'muster-dead-man.service'

/** Files whose absence makes the switch program do the wrong thing, or nothing, without a word. */
export const NEEDED = [
  'activate',
  'init',
  'init-interface-version',
  'nixos-version',
  'system',
  'bin/switch-to-configuration',
  'systemd/lib/systemd/systemd',
  'etc/systemd/system/sysinit-reactivation.target',
] as const

/** What a needed file or a program turned out to be. */
export type Presence = 'present' | 'missing' | 'unknown'

/** A unit that must be there, and the program it runs. */
export interface NeededUnit {
  readonly unit: string
  /** `masked` by a link to /dev/null is as bad as missing. */
  readonly file: Presence | 'masked'
  /** The first word of `ExecStart=`. */
  readonly program?: string
  /** Whether that program lies in the store of this machine; `unknown` without one. */
  readonly programFile: Presence
}

/** A system in the store, as far as a plan asks: everything read, nothing judged. */
export interface Toplevel extends SystemParts {
  readonly nixosVersion: Part
  /** "x86_64-linux" and the like. */
  readonly system: Part
  readonly hostName: Part
  /** By name of `NEEDED`. */
  readonly needed: ReadonlyMap<string, Presence>
  readonly agent: NeededUnit
  readonly deadMan: NeededUnit
  readonly units: UnitFolderReading
  readonly fstab: Part
  readonly bootLoader: BootLoaderKind
  readonly kubernetes: KubernetesPart
}

/** Reads a toplevel, given by its absolute store path. What cannot be read is `unknown`, never empty. */
export async function readToplevel(system: System, path: string): Promise<Toplevel> {
  const link = (name: string) => readLinkPart(system, `${path}/${name}`)
  const text = (name: string) => readTextPart(system, `${path}/${name}`)
  const units = await readUnitFolder(system, `${path}/etc/systemd/system`)
  const needed = new Map<string, Presence>()
  for (const name of NEEDED) needed.set(name, await presenceOf(system, `${path}/${name}`))
  return {
    path,
    kernel: await link('kernel'),
    initrd: await link('initrd'),
    modules: await link('kernel-modules'),
    params: await text('kernel-params'),
    initInterface: await text('init-interface-version'),
    systemd: await link('systemd'),
    inhibitors: await text('switch-inhibitors'),
    triggers: await text('reboot-triggers'),
    nixosVersion: await text('nixos-version'),
    system: await text('system'),
    hostName: await text('etc/hostname'),
    needed,
    agent: await readNeededUnit(system, units, AGENT_UNIT),
    deadMan: await readNeededUnit(system, units, DEAD_MAN_UNIT),
    units,
    fstab: await text('etc/fstab'),
    bootLoader: await bootLoaderOf(system, path),
    kubernetes: await readKubernetesPart(system, path),
  }
}

/** The agent's unit of a toplevel, by its file and the drop-ins beside it. */
export async function readAgentUnit(system: System, path: string): Promise<NeededUnit> {
  return await readNeededUnit(system, await readUnitFolder(system, `${path}/etc/systemd/system`), AGENT_UNIT)
}

async function readNeededUnit(system: System, units: UnitFolderReading, unit: string): Promise<NeededUnit> {
  if (units.kind !== 'folder') return { unit, file: units.kind, programFile: 'unknown' }
  const entry = units.folder.units.get(unit)
  if (entry === undefined) return { unit, file: 'missing', programFile: 'unknown' }
  if (entry.kind === 'masked' || entry.kind === 'unknown') {
    return { unit, file: entry.kind, programFile: 'unknown' }
  }
  const settings = settingsOf(units.folder, unit, unit)
  const program = settings && programOf(settings)
  if (program === undefined) return { unit, file: 'present', programFile: 'unknown' }
  return { unit, file: 'present', program, programFile: await presenceOf(system, program) }
}

async function presenceOf(system: System, path: string): Promise<Presence> {
  const found = await system.exists(path)
  return found.kind === 'unreadable' ? 'unknown' : found.kind
}
