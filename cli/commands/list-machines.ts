import { escapeText } from '../../shared/escape.ts'
import { type Machine, MachineState } from '../../shared/gen/muster/v1/machine_pb.ts'
import type { SelectorError } from '../../shared/gen/muster/v1/selector_pb.ts'
import type { Cli } from '../cli.ts'
import { type Connection, withCoordinator } from '../connect.ts'
import { CliError } from '../exit-codes.ts'
import type { Format } from '../output/format.ts'
import { machineListing, pendingListing, stateWord } from '../output/machine-listing.ts'
import { renderList } from '../output/show-list.ts'
import { watch } from '../output/watch.ts'

/** More than any fleet has; bounds what is held in memory. */
const MOST_MACHINES = 200_000

export interface ListedMachines {
  readonly machines: readonly Machine[]
  readonly errors: readonly SelectorError[]
}

/** All machines that match, page by page. */
export async function fetchMachines(
  { client, call }: Connection,
  request: { readonly where?: string; readonly states?: readonly MachineState[] },
): Promise<ListedMachines> {
  const machines: Machine[] = []
  const errors: SelectorError[] = []
  for (let pageToken = ''; ; ) {
    const page = await client.listMachines(
      { where: request.where ?? '', states: [...(request.states ?? [])], pageToken },
      call,
    )
    machines.push(...page.machines)
    errors.push(...page.errors)
    pageToken = page.nextPageToken
    if (pageToken === '' || machines.length >= MOST_MACHINES) return { machines, errors }
  }
}

const isId = (machine: string) => /^[0-9a-f]{64}$/.test(machine)

/** For which machines a selector gave no answer, and why; empty when there are none. */
function selectorErrorText(errors: readonly SelectorError[]): string {
  if (errors.length === 0) return ''
  const machinesOf = new Map<string, string[]>()
  for (const { machine, reason } of errors) {
    const those = machinesOf.get(reason)
    if (those) those.push(machine)
    else machinesOf.set(reason, [machine])
  }
  const reasons = [...machinesOf]
  const lines = reasons.slice(0, 20).map(([reason, of]) => {
    const names = of.map(machine => (isId(machine) ? machine.slice(0, 12) : escapeText(machine)))
    const rest = names.length > 10 ? ` and ${names.length - 10} more` : ''
    return `selector: ${escapeText(reason)}: ${names.slice(0, 10).join(', ')}${rest}\n`
  })
  const more = reasons.length > 20 ? `selector: … and ${reasons.length - 20} reasons more\n` : ''
  const machines = new Set(errors.map(({ machine }) => machine)).size
  const count = machines === 1 ? 'one machine' : `${machines} machines`
  return `${lines.join('')}${more}an expression gave no answer for ${count}${hintOf(reasons.map(([reason]) => reason))}\n`
}

/** How to ask whether a field is there, where that is what was missing. */
function hintOf(reasons: readonly string[]): string {
  for (const reason of reasons) {
    const [found, path = ''] = /field not found: (\S+)/.exec(reason) ?? []
    if (found === undefined) continue
    const asked = /^[A-Za-z]\w*(?:\.\w+)+$/.test(path) ? path : 'labels.x'
    return `; \`has(${asked})\` asks whether it is there`
  }
  return ''
}

/** Tells for which machines a selector gave no answer. Fails when nothing is left: then it answers nothing at all. */
export function reportSelectorErrors(cli: Cli, errors: readonly SelectorError[], matched: number): void {
  if (errors.length === 0) return
  cli.io.err(selectorErrorText(errors))
  if (matched === 0)
    throw new CliError('notFound', 'nothing matches the selector, and it failed for some machines')
}

export interface ListOptions {
  readonly where?: string | undefined
  readonly state?: readonly string[] | undefined
  readonly output?: Format | undefined
  readonly watch?: number | boolean | undefined
}

export const STATE_WORDS = ['pending', 'enrolled', 'active', 'rejected', 'evicted', 'banned'] as const

function statesOf(words: readonly string[] | undefined): MachineState[] {
  return Object.values(MachineState).filter(state => words?.includes(stateWord(state)))
}

export async function listMachines(cli: Cli, options: ListOptions): Promise<void> {
  await withCoordinator(cli, async connection => {
    await watch(cli, options.watch, async () => {
      const { machines, errors } = await fetchMachines(connection, {
        where: options.where ?? '',
        states: statesOf(options.state),
      })
      const sorted = machines.toSorted(byName)
      const text = await renderList(cli.io, sorted, machineListing(cli.clock.now()), options.output)
      // What is shown again and again is one picture.
      if (options.watch) return `${text || 'no machines\n'}${selectorErrorText(errors)}`
      reportSelectorErrors(cli, errors, sorted.length)
      if (sorted.length === 0 && isForPeople(options.output)) cli.io.err('no machines\n')
      return text
    })
  })
}

/** Hosts by name, then machines without one. */
export function byName(a: Machine, b: Machine): number {
  if ((a.host === '') !== (b.host === '')) return a.host === '' ? 1 : -1
  return a.host === b.host ? (a.id < b.id ? -1 : 1) : a.host < b.host ? -1 : 1
}

export function isForPeople(format: Format | undefined): boolean {
  return format === undefined || format === 'table' || format === 'wide'
}

export async function listPending(cli: Cli, options: Omit<ListOptions, 'state' | 'where'>): Promise<void> {
  await withCoordinator(cli, async connection => {
    await watch(cli, options.watch, async () => {
      const { machines } = await fetchMachines(connection, { states: [MachineState.PENDING] })
      const oldestFirst = machines.toSorted((a, b) =>
        Number((a.firstSeen?.seconds ?? 0n) - (b.firstSeen?.seconds ?? 0n)),
      )
      const text = await renderList(cli.io, oldestFirst, pendingListing(cli.clock.now()), options.output)
      if (options.watch) return text || 'no machine is waiting\n'
      if (isForPeople(options.output)) {
        cli.io.err(
          machines.length === 0
            ? 'no machine is waiting\n'
            : 'let one in with `muster approve MACHINE [--host HOST]`, after comparing its fingerprint with its console (-o wide shows it whole)\n',
        )
      }
      return text
    })
  })
}
