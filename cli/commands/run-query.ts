import { escapeText } from '../../shared/escape.ts'
import type { QueryEnd, QueryRow } from '../../shared/gen/muster/v1/operator_pb.ts'
import { durationFromMs } from '../../shared/time.ts'
import type { Cli } from '../cli.ts'
import { withCoordinator } from '../connect.ts'
import { CliError } from '../exit-codes.ts'
import type { Format } from '../output/format.ts'
import { shortId } from '../output/machine-listing.ts'
import type { Plain } from '../output/plain.ts'
import { type Listing, showList } from '../output/show-list.ts'
import { reportSelectorErrors } from './list-machines.ts'

export interface QueryOptions {
  readonly select?: readonly string[] | undefined
  readonly live?: boolean | undefined
  readonly deadline?: number | undefined
  readonly output?: Format | undefined
}

const DEFAULT_DEADLINE_MS = 10_000
const MOST_ROWS = 200_000

/** Asks a question of the fleet: over what is stored, or of every node now. */
export async function runQuery(cli: Cli, expression: string, options: QueryOptions): Promise<void> {
  if (options.deadline !== undefined && !options.live) {
    throw new CliError('usage', '--deadline is for --live; stored answers are there at once')
  }
  const deadlineMs = options.deadline ?? DEFAULT_DEADLINE_MS
  const selects = options.select ?? []
  await withCoordinator(cli, async ({ client, call }) => {
    const rows: QueryRow[] = []
    let end: QueryEnd | undefined
    const stream = client.query(
      {
        expression,
        live: options.live ?? false,
        select: [...selects],
        ...(options.live ? { deadline: durationFromMs(deadlineMs) } : {}),
      },
      // The coordinator ends the question by itself; this is for one that does not.
      { ...call, deadlineMs: deadlineMs + 30_000 },
    )
    for await (const { item } of stream) {
      if (item.case === 'row' && rows.length < MOST_ROWS) rows.push(item.value)
      if (item.case === 'end') end = item.value
    }
    if (!end)
      throw new CliError(
        cli.signal.aborted ? 'interrupted' : 'unavailable',
        'the answer broke off before its end',
      )
    const sorted = rows.toSorted((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1))
    await showList(cli.io, sorted, queryListing(selects), options.output)
    conclude(cli, end)
  })
}

function conclude(cli: Cli, end: QueryEnd): void {
  cli.io.err(`${end.matched} match of ${end.answered} that answered, ${end.asked} were asked\n`)
  if (end.silent.length > 0) {
    const names = end.silent.slice(0, 50).map(escapeText).join(', ')
    cli.io.err(`silent: ${names}${end.silent.length > 50 ? ` and ${end.silent.length - 50} more` : ''}\n`)
  }
  reportSelectorErrors(cli, end.errors, end.matched)
  if (end.silent.length > 0) {
    throw new CliError(
      end.answered === 0 ? 'unavailable' : 'partial',
      `${end.silent.length} did not answer in time`,
    )
  }
}

function nameOf(row: QueryRow): string {
  return row.host || row.machine
}

/** What the machines said, as data; a text that is no JSON stays a text. */
function valueFrom(text: string | undefined): Plain {
  if (text === undefined) return null
  try {
    const value: Plain = JSON.parse(text)
    return value
  } catch {
    return text
  }
}

function shown(value: Plain): string {
  return value === null ? '' : typeof value === 'object' ? JSON.stringify(value) : String(value)
}

function queryListing(selects: readonly string[]): Listing<QueryRow> {
  return {
    fields: ['host', 'machine', ...selects],
    record: row => ({
      host: row.host,
      machine: row.machine,
      ...Object.fromEntries(selects.map((select, index) => [select, valueFrom(row.values[index])])),
    }),
    empty: 'nothing matches',
    columns: [
      { title: 'HOST', text: row => row.host },
      { title: 'MACHINE', text: row => shortId(row.machine) },
      ...selects.map((select, index) => ({
        title: select,
        text: (row: QueryRow) => shown(valueFrom(row.values[index])),
      })),
    ],
  }
}
