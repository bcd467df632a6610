import type { CelValue } from '@bufbuild/cel'
import { celToJson } from '../../shared/query/cel-to-json.ts'
import { exhausted } from '../../shared/rpc/rpc-error.ts'
import { Sum } from './add-up.ts'
import { compareOrdered, orderedOf } from './order-values.ts'
import type { Question } from './read-question.ts'

const MAX_GROUPS = 10_000

export interface Row {
  /** Host or id; empty for a group. */
  readonly name: string
  readonly machine: string
  readonly host: string
  readonly values: readonly (CelValue | undefined)[]
}

/** A value that could not be used, and in which column. */
export interface Unusable {
  readonly column: string
  readonly reason: string
}

/** Gathers the rows of an answer until they can be told in their order. */
export interface Arranger {
  /** Takes in a machine that matches; what of it could not be used is told. */
  add(row: Row): readonly Unusable[]
  /** Rows in their order, as many as were asked for. */
  rows(): readonly Row[]
}

export function arranger(question: Question): Arranger {
  return question.groups ? groupArranger(question, question.groups) : rowArranger(question)
}

function rowArranger({ sort, limit, columns }: Question): Arranger {
  const rows: Row[] = []
  return {
    add(row) {
      rows.push(row)
      return []
    },
    rows: () =>
      sortRows(rows, sort)
        .slice(0, limit)
        .map(row => ({ ...row, values: row.values.slice(0, columns.length) })),
  }
}

function groupArranger({ sort, limit, select }: Question, groups: NonNullable<Question['groups']>): Arranger {
  const { keys, aggregates } = groups
  const found = new Map<string, { readonly key: readonly (CelValue | undefined)[]; readonly sums: Sum[] }>()
  const groupOf = (key: readonly (CelValue | undefined)[]) => {
    const name = JSON.stringify(key.map(value => (value === undefined ? [] : [celToJson(value)])))
    const known = found.get(name)
    if (known) return known
    if (found.size >= MAX_GROUPS) {
      throw exhausted(`group_by: there are more than ${MAX_GROUPS} groups`)
    }
    const group = { key, sums: aggregates.map(({ name: aggregate }) => new Sum(aggregate)) }
    found.set(name, group)
    return group
  }
  // Without keys there is one group, also of no machines: nothing counted is a zero.
  if (keys === 0) groupOf([])
  return {
    add({ values }) {
      const { sums } = groupOf(values.slice(0, keys))
      return aggregates.flatMap(({ name, at }, index) => {
        const sum = sums[index]
        if (at === undefined) sum?.addOne()
        const reason = at === undefined ? undefined : sum?.add(values[at])
        return reason === undefined || at === undefined
          ? []
          : [{ column: `${name}(${select[at]?.text ?? ''})`, reason }]
      })
    },
    rows() {
      const rows = [...found.values()].map(({ key, sums }) => ({
        name: '',
        machine: '',
        host: '',
        values: [...key, ...sums.map(({ value }) => value)],
      }))
      const byKey = Array.from({ length: keys }, (_, at) => ({ at, descending: false }))
      return sortRows(rows, [...sort, ...byKey]).slice(0, limit)
    },
  }
}

/** What is equal in all keys stands by name, so that the same question has the same answer. */
function sortRows(rows: readonly Row[], sort: Question['sort']): Row[] {
  const keyed = rows.map(row => ({ row, keys: sort.map(({ at }) => orderedOf(row.values[at])) }))
  keyed.sort((a, b) => {
    for (let index = 0; index < sort.length; index++) {
      const order = compareOrdered(a.keys[index], b.keys[index], sort[index]?.descending ?? false)
      if (order !== 0) return order
    }
    // Hosts by name, then machines that are none.
    const unnamed = Number(a.row.host === '') - Number(b.row.host === '')
    return unnamed !== 0 ? unnamed : a.row.name < b.row.name ? -1 : a.row.name > b.row.name ? 1 : 0
  })
  return keyed.map(({ row }) => row)
}
