import type { MessageInitShape } from '@bufbuild/protobuf'
import { escapeText } from '../../shared/escape.ts'
import type {
  QueryEnd,
  QueryRequestSchema,
  QueryResponse,
  QueryRow,
} from '../../shared/gen/muster/v1/question_pb.ts'
import { durationFromMs } from '../../shared/time.ts'
import type { Cli } from '../cli.ts'
import { withCoordinator } from '../connect.ts'
import { CliError } from '../exit-codes.ts'
import type { Format } from '../output/format.ts'
import { startProgress } from '../output/progress.ts'
import {
  type AnswerTable,
  lineOfRow,
  nameOfRow,
  probeListing,
  queryListing,
} from '../output/query-listing.ts'
import { showList } from '../output/show-list.ts'
import { isForPeople, reportSelectorErrors } from './list-machines.ts'
import { readProbeOptions } from './probe-options.ts'

export interface QueryOptions {
  readonly select?: readonly string[] | undefined
  readonly groupBy?: readonly string[] | undefined
  readonly sort?: readonly string[] | undefined
  readonly limit?: number | undefined
  readonly live?: boolean | undefined
  readonly deadline?: number | undefined
  readonly probe?: readonly string[] | undefined
  readonly lines?: number | undefined
  readonly since?: number | undefined
  readonly stream?: boolean | undefined
  readonly output?: Format | undefined
}

const DEFAULT_DEADLINE_MS = 10_000
const MOST_ROWS = 1_000_000

/** Asks a question of the fleet: over what is stored, or of every node now. */
export async function runQuery(cli: Cli, expression: string, options: QueryOptions): Promise<void> {
  const request = requestOf(expression, options)
  const deadlineMs = options.deadline ?? DEFAULT_DEADLINE_MS
  await withCoordinator(cli, async ({ client, call }) => {
    // The coordinator ends the question by itself; this is for one that does not.
    const stream = client.query(request, { ...call, deadlineMs: deadlineMs + 30_000 })
    let table: AnswerTable = { columns: request.select, groups: false }
    const rows: QueryRow[] = []
    let end: QueryEnd | undefined
    using progress = startProgress(cli, 'answers')
    for await (const { item } of stream) {
      if (item.case === 'columns') table = { columns: item.value.names, groups: item.value.groups }
      if (item.case === 'end') end = item.value
      for (const row of rowsOf(item)) {
        if (options.stream) {
          cli.io.out(lineOfRow(row, table))
          continue
        }
        if (rows.length >= MOST_ROWS) {
          throw new CliError('error', `the answer has more than ${MOST_ROWS} rows`)
        }
        rows.push(row)
      }
      if (options.live) progress.update(`${rows.length} so far`)
    }
    progress.end()
    if (!end) {
      const kind = cli.signal.aborted ? 'interrupted' : 'unavailable'
      throw new CliError(kind, 'the answer broke off before its end')
    }
    if (!options.stream) {
      const ordered =
        table.groups || request.sort.length > 0
          ? rows
          : rows.toSorted((a, b) => (nameOfRow(a) < nameOfRow(b) ? -1 : 1))
      await showRows(cli, ordered, table, options)
    }
    conclude(cli, end, table.groups ? 0 : end.matched - rows.length, options)
  })
}

function rowsOf(item: QueryResponse['item']): readonly QueryRow[] {
  if (item.case === 'rows') return item.value.rows
  return item.case === 'row' ? [item.value] : []
}

async function showRows(
  cli: Cli,
  rows: readonly QueryRow[],
  table: AnswerTable,
  { probe, select, output }: QueryOptions,
): Promise<void> {
  // What a probe lists is a table of its own for people; programs get it whole.
  if (isForPeople(output) && probe && !select && !table.groups) {
    for (const column of table.columns) {
      const { lines, listing } = probeListing(rows, table, column)
      await showList(cli.io, lines, listing, output)
    }
    return
  }
  await showList(cli.io, rows, queryListing(table), output)
}

type Request = MessageInitShape<typeof QueryRequestSchema> & {
  readonly select: readonly string[]
  readonly sort: readonly string[]
}

function requestOf(expression: string, options: QueryOptions): Request {
  const usage = (text: string) => new CliError('usage', text)
  const { sort = [], groupBy = [], limit = 0 } = options
  const probes = readProbeOptions(options)
  const live = options.live === true || probes.length > 0
  if (options.deadline !== undefined && !live) {
    throw usage('--deadline is for --live; stored answers are there at once')
  }
  if (options.stream) {
    if (!live) throw usage('--stream is for --live; stored answers are there at once')
    if (sort.length + groupBy.length + limit > 0) {
      throw usage('--stream: rows come as nodes answer; --sort, --group-by and --limit wait for all of them')
    }
    if (options.output !== undefined && options.output !== 'json') {
      throw usage('--stream writes one JSON object a line; leave -o out, or say -o json')
    }
  }
  const select =
    options.select ?? (groupBy.length > 0 ? [] : probes.map(({ probe }) => `live.${probe.case ?? ''}`))
  return {
    expression,
    live,
    groupBy: [...groupBy],
    probes: [...probes],
    limit,
    select: [...select],
    sort: [...sort],
    ...(live ? { deadline: durationFromMs(options.deadline ?? DEFAULT_DEADLINE_MS) } : {}),
  }
}

function conclude(cli: Cli, end: QueryEnd, unseen: number, { limit, stream }: QueryOptions): void {
  const { matched, answered, asked, failed, silent } = end
  const unknown = failed > 0 ? `; for ${failed} it is not known` : ''
  cli.io.err(`${matched} match of ${answered} that answered, ${asked} were asked${unknown}\n`)
  if (limit !== undefined && !stream && unseen > 0) cli.io.err(`${unseen} more match; --limit is ${limit}\n`)
  if (silent.length > 0) {
    const names = silent.slice(0, 50).map(escapeText).join(', ')
    cli.io.err(`silent: ${names}${silent.length > 50 ? ` and ${silent.length - 50} more` : ''}\n`)
  }
  reportSelectorErrors(cli, end.errors, end.matched)
  if (silent.length > 0) {
    throw new CliError(answered === 0 ? 'unavailable' : 'partial', `${silent.length} did not answer in time`)
  }
}
