import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { compareUnits } from '../../agent/plan/compare-units.ts'
import type { UnitComparison } from '../../agent/plan/unit-changes.ts'
import { readUnitFolder, type UnitFolder } from '../../agent/plan/unit-folder.ts'
import { readUnitStates, type UnitStates } from '../../agent/plan/unit-states.ts'
import { createRootedFiles } from '../../agent/system/rooted-files.ts'
import { unstarted } from '../../agent/system/run-command.ts'
import type { System } from '../../agent/system/system.ts'
import { Switching, service, trace } from './toplevel/switching.ts'
import { SET_UP_MS, whyNoLab } from './why-not.ts'

// What a plan foretells, against what then happens to the units of a machine with a real systemd.

const why = whyNoLab()

const pair = (text: (version: string) => string) => [text('1'), text('2')] as const
const same = (text: string) => [text, text] as const
const socket = '[Socket]\nListenStream=/run/by-socket\n[Install]\nWantedBy=sockets.target'
const oneshot = ['Type=oneshot', 'ExecStart=', `ExecStart=${trace('ran')}`]

/** Each unit as it is before, and after; undefined: not there; null: masked. */
const UNITS: Readonly<Record<string, readonly [string | undefined, string | null | undefined]>> = {
  'changed.service': pair(version => service(version)),
  'restarted.service': pair(version => service(version, { lines: ['X-StopIfChanged=no'] })),
  'reloaded.service': pair(version =>
    service(version, { lines: ['X-ReloadIfChanged=yes', `ExecReload=${trace('reloaded')}`] }),
  ),
  'kept.service': pair(version => service(version, { lines: ['X-RestartIfChanged=no'] })),
  'manual.service': pair(version => service(version, { unit: ['X-OnlyManualStart=yes'] })),
  'documented.service': pair(version => service('1', { unit: [`Documentation=man:a(${version})`] })),
  'same.service': same(service('1')),
  'removed.service': [service('1'), undefined],
  'staying.service': [service('1', { unit: ['X-StopOnRemoval=no'] }), undefined],
  'masked.service': [service('1'), null],
  'template@.service': pair(version => service(version, { wanted: false })),
  'unwanted.service': pair(version => service(version, { wanted: false })),
  'by-socket.socket': same(socket),
  'by-socket.service': pair(version => service(version, { wanted: false })),
  'new.service': [undefined, service('1')],
  'behind-new.service': [undefined, service('1', { wanted: false })],
  'leads.service': [undefined, service('1', { unit: ['Wants=behind-new.service'] })],
  'stopped.service': same(service('1')),
  'again.service': same(service('1', { lines: oneshot })),
  'dependent.service': same(service('1', { unit: ['Requires=changed.service', 'After=changed.service'] })),
  'part.service': same(
    service('1', { unit: ['PartOf=changed.service', 'After=changed.service'], wanted: false }),
  ),
  'unmet.service': same(service('1', { unit: ['ConditionPathExists=/nowhere'] })),
}

const side = (index: 0 | 1) =>
  Object.fromEntries(
    Object.entries(UNITS).flatMap(([name, texts]) => {
      const text = texts[index]
      return text === undefined ? [] : [[name, text] as const]
    }),
  )

let on: Switching<'base' | 'next'>
beforeAll(async () => {
  if (why === undefined) on = await Switching.start({ base: { units: side(0) }, next: { units: side(1) } })
}, SET_UP_MS)
afterAll(async () => await on?.[Symbol.asyncDispose]())

/** The machine's commands; files are the host's, in whose store its systems were built. */
function system(): System {
  return {
    ...createRootedFiles('/'),
    run: async (command, args) => {
      const { code, signal, stdout, stderr } = await on.machine.exec([command, ...args])
      const ending =
        code === null
          ? ({ kind: 'signalled', signal: signal ?? '' } as const)
          : ({ kind: 'exited', exitCode: code } as const)
      return { ...unstarted(ending), stdout, stdoutBytes: Buffer.from(stdout), stderr }
    },
    stream: () => {
      throw new Error('a plan streams nothing')
    },
  }
}

async function folderOf(name: 'base' | 'next'): Promise<UnitFolder> {
  const reading = await readUnitFolder(system(), `${on.path[name]}/etc/systemd/system`)
  if (reading.kind !== 'folder') throw new Error(`${name}: no folder of units`)
  return reading.folder
}

async function states(): Promise<UnitStates> {
  const reading = await readUnitStates(system())
  if (reading.kind === 'unknown') throw new Error(reading.why)
  return reading.states
}

async function foretold(from: 'base' | 'next', to: 'base' | 'next'): Promise<UnitComparison> {
  return compareUnits(await folderOf(from), await folderOf(to), await states())
}

interface Seen {
  readonly up: boolean
  /** Changes with every start. */
  readonly run: string
}

async function look(): Promise<ReadonlyMap<string, Seen>> {
  const text = await on.sh("systemctl show --all --property=Id,ActiveState,InvocationID -- '*'")
  return new Map(
    text.split(/\n\n+/).map(block => {
      const value = (key: string) => new RegExp(`^${key}=(.*)$`, 'm').exec(block)?.[1] ?? ''
      return [value('Id'), { up: value('ActiveState') === 'active', run: value('InvocationID') }]
    }),
  )
}

/** What happened to each unit of the table; reloads and units that were left alone look the same. */
function happened(
  before: ReadonlyMap<string, Seen>,
  after: ReadonlyMap<string, Seen>,
): Record<string, string> {
  const names = [...Object.keys(UNITS).filter(name => !name.includes('@')), 'template@a.service']
  return Object.fromEntries(
    names.flatMap(name => {
      const [was, is] = [before.get(name), after.get(name)]
      if (was?.up && !is?.up) return [[name, 'stop']]
      if (is !== undefined && is.run !== '' && is.run !== was?.run) {
        return [[name, was?.up ? 'restart' : 'start']]
      }
      return []
    }),
  )
}

function predicted({ changes }: UnitComparison): Record<string, string> {
  const names = new Set([...Object.keys(UNITS), 'template@a.service'])
  return Object.fromEntries(
    changes
      .filter(({ unit, action }) => names.has(unit) && action !== 'keep' && action !== 'reload')
      .map(({ unit, action }) => [unit, action]),
  )
}

describe.skipIf(why !== undefined)(`a plan for a real machine ${why ?? ''}`, () => {
  it('foretells which units stop, start and restart, there and back', async () => {
    for (const [from, to] of [
      ['base', 'next'],
      ['next', 'base'],
    ] as const) {
      await on.reset(from)
      const byHand = ['unwanted.service', 'template@a.service', 'by-socket.service', 'part.service']
      await on.machine.ok(['systemctl', 'start', ...byHand])
      await on.machine.ok(['systemctl', 'stop', 'stopped.service'])
      const plan = await foretold(from, to)
      const before = await look()
      expect((await on.run('test', to)).code).toBe(0)
      const seen = happened(before, await look())
      expect(seen['part.service']).toBe('stop') // something did happen, and in no list of the program
      expect(predicted(plan), `${from} to ${to}`).toEqual(seen)
      expect(plan.unknown).toEqual([])
    }
  })

  it('names what is reloaded and what is left running though changed', async () => {
    await on.reset('base')
    const { changes } = await foretold('base', 'next')
    const units = (action: string) =>
      changes.filter(change => change.action === action && change.unit in UNITS).map(({ unit }) => unit)
    expect(units('reload')).toEqual(['reloaded.service'])
    expect(units('keep')).toEqual(['kept.service', 'manual.service', 'staying.service'])
  })

  it('says nothing of the rest of the machine when nothing changes', async () => {
    await on.reset('base')
    const { changes } = await foretold('base', 'base')
    expect(changes).toEqual([
      { unit: 'again.service', action: 'start', reason: 'runs-again', through: 'multi-user.target' },
    ])
  })
})
