import { suggest } from '../suggest.ts'
import { findCircle } from './find-circle.ts'
import { hostLayers, pick } from './layers.ts'
import { quote, type Report } from './problem.ts'
import type { Sections } from './read-sections.ts'
import type { Placed } from './value-type.ts'

/** Checks that what rollouts are told of hosts and clusters exists, fits together and leads in no circle. */
export function checkRollout(sections: Sections, report: Report): void {
  const { rollout, hosts, clusters } = sections
  const known = (
    placed: Placed<readonly string[]> | undefined,
    names: ReadonlyMap<string, unknown>,
    kind: string,
  ) => {
    for (const name of placed?.value ?? []) {
      if (names.has(name)) continue
      const near = suggest(name, [...names.keys()].slice(0, 1_000))
      const hint =
        near === undefined ? `write [${kind}s.${name}] to define it` : `did you mean ${quote(near)}?`
      if (placed) report(placed.at, placed.path, `no ${kind} ${quote(name)} is defined; ${hint}`)
    }
  }
  known(rollout?.values.canaries, hosts, 'host')
  for (const { table } of [...hosts.values(), ...sections.groups.values()])
    known(table.values.after, hosts, 'host')
  for (const { table } of clusters.values()) known(table.values.after, clusters, 'cluster')
  const most = rollout?.values['max-failures']
  if (most && rollout?.values['on-failure']?.value !== 'continue' && !rollout?.broken.has('on-failure')) {
    report(most.keyAt, most.path, 'has no effect without on-failure = "continue": write that, or remove it')
  }
  const hostEdges = new Map(
    [...hosts.values()].map(host => [host.name, pick(hostLayers(sections, host), 'after').found]),
  )
  reportCircle(hostEdges, 'host', report)
  reportCircle(
    new Map([...clusters.values()].map(({ name, table }) => [name, table.values.after])),
    'cluster',
    report,
  )
}

/** A circle would make a rollout wait for ever, so it is found before anything is published. */
function reportCircle(
  edges: ReadonlyMap<string, Placed<readonly string[]> | undefined>,
  kind: string,
  report: Report,
): void {
  const circle = findCircle(new Map([...edges].map(([name, placed]) => [name, placed?.value ?? []])))
  const [first] = circle ?? []
  const placed = first === undefined ? undefined : edges.get(first)
  if (circle === undefined || placed === undefined) return
  const way = [...circle, circle[0]].join(' after ')
  report(placed.at, placed.path, `leads in a circle, in which no ${kind} could be the first: ${way}`)
}
