import type { UnitEntry, UnitFolder } from '../unit-folder.ts'
import type { UnitState, UnitStates } from '../unit-states.ts'

/**
 * A folder of units in memory. Values are unit texts; 'masked' and '-> NAME' stand for links. Keys may be drop-ins
 * ("a.service.d/x.conf") and wants ("multi-user.target.wants/a.service").
 */
export function unitFolder(files: Readonly<Record<string, string>>): UnitFolder {
  const units = new Map<string, UnitEntry>()
  const dropIns = new Map<string, string[]>()
  const wants = new Map<string, string[]>()
  const requires = new Map<string, string[]>()
  const push = (map: Map<string, string[]>, key: string, value: string) =>
    map.set(key, [...(map.get(key) ?? []), value])
  for (const [name, text] of Object.entries(files)) {
    const [, of = '', kind, inner = ''] = /^(.+)\.(d|wants|requires)\/(.+)$/.exec(name) ?? []
    if (kind === 'd') push(dropIns, of, text)
    else if (kind === 'wants') push(wants, of, inner)
    else if (kind === 'requires') push(requires, of, inner)
    else units.set(name, entryOf(text))
  }
  return { units, dropIns, wants, requires }
}

function entryOf(text: string): UnitEntry {
  if (text === 'masked') return { kind: 'masked' }
  if (text === 'unreadable') return { kind: 'unknown', why: 'made up' }
  const of = /^-> (.+)$/.exec(text)?.[1]
  return of === undefined ? { kind: 'file', text } : { kind: 'alias', of }
}

/** States of units that NixOS's own folder defines; "NAME" is active, "NAME failed" and so on are not. */
export function unitStates(...words: readonly string[]): UnitStates {
  return new Map(
    words.map(word => {
      const [unit = '', active = 'active', more = ''] = word.split(' ')
      const state: UnitState = {
        unit,
        load: 'loaded',
        active,
        sub: '',
        fragment: more === 'transient' ? `/run/systemd/transient/${unit}` : `/etc/systemd/system/${unit}`,
        conditionFailed: more === 'condition',
      }
      return [unit, state]
    }),
  )
}
