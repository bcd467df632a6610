import { resolve } from 'node:path'
import { DEFAULT_STATE_DIR } from '../config.ts'
import type { System } from '../system/system.ts'
import { mountUnit, parseFstab } from './compare-fstab.ts'
import { knownValue } from './part.ts'
import { AGENT_UNIT, DEAD_MAN_UNIT, type Toplevel } from './toplevel.ts'
import { settingOf, wordsOf } from './unit-file.ts'
import { settingsOf } from './unit-folder.ts'

const MAX_BYTES = 1024 * 1024
const MAX_LINKS = 8
/** A bind mount of a bind mount of a bind mount. */
const MAX_DEPTH = 4

/** What a system says is mounted at one place. */
interface StateMount {
  readonly device: string
  /** Of btrfs; empty: none is named. */
  readonly subvolume: string
  readonly bind: boolean
}

/**
 * Why the agent of a target would not find the state of the one that runs; undefined: it would, as far as can be told. Without
 * it a new agent is a stranger, and the dead man finds nothing armed: nobody would take the machine back.
 */
export async function whyStateMoves(
  system: System,
  current: Toplevel | undefined,
  target: Toplevel,
  stateDir: string,
): Promise<string | undefined> {
  for (const unit of [AGENT_UNIT, DEAD_MAN_UNIT]) {
    const named = await stateOf(system, target, unit)
    if (named !== undefined && named !== stateDir) {
      return `${unit} of ${target.path} looks for the agent's state in ${named}, and it is in ${stateDir}`
    }
  }
  if (current === undefined) return undefined
  return await whyMounted(system, current, target, stateDir, MAX_DEPTH)
}

/** The folder that a unit of a target is told of, by its command line or by the file that this names. */
async function stateOf(system: System, { path, units }: Toplevel, unit: string): Promise<string | undefined> {
  const settings = units.kind === 'folder' ? settingsOf(units.folder, unit, unit) : undefined
  const command = settings && settingOf(settings, 'Service', 'ExecStart')
  const said = /\s--state-dir[= ](\S+)/.exec(command ?? '')?.[1]
  if (said !== undefined) return resolve(said)
  const config = /\s--config[= ](\/\S+)/.exec(command ?? '')?.[1]
  if (config === undefined) return undefined
  // What lies in /etc comes with the system; one that a person keeps there is none of its own, and stays.
  const reading = await system.readFile(config.startsWith('/etc/') ? `${path}${config}` : config, MAX_BYTES)
  if (reading.kind !== 'file') return undefined
  try {
    const fields = new Map<string, unknown>(Object.entries(JSON.parse(reading.bytes.toString('utf8')) ?? {}))
    const named = fields.get('stateDir')
    return typeof named === 'string' ? resolve(named) : DEFAULT_STATE_DIR
  } catch {
    return undefined // no configuration: its agent does not start, and the dead man is told to the old one
  }
}

/** Why other file systems would be mounted above a folder than now. */
async function whyMounted(
  system: System,
  current: Toplevel,
  target: Toplevel,
  folder: string,
  depth: number,
): Promise<string | undefined> {
  const [before, after] = [mountsAbove(current, folder), mountsAbove(target, folder)]
  const mounted = await mountedNow(system)
  for (const point of new Set([...before.keys(), ...after.keys()])) {
    const [old, now] = [before.get(point), after.get(point)]
    const isMounted = mounted?.has(point) ?? true
    if (old === undefined && now !== undefined) {
      // One that a person has mounted already is what the state lies on.
      if (point !== '/' && !(mounted?.has(point) ?? false)) {
        return `${target.path} mounts ${now.device} on ${point}, over the agent's state in ${folder}: mount it there and move the state to it first`
      }
    } else if (old !== undefined && now === undefined) {
      if (point !== '/' && isMounted) {
        return `${target.path} mounts nothing on ${point}, where the agent's state in ${folder} lies: move the state first`
      }
    } else if (old !== undefined && now !== undefined && (await areOther(system, old, now))) {
      return `${target.path} mounts ${describe(now)} on ${point} in the place of ${describe(old)}, where the agent's state in ${folder} lies: move the state first`
    }
    if (now?.bind && depth > 0) {
      const below = await whyMounted(system, current, target, now.device, depth - 1)
      if (below !== undefined) return below
    }
  }
  return undefined
}

const describe = ({ device, subvolume }: StateMount) =>
  subvolume === '' ? device : `${device} (subvolume ${subvolume})`

/** What a system mounts at a folder and at those above it, from its fstab and its own units. */
function mountsAbove({ fstab, units }: Toplevel, folder: string): ReadonlyMap<string, StateMount> {
  const listed = parseFstab(knownValue(fstab) ?? '')
  const found = new Map<string, StateMount>()
  for (const point of placesAbove(folder)) {
    const line = listed.get(point)
    const unit =
      units.kind === 'folder' ? settingsOf(units.folder, mountUnit(point), mountUnit(point)) : undefined
    const device = line?.device ?? (unit && settingOf(unit, 'Mount', 'What'))
    if (device === undefined) continue
    const options = (line?.options ?? (unit ? wordsOf(unit, 'Mount', 'Options').join(',') : '')).split(',')
    if (options.includes('noauto')) continue
    const subvolume = options.find(option => /^subvol(id)?=/.test(option)) ?? ''
    found.set(point, {
      device: unescaped(device),
      subvolume: subvolume.replace(/^subvol=\/*/, ''),
      bind: options.includes('bind') || options.includes('rbind'),
    })
  }
  return found
}

function placesAbove(folder: string): readonly string[] {
  const parts = folder.split('/').filter(Boolean)
  return ['/', ...parts.map((_, at) => `/${parts.slice(0, at + 1).join('/')}`)]
}

/** One disk has many names. One that names none now is another. */
async function areOther(system: System, before: StateMount, after: StateMount): Promise<boolean> {
  if (before.subvolume !== after.subvolume) return true
  if (before.device === after.device) return false
  const [old, now] = [await realDevice(system, before.device), await realDevice(system, after.device)]
  return old !== now
}

const TAGS = new Map([
  ['UUID', 'by-uuid'],
  ['LABEL', 'by-label'],
  ['PARTUUID', 'by-partuuid'],
  ['PARTLABEL', 'by-partlabel'],
])

async function realDevice(system: System, device: string): Promise<string> {
  const tag = /^([A-Z]+)="?([^"]+)"?$/.exec(device)
  const folder = TAGS.get(tag?.[1] ?? '')
  let here = folder === undefined ? device : `/dev/disk/${folder}/${tag?.[2] ?? ''}`
  for (let links = 0; here.startsWith('/dev/') && links < MAX_LINKS; links++) {
    const link = await system.readLink(here)
    if (link.kind !== 'link') break
    here = resolve(here, '..', link.target)
  }
  return here
}

/** Places on which something is mounted; undefined: cannot be read. */
async function mountedNow(system: System): Promise<ReadonlySet<string> | undefined> {
  const reading = await system.readFile('/proc/mounts', MAX_BYTES)
  if (reading.kind !== 'file' || reading.truncated) return undefined
  const lines = reading.bytes.toString('utf8').split('\n')
  return new Set(lines.flatMap(line => line.split(' ')[1] ?? []).map(unescaped))
}

/** Blanks and backslashes are written as octal numbers. */
const unescaped = (text: string) =>
  text.replaceAll(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))
