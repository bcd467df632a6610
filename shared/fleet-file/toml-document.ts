import { type AST, ParseError, parseTOML } from 'toml-eslint-parser'
import { type Path, type Place, quote, type Report } from './problem.ts'
import { isDefinedTwice, mistakeBefore, syntaxMessage } from './toml-syntax.ts'

/** A value of the file with the place where it stands. */
export type TomlNode = TomlTable | TomlArray | TomlText | TomlNumber | TomlBoolean

export interface TomlTable {
  readonly kind: 'table'
  readonly at: Place
  /** A Map, so that a key such as `__proto__` is a key like any other. */
  readonly entries: Map<string, TomlEntry>
}

export interface TomlEntry {
  readonly keyAt: Place
  readonly value: TomlNode
}

export interface TomlArray {
  readonly kind: 'array'
  readonly at: Place
  readonly items: TomlNode[]
}

export interface TomlText {
  readonly kind: 'text'
  readonly at: Place
  readonly lastLine: number
  readonly value: string
}

export interface TomlNumber {
  readonly kind: 'integer' | 'float'
  readonly at: Place
  readonly value: number
}

export interface TomlBoolean {
  readonly kind: 'boolean'
  readonly at: Place
  readonly value: boolean
}

const largestFileBytes = 1024 * 1024
const deepestNesting = 16

const start: Place = { line: 1, column: 1 }

/**
 * Reads TOML as the oldest supported Nix (2.8) does, and keeps the place of each key and value. What that Nix refuses
 * (dates, times, the additions of TOML 1.1) is refused here too, or a fleet file could pass the check and fail on the
 * node. What it would round or cut (integers beyond 2^53, NUL characters) is refused as well: the coordinator and the
 * flake must never read two different values. Undefined when the text could not be parsed at all.
 */
export function readToml(text: string, report: Report): TomlTable | undefined {
  if (Buffer.byteLength(text) > largestFileBytes) {
    report(start, [], `the file is larger than ${largestFileBytes} bytes; move what is long into Nix modules`)
    return undefined
  }
  if (text.startsWith('\ufeff')) {
    report(start, [], 'the file starts with a byte order mark; save it as plain UTF-8')
    return undefined
  }
  if (/\p{Surrogate}/u.test(text)) {
    report(start, [], 'the file holds half a character (a lone surrogate); save it as UTF-8')
    return undefined
  }
  const program = parse(text, report)
  if (program === undefined) return undefined
  return tableOf(program, report)
}

function tableOf(program: AST.TOMLProgram, report: Report): TomlTable {
  const root: TomlTable = { kind: 'table', at: start, entries: new Map() }
  for (const node of program.body[0].body) {
    if (node.type === 'TOMLTable') addTable(root, node, report)
    else addKeyValue(root, [], node, report)
  }
  return root
}

function parse(text: string, report: Report): AST.TOMLProgram | undefined {
  try {
    return parseTOML(text, { tomlVersion: '1.0' })
  } catch (error) {
    if (error instanceof ParseError) {
      const at = { line: error.lineNumber, column: error.column + 1 }
      const before = mistakeBefore(text, error.message, at)
      const first = isDefinedTwice(error.message) ? firstOf(text, at.line) : undefined
      report(before?.at ?? at, [], before?.message ?? syntaxMessage(error.message, first?.line))
      return undefined
    }
    // The parser puts the characters of a string on the stack: one of some hundred thousand does not fit.
    if (error instanceof RangeError) {
      report(
        start,
        [],
        'a string is too long or tables are nested too deeply; move what is long into Nix modules',
      )
      return undefined
    }
    throw error
  }
}

/** Where a key or table stands that is defined once more in this line; undefined: not found, such as within a value. */
function firstOf(text: string, line: number): Place | undefined {
  const lines = text.split('\n')
  const before = tryParse(lines.slice(0, line - 1).join('\n'))
  const [again] = tryParse(lines[line - 1] ?? '')?.body[0].body ?? []
  if (!before || !again) return undefined
  const root = tableOf(before, () => {})
  const above = before.body[0].body.findLast(node => node.type === 'TOMLTable')
  const keys = [...(again.type === 'TOMLKeyValue' ? (above?.key.keys ?? []) : []), ...again.key.keys]
  let [table, found]: [TomlTable | undefined, Place | undefined] = [root, undefined]
  for (const key of keys) {
    const entry: TomlEntry | undefined = table?.entries.get(nameOf(key))
    if (!entry) return undefined
    found = entry.keyAt
    table = tableIn(entry.value)
  }
  return found
}

function tryParse(text: string): AST.TOMLProgram | undefined {
  try {
    return parseTOML(text, { tomlVersion: '1.0' })
  } catch {
    return undefined // the text is only looked at to say more of a mistake
  }
}

function placeOf({ loc }: AST.HasLocs): Place {
  return { line: loc.start.line, column: loc.start.column + 1 }
}

function nameOf(key: AST.TOMLBare | AST.TOMLQuoted): string {
  return key.type === 'TOMLBare' ? key.name : key.value
}

function addTable(root: TomlTable, node: AST.TOMLTable, report: Report): void {
  const path = node.key.keys.slice(0, deepestNesting + 1).map(nameOf)
  const last = node.key.keys.at(-1)
  if (last === undefined || tooDeep(path, node, report)) return
  const parent = descend(root, node.key.keys.slice(0, -1))
  let table: TomlTable | undefined
  if (node.kind === 'array') {
    const list = child(parent, last, () => ({ kind: 'array', at: placeOf(last), items: [] }))
    table = { kind: 'table', at: placeOf(last), entries: new Map() }
    if (list.kind === 'array') list.items.push(table)
  } else {
    table = tableIn(child(parent, last, () => emptyTable(placeOf(last))))
  }
  for (const pair of node.body) addKeyValue(table, path, pair, report)
}

function addKeyValue(table: TomlTable, above: Path, node: AST.TOMLKeyValue, report: Report): void {
  const path = [...above, ...node.key.keys.slice(0, deepestNesting + 1).map(nameOf)]
  const last = node.key.keys.at(-1)
  if (last === undefined || tooDeep(path, node, report)) return
  const value = readValue(node.value, path, report)
  const parent = descend(table, node.key.keys.slice(0, -1))
  if (value !== undefined) parent.entries.set(checkedKey(last, path, report), { keyAt: placeOf(last), value })
}

function tooDeep(path: Path, node: AST.HasLocs, report: Report): boolean {
  if (path.length <= deepestNesting) return false
  report(placeOf(node), path.slice(0, 3), `tables may be nested at most ${deepestNesting} deep`)
  return true
}

function checkedKey(key: AST.TOMLBare | AST.TOMLQuoted, path: Path, report: Report): string {
  const name = nameOf(key)
  if (name.includes('\0')) report(placeOf(key), path, 'a key may not contain a NUL character')
  return name
}

function emptyTable(at: Place): TomlTable {
  return { kind: 'table', at, entries: new Map() }
}

function descend(table: TomlTable, keys: readonly (AST.TOMLBare | AST.TOMLQuoted)[]): TomlTable {
  return keys.reduce((parent, key) => tableIn(child(parent, key, () => emptyTable(placeOf(key)))), table)
}

function child(table: TomlTable, key: AST.TOMLBare | AST.TOMLQuoted, make: () => TomlNode): TomlNode {
  const found = table.entries.get(nameOf(key))
  if (found !== undefined) return found.value
  const value = make()
  table.entries.set(nameOf(key), { keyAt: placeOf(key), value })
  return value
}

/** The table that a header continues: of an array of tables its last. The parser has refused everything else before. */
function tableIn(node: TomlNode): TomlTable {
  if (node.kind === 'table') return node
  const last = node.kind === 'array' ? node.items.at(-1) : undefined
  return last?.kind === 'table' ? last : emptyTable(node.at)
}

function readValue(node: AST.TOMLContentNode, path: Path, report: Report): TomlNode | undefined {
  const at = placeOf(node)
  if (path.length > deepestNesting) {
    tooDeep(path, node, report)
    return undefined
  }
  if (node.type === 'TOMLInlineTable') {
    const table = emptyTable(at)
    for (const pair of node.body) addKeyValue(table, path, pair, report)
    return table
  }
  if (node.type === 'TOMLArray') {
    const items: TomlNode[] = []
    for (const [index, element] of node.elements.entries()) {
      const item = readValue(element, [...path, String(index)], report)
      if (item !== undefined) items.push(item)
    }
    return { kind: 'array', at, items }
  }
  return readScalar(node, at, path, report)
}

function readScalar(node: AST.TOMLValue, at: Place, path: Path, report: Report): TomlNode | undefined {
  switch (node.kind) {
    case 'string':
      if (node.value.includes('\0')) {
        report(at, path, 'text may not contain a NUL character; Nix would cut it there')
        return undefined
      }
      return { kind: 'text', at, lastLine: node.loc.end.line, value: node.value }
    case 'boolean':
      return { kind: 'boolean', at, value: node.value }
    case 'integer':
      if (!Number.isSafeInteger(node.value)) {
        report(
          at,
          path,
          'the number is beyond 2^53, where not every program reads the same value; write it as text',
        )
        return undefined
      }
      return { kind: 'integer', at, value: node.value }
    case 'float':
      if (!Number.isFinite(node.value)) {
        report(at, path, 'the number is not finite, or too large to be kept; write it as text')
        return undefined
      }
      return { kind: 'float', at, value: node.value }
    case 'offset-date-time':
    case 'local-date-time':
    case 'local-date':
    case 'local-time':
      report(at, path, `Nix reads no dates and times from TOML; write it as text: ${quote(node.datetime)}`)
      return undefined
  }
}
