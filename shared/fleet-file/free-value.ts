import type { TomlNode } from './toml-document.ts'
import { type ValueType, wrongKind } from './value-type.ts'

/** What TOML can say without dates: the free part of a fleet file, as plain data. */
export type FreeValue = string | number | boolean | readonly FreeValue[] | FreeTable
export interface FreeTable {
  readonly [key: string]: FreeValue
}

/** A table that is handed on as it is. */
export const freeTable: ValueType<FreeTable> = {
  label: 'table with any keys',
  read: (node, path, report) =>
    node.kind === 'table' ? plainTable(node.entries) : wrongKind(node, 'a table', 'a table', path, report),
}

function plainTable(entries: ReadonlyMap<string, { readonly value: TomlNode }>): FreeTable {
  return tableOf([...entries].map(([key, { value }]) => [key, plainValue(value)]))
}

function plainValue(node: TomlNode): FreeValue {
  if (node.kind === 'table') return plainTable(node.entries)
  return node.kind === 'array' ? node.items.map(plainValue) : node.value
}

/** An object without a prototype, in which `__proto__` and `constructor` are keys like any other. */
function tableOf(entries: Iterable<readonly [string, FreeValue]>): FreeTable {
  const result: Record<string, FreeValue> = Object.create(null)
  for (const [key, value] of entries) result[key] = value
  return result
}

function isTable(value: FreeValue | undefined): value is FreeTable {
  return typeof value === 'object' && !Array.isArray(value)
}

/** Lays one table over another: tables are merged key by key, everything else is replaced whole. */
export function mergeFree(under: FreeTable, over: FreeTable): FreeTable {
  const merged = new Map(Object.entries(under))
  for (const [key, value] of Object.entries(over)) {
    const below = merged.get(key)
    merged.set(key, isTable(below) && isTable(value) ? mergeFree(below, value) : value)
  }
  return tableOf(merged)
}
