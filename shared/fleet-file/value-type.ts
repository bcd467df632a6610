import { suggest } from '../suggest.ts'
import type { Path, Place, Report } from './problem.ts'
import { quote } from './problem.ts'
import type { TomlNode } from './toml-document.ts'

/** What may stand behind a key: how the reference names it, and how it is read. Undefined means reported as wrong. */
export interface ValueType<T> {
  readonly label: string
  readonly read: (node: TomlNode, path: Path, report: Report) => T | undefined
  /** Keys below this one, for the reference; `under` is the placeholder for a name that the user chooses. */
  readonly nested?: { readonly keys: Keys; readonly under?: string }
}

/** One line of the schema: all that the check and the reference know about a key. */
export interface Key<T> {
  readonly type: ValueType<T>
  readonly meaning: string
  /** A value as it is written in the file. */
  readonly example: string
  /** What holds when the key is absent, in words or as written in the file. */
  readonly fallback: string
  readonly required?: boolean
}

export type Keys = Readonly<Record<string, Key<unknown>>>

/** A value that was read, and where its key and itself stand. */
export interface Placed<T> {
  readonly value: T
  readonly at: Place
  readonly keyAt: Place
  readonly path: Path
}

type ValueOf<K> = K extends Key<infer T> ? T : never

/** What was read of a table; `broken` names the keys that stand there with a value that was refused. */
export interface TableOf<K extends Keys> {
  readonly at: Place
  readonly path: Path
  readonly values: { readonly [N in keyof K]?: Placed<ValueOf<K[N]>> }
  readonly broken: ReadonlySet<string>
}

const mostListItems = 1_000

/** Text that passes a check; the check says what would be right when it does not pass. */
export function text(
  label: string,
  check: (value: string) => string | undefined,
  convert: (value: string) => string = value => value,
): ValueType<string> {
  return {
    label,
    read: (node, path, report) => {
      if (node.kind !== 'text') return wrongKind(node, label, 'text in quotes', path, report)
      const cure = check(node.value)
      if (cure === undefined) return convert(node.value)
      report(node.at, path, `${quote(node.value)} is no ${label}: ${cure}`)
      return undefined
    },
  }
}

/** Text that matches a pattern; `cure` says in words what it asks for. */
export function pattern(
  label: string,
  shape: RegExp,
  cure: string,
  convert?: (value: string) => string,
): ValueType<string> {
  return text(label, value => (shape.test(value) ? undefined : cure), convert)
}

export function oneOf<const T extends string>(...choices: readonly T[]): ValueType<T> {
  const list = choices.map(choice => `"${choice}"`).join(', ')
  const label = choices.length === 1 ? list : `one of ${list}`
  return {
    label,
    read: (node, path, report) => {
      if (node.kind !== 'text') return wrongKind(node, 'text', label, path, report)
      const found = choices.find(choice => choice === node.value)
      if (found !== undefined) return found
      const near = suggest(node.value, choices)
      const hint = near === undefined ? '' : `; did you mean "${near}"?`
      report(node.at, path, `${quote(node.value)} is not known here, write ${label}${hint}`)
      return undefined
    },
  }
}

export function integer(label: string, least: number, most: number): ValueType<number> {
  return {
    label,
    read: (node, path, report) => {
      if (node.kind !== 'integer')
        return wrongKind(node, label, 'a whole number without quotes', path, report)
      if (node.value >= least && node.value <= most) return node.value
      report(node.at, path, `${node.value} is out of range: write a number from ${least} to ${most}`)
      return undefined
    },
  }
}

export function listOf<T>(
  item: ValueType<T>,
  label: string,
  least = 0,
  most = mostListItems,
): ValueType<readonly T[]> {
  return {
    label,
    read: (node, path, report) => {
      if (node.kind !== 'array') return wrongKind(node, label, 'a list such as ["a", "b"]', path, report)
      if (node.items.length < least || node.items.length > most) {
        report(node.at, path, `write from ${least} to ${most} items, not ${node.items.length}`)
        return undefined
      }
      const read = node.items.map((value, index) => item.read(value, [...path, String(index)], report))
      const good = read.filter(value => value !== undefined)
      return good.length === read.length ? good : undefined
    },
  }
}

/** A table whose keys the user names. */
export function mapOf<T>(
  label: string,
  checkKey: (key: string) => string | undefined,
  item: ValueType<T>,
  under?: string,
): ValueType<ReadonlyMap<string, T>> {
  return {
    label,
    ...(item.nested !== undefined && under !== undefined
      ? { nested: { keys: item.nested.keys, under } }
      : {}),
    read: (node, path, report) => {
      if (node.kind !== 'table') return wrongKind(node, label, 'a table such as { name = … }', path, report)
      const result = new Map<string, T>()
      let broken = false
      for (const [key, entry] of node.entries) {
        const cure = checkKey(key)
        if (cure !== undefined)
          report(entry.keyAt, [...path, key], `${quote(key)} cannot stand here: ${cure}`)
        const value = item.read(entry.value, [...path, key], report)
        if (cure === undefined && value !== undefined) result.set(key, value)
        else broken = true
      }
      return broken ? undefined : result
    },
  }
}

/** Says that the value is of another kind than asked for. */
export function wrongKind(
  node: TomlNode,
  label: string,
  cure: string,
  path: Path,
  report: Report,
): undefined {
  const kinds = {
    table: 'a table',
    array: 'a list',
    text: 'text',
    integer: 'a number',
    float: 'a number with a fraction',
    boolean: 'true or false',
  }
  report(node.at, path, `${kinds[node.kind]} stands where ${label} belongs: write ${cure}`)
}
