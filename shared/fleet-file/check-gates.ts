import { probeKinds } from './gate-probe.ts'
import { quote, type Report } from './problem.ts'
import type { GateTable, Sections } from './read-sections.ts'
import { suggest } from './suggest.ts'

/** Says what is wrong with a script of the fleet directory; undefined when nothing is. */
export type CheckScript = (path: string) => string | undefined

/** Checks that every gate asks one thing, that those which are named exist, and that each is named somewhere. */
export function checkGates(sections: Sections, report: Report, checkScript: CheckScript | undefined): void {
  for (const gate of sections.gates.values()) checkGate(gate, report, checkScript)
  const used = checkNames(sections, report)
  for (const { name, nameAt, table } of sections.gates.values()) {
    if (used.has(name)) continue
    const cure = `write gates = [${quote(name)}] in [defaults], a group or a host`
    report(nameAt, table.path, `asks nobody: ${cure}`, 'warning')
  }
}

/** Keys that mean something beside one kind only. */
const companions = [
  ['status', 'http'],
  ['contains', 'http'],
  ['free', 'disk'],
  ['arguments', 'script'],
] as const

function checkGate(
  { name, nameAt, table }: GateTable,
  report: Report,
  checkScript: CheckScript | undefined,
): void {
  const { values, broken, path } = table
  const has = (key: keyof typeof values) => values[key] !== undefined || broken.has(key)
  const [first, ...others] = probeKinds.filter(has)
  if (first === undefined) report(nameAt, path, `asks nothing: write one of ${probeKinds.join(', ')}`)
  for (const other of others) {
    const placed = values[other]
    const text = `a gate asks one thing, and ${first} stands in ${quote(name)} already; give it a gate of its own`
    report(placed?.keyAt ?? nameAt, [...path, other], text)
  }
  for (const [key, kind] of companions) {
    const placed = values[key]
    if (placed !== undefined && !has(kind)) {
      report(
        placed.keyAt,
        placed.path,
        `has no effect without ${kind}: write ${kind} beside it, or remove it`,
      )
    }
  }
  if (values.disk !== undefined && !has('free')) {
    report(values.disk.keyAt, [...path, 'free'], 'is missing: write free = "2 GiB" beside disk')
  }
  const { script } = values
  const wrong = script && checkScript?.(script.value)
  if (script !== undefined && wrong !== undefined) {
    report(script.at, script.path, `${quote(script.value)} cannot be run: ${wrong}`)
  }
}

/** The names of gates that are used; those that are not defined, or stand twice in a list, are reported. */
function checkNames(sections: Sections, report: Report): ReadonlySet<string> {
  const used = new Set<string>()
  const tables = [
    ...(sections.defaults ? [sections.defaults] : []),
    ...[...sections.groups.values(), ...sections.hosts.values()].map(({ table }) => table),
  ]
  const known = [...sections.gates.keys()].slice(0, 1_000)
  for (const { values } of tables) {
    const { gates } = values
    if (gates === undefined) continue
    for (const [index, name] of gates.value.entries()) {
      used.add(name)
      const path = [...gates.path, String(index)]
      if (gates.value.indexOf(name) < index)
        report(gates.at, path, `${quote(name)} stands twice in this list`)
      if (sections.gates.has(name)) continue
      const near = suggest(name, known)
      const hint = near === undefined ? `write [gates.${name}] to define it` : `did you mean ${quote(near)}?`
      report(gates.at, path, `no gate ${quote(name)} is defined; ${hint}`)
    }
  }
  return used
}
