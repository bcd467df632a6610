import type { QueryRequest } from '../../shared/gen/muster/v1/question_pb.ts'
import { type AggregateName, readAggregate } from '../../shared/query/aggregate.ts'
import {
  type Compilation,
  type CompiledExpression,
  compileExpression,
  compileSelector,
} from '../../shared/query/expression.ts'
import { invalid } from '../../shared/rpc/rpc-error.ts'
import { compileField } from './evaluate-fleet.ts'

const MAX_SELECT = 32
const MAX_KEYS = 8
const MAX_ROWS = 1_000_000

export interface SortKey {
  /** Which of the values that are evaluated, or of the columns of groups. */
  readonly at: number
  readonly descending: boolean
}

/** A question as it was understood. */
export interface Question {
  readonly where: CompiledExpression
  /** What is evaluated of each machine that matches. */
  readonly select: readonly CompiledExpression[]
  /** Names of the columns that are told. */
  readonly columns: readonly string[]
  readonly sort: readonly SortKey[]
  /** Undefined: all. */
  readonly limit: number | undefined
  /** Undefined: a row for each machine. The first `keys` values make the group. */
  readonly groups:
    | {
        readonly keys: number
        readonly aggregates: readonly { readonly name: AggregateName; readonly at: number | undefined }[]
      }
    | undefined
}

/** Compiles a question or says which of its fields is wrong. */
export function readQuestion(request: QueryRequest): Question {
  const { select, groupBy, sort, limit } = request
  atMost('select', select.length, MAX_SELECT)
  atMost('group_by', groupBy.length, MAX_KEYS)
  atMost('sort', sort.length, MAX_KEYS)
  if (limit > MAX_ROWS) throw invalid(`limit: at most ${MAX_ROWS}`)
  const where = compileField('expression', request.expression, compileSelector)
  const columns = select.map((text, at) => readColumn(`select[${at}]`, text))
  const rest = { where, limit: limit === 0 ? undefined : limit }
  const grouped = groupBy.length > 0 || columns.some(({ aggregate }) => aggregate !== undefined)
  return grouped ? readGroups(request, columns, rest) : readRows(request, columns, rest)
}

interface Column {
  readonly text: string
  readonly aggregate: AggregateName | undefined
  /** Undefined: machines are counted. */
  readonly expression: CompiledExpression | undefined
}

function readColumn(field: string, raw: string): Column {
  const text = raw.trim()
  if (text === '') throw invalid(`${field}: is empty`)
  const reading = readAggregate(text)
  if (reading.kind === 'refused') throw invalid(`${field}: ${reading.reason}`)
  if (reading.kind === 'none') {
    return { text, aggregate: undefined, expression: compileField(field, text, compileColumn) }
  }
  const { name, argument } = reading.aggregate
  const expression = argument === undefined ? undefined : compileField(field, argument)
  return { text, aggregate: name, expression }
}

/** A comma where an expression has ended is somebody's who wants several columns. */
function compileColumn(text: string): Compilation {
  const compiled = compileExpression(text)
  return compiled.kind === 'refused' && compiled.reason.includes('found , but expecting end of input')
    ? { ...compiled, reason: `${compiled.reason}; each column is an expression of its own` }
    : compiled
}

type Rest = Pick<Question, 'where' | 'limit'>

function readRows({ sort }: QueryRequest, columns: readonly Column[], rest: Rest): Question {
  const select = columns.flatMap(({ expression }) => (expression ? [expression] : []))
  const names = columns.map(({ text }) => text)
  const keys = sort.map((raw, at) => {
    const { text, descending } = readSort(`sort[${at}]`, raw)
    const known = names.indexOf(text)
    if (known >= 0) return { at: known, descending }
    if (readAggregate(text).kind !== 'none') {
      throw invalid(`sort[${at}]: ${text} is an aggregate: select it as well`)
    }
    return { at: select.push(compileField(`sort[${at}]`, text)) - 1, descending }
  })
  return { ...rest, select, columns: names, sort: keys, groups: undefined }
}

function readGroups({ groupBy, sort }: QueryRequest, columns: readonly Column[], rest: Rest): Question {
  const keys = groupBy.map((raw, at) => {
    const column = readColumn(`group_by[${at}]`, raw)
    if (column.aggregate !== undefined || column.expression === undefined) {
      throw invalid(`group_by[${at}]: is an aggregate; groups are made of what one machine has`)
    }
    return column.expression
  })
  const texts = groupBy.map(text => text.trim())
  const select = [...keys]
  const aggregates: { name: AggregateName; at: number | undefined }[] = []
  const names = [...texts]
  for (const [at, { text, aggregate, expression }] of columns.entries()) {
    if (aggregate === undefined) {
      if (texts.includes(text)) continue
      throw invalid(
        `select[${at}]: ${text} may differ within a group: group by it as well, or take its min or max`,
      )
    }
    aggregates.push({ name: aggregate, at: expression ? select.push(expression) - 1 : undefined })
    names.push(text)
  }
  const sortKeys = sort.map((raw, at) => {
    const { text, descending } = readSort(`sort[${at}]`, raw)
    const known = names.indexOf(text)
    if (known < 0) throw invalid(`sort[${at}]: ${text} is no column of the groups: ${names.join(', ')}`)
    return { at: known, descending }
  })
  return { ...rest, select, columns: names, sort: sortKeys, groups: { keys: keys.length, aggregates } }
}

function readSort(field: string, raw: string): { readonly text: string; readonly descending: boolean } {
  const trimmed = raw.trim()
  const descending = trimmed.startsWith('-')
  const text = (descending ? trimmed.slice(1) : trimmed).trim()
  if (text === '') throw invalid(`${field}: is empty`)
  return { text, descending }
}

function atMost(field: string, count: number, most: number): void {
  if (count > most) throw invalid(`${field}: ${count} expressions, at most ${most} are allowed`)
}
