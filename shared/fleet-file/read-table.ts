import { suggest } from '../suggest.ts'
import { type Path, quote, type Report } from './problem.ts'
import type { TomlNode, TomlTable } from './toml-document.ts'
import { type Key, type Keys, type Placed, type TableOf, type ValueType, wrongKind } from './value-type.ts'

/** Reads a table against its keys: unknown ones, missing ones and wrong values are all reported. */
export function readTable<K extends Keys>(
  node: TomlTable,
  path: Path,
  keys: K,
  report: Report,
  elsewhere: (key: string) => string | undefined = () => undefined,
): TableOf<K> {
  const values: Record<string, Placed<unknown>> = {}
  const broken = new Set<string>()
  for (const [name, { keyAt, value: valueNode }] of node.entries) {
    const key: Key<unknown> | undefined = Object.hasOwn(keys, name) ? keys[name] : undefined
    if (key === undefined) {
      report(keyAt, [...path, name], unknownKey(name, Object.keys(keys), elsewhere(name)))
      continue
    }
    const value = key.type.read(valueNode, [...path, name], report)
    if (value === undefined) broken.add(name)
    else values[name] = { value, at: valueNode.at, keyAt, path: [...path, name] }
  }
  for (const [name, key] of Object.entries(keys)) {
    if (key.required === true && !node.entries.has(name)) {
      report(node.at, [...path, name], `is missing: write ${name} = ${key.example}`)
      broken.add(name)
    }
  }
  // Each value was just read by the type of its own key, which is what the mapped type says of it.
  return { at: node.at, path, values: values as TableOf<K>['values'], broken }
}

/** A table with keys of its own, as the value of a key. */
export function table<K extends Keys>(label: string, keys: K): ValueType<TableOf<K>> {
  return {
    label,
    nested: { keys },
    read: (node: TomlNode, path, report) => {
      if (node.kind !== 'table') {
        const [first = 'key'] = Object.keys(keys)
        return wrongKind(
          node,
          label,
          `a table such as { ${first} = ${keys[first]?.example ?? '…'} }`,
          path,
          report,
        )
      }
      const read = readTable(node, path, keys, report)
      return read.broken.size === 0 ? read : undefined
    },
  }
}

export function unknownKey(name: string, known: readonly string[], elsewhere: string | undefined): string {
  if (elsewhere !== undefined) return `does not belong here but in ${elsewhere}`
  const near = suggest(name, known)
  const hint = near === undefined ? `known here are ${known.join(', ')}` : `did you mean ${quote(near)}?`
  return `unknown key; ${hint}`
}
