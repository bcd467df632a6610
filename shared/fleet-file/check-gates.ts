import { SAFETY_BOUNDS } from '../revision/safety-bounds.ts'
import { suggest } from '../suggest.ts'
import { probeKinds } from './gate-probe.ts'
import { quote, type Report } from './problem.ts'
import type { GateTable, Sections } from './read-sections.ts'

/** Says what is wrong with a file of the fleet directory; undefined when nothing is. */
export type CheckFile = (path: string) => string | undefined

/** Looks at what gates name; absent where nobody has the directory. */
interface Files {
  readonly checkScript?: CheckFile
  readonly checkJob?: CheckFile
}

/** Checks that every gate asks one thing, that those which are named exist, and that each is named somewhere. */
export function checkGates(sections: Sections, report: Report, files: Files): void {
  for (const gate of sections.gates.values()) checkGate(gate, report, files)
  const used = checkNames(sections, report)
  for (const { name, nameAt, table } of sections.gates.values()) {
    if (used.has(name)) continue
    const where = isOfClusters(table) ? 'a cluster' : '[defaults], a group or a host'
    const cure = `write gates = [${quote(name)}] in ${where}`
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

const isOfClusters = ({ values, broken }: GateTable['table']): boolean =>
  values.job !== undefined || broken.has('job')

function checkGate({ name, nameAt, table }: GateTable, report: Report, files: Files): void {
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
  const { script, job, deadline } = values
  const { most } = SAFETY_BOUNDS.jobDeadlineMs
  if (job !== undefined && deadline !== undefined && deadline.value > most) {
    const text = `is too long for a Job: a drained host waits for it; write at most ${most / 60_000}m`
    report(deadline.at, deadline.path, text)
  }
  for (const [file, check] of [
    [script, files.checkScript],
    [job, files.checkJob],
  ] as const) {
    const wrong = file && check?.(file.value)
    if (file !== undefined && wrong !== undefined)
      report(file.at, file.path, `${quote(file.value)} cannot be run: ${wrong}`)
  }
}

/** The names of gates that are used; those that are not defined, or stand twice in a list, are reported. */
function checkNames(sections: Sections, report: Report): ReadonlySet<string> {
  const used = new Set<string>()
  const tables = [
    ...(sections.defaults ? [sections.defaults] : []),
    ...[...sections.groups.values(), ...sections.hosts.values()].map(({ table }) => table),
  ]
  const clusters = [...sections.clusters.values()]
  const lists = [
    ...tables.map(({ values }) => ({ gates: values.gates, ofCluster: false })),
    ...clusters.map(({ table: { values } }) => ({ gates: values.gates, ofCluster: true })),
  ]
  const known = [...sections.gates.keys()].slice(0, 1_000)
  for (const { gates, ofCluster } of lists) {
    if (gates === undefined) continue
    for (const [index, name] of gates.value.entries()) {
      used.add(name)
      const path = [...gates.path, String(index)]
      if (gates.value.indexOf(name) < index)
        report(gates.at, path, `${quote(name)} stands twice in this list`)
      const gate = sections.gates.get(name)
      if (gate && ofCluster !== isOfClusters(gate.table)) {
        const cure = ofCluster
          ? 'a cluster is asked by a gate with job; name it in [defaults], a group or a host'
          : 'a Job is asked of a whole cluster; name it in [clusters.NAME]'
        report(gates.at, path, `${quote(name)} asks something else: ${cure}`)
      }
      if (gate) continue
      const near = suggest(name, known)
      const hint = near === undefined ? `write [gates.${name}] to define it` : `did you mean ${quote(near)}?`
      report(gates.at, path, `no gate ${quote(name)} is defined; ${hint}`)
    }
  }
  return used
}
