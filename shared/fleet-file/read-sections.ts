import { type Place, quote, type Report } from './problem.ts'
import { readTable, unknownKey } from './read-table.ts'
import {
  clusterKeys,
  defaultsKeys,
  fleetKeys,
  gateKeys,
  groupKeys,
  hostKeys,
  rolloutKeys,
  sectionsOf,
} from './schema.ts'
import { nameProblem } from './text-types.ts'
import type { TomlTable } from './toml-document.ts'
import { type Keys, type TableOf, wrongKind } from './value-type.ts'

const mostHosts = 10_000
const mostNames = 1_000

/** A table that the user named, such as [hosts.olaf]. */
export interface Named<K extends Keys> {
  readonly name: string
  readonly nameAt: Place
  readonly table: TableOf<K>
}

export type HostTable = Named<typeof hostKeys>
export type GroupTable = Named<typeof groupKeys>
export type ClusterTable = Named<typeof clusterKeys>
export type GateTable = Named<typeof gateKeys>

/** The file, each section read for itself; what ties sections together is checked afterwards. */
export interface Sections {
  readonly fleet: TableOf<typeof fleetKeys> | undefined
  readonly defaults: TableOf<typeof defaultsKeys> | undefined
  readonly groups: ReadonlyMap<string, GroupTable>
  readonly hosts: ReadonlyMap<string, HostTable>
  readonly clusters: ReadonlyMap<string, ClusterTable>
  readonly gates: ReadonlyMap<string, GateTable>
  readonly rollout: TableOf<typeof rolloutKeys> | undefined
}

const known = ['fleet', 'defaults', 'clusters', 'groups', 'hosts', 'gates', 'rollout']

export function readSections(root: TomlTable, report: Report): Sections {
  for (const [name, { keyAt }] of root.entries) {
    if (!known.includes(name)) report(keyAt, [name], unknownKey(name, known, sectionsOf(name)))
  }
  const fleet = sectionTable(root, 'fleet', report)
  if (!root.entries.has('fleet')) {
    report(
      { line: 1, column: 1 },
      ['fleet'],
      'is missing: write [fleet] with name and id; "muster init" makes one',
    )
  }
  const defaults = sectionTable(root, 'defaults', report)
  const rollout = sectionTable(root, 'rollout', report)
  return {
    fleet: fleet && readTable(fleet, ['fleet'], fleetKeys, report, sectionsOf),
    defaults: defaults && readTable(defaults, ['defaults'], defaultsKeys, report, sectionsOf),
    clusters: readNamed(root, 'clusters', clusterKeys, mostNames, report),
    groups: readNamed(root, 'groups', groupKeys, mostNames, report),
    hosts: readNamed(root, 'hosts', hostKeys, mostHosts, report),
    gates: readNamed(root, 'gates', gateKeys, mostNames, report),
    rollout: rollout && readTable(rollout, ['rollout'], rolloutKeys, report, sectionsOf),
  }
}

function sectionTable(root: TomlTable, name: string, report: Report): TomlTable | undefined {
  const value = root.entries.get(name)?.value
  if (value === undefined || value.kind === 'table') return value
  return wrongKind(value, `the section ${name}`, `[${name}] and its keys below`, [name], report)
}

function readNamed<K extends Keys>(
  root: TomlTable,
  section: string,
  keys: K,
  most: number,
  report: Report,
): ReadonlyMap<string, Named<K>> {
  const result = new Map<string, Named<K>>()
  const tables = sectionTable(root, section, report)
  if (tables === undefined) return result
  if (tables.entries.size > most) {
    report(
      tables.at,
      [section],
      `holds ${tables.entries.size} tables, more than the ${most} that one fleet may have`,
    )
    return result
  }
  const lowered = new Map<string, string>()
  for (const [name, { keyAt, value }] of tables.entries) {
    const path = [section, name]
    const cure = nameProblem(name)
    if (cure !== undefined) report(keyAt, path, `${quote(name)} cannot be a name: ${cure}`)
    const twin = lowered.get(name.toLowerCase())
    if (twin !== undefined) {
      report(
        keyAt,
        path,
        `differs from ${quote(twin)} only in capital letters, which names do not tell apart`,
      )
    }
    lowered.set(name.toLowerCase(), name)
    if (value.kind === 'table') {
      result.set(name, { name, nameAt: keyAt, table: readTable(value, path, keys, report, sectionsOf) })
    } else {
      // A key directly in [hosts] mostly belongs into one of the tables below it.
      const hint = Object.hasOwn(keys, name) ? `; the key ${name} belongs in [${section}.NAME]` : ''
      wrongKind(value, `a table`, `[${section}.NAME] and its keys below${hint}`, path, report)
    }
  }
  return result
}
