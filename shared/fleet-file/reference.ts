import { sections } from './schema.ts'
import type { Key, Keys } from './value-type.ts'

/** One key as the reference shows it, with the sections in which it may stand. */
export interface ReferenceLine {
  readonly sections: readonly string[]
  readonly key: string
  readonly line: Key<unknown>
}

/** All keys of the schema. A key that several sections take in the same way is one line. */
export function referenceLines(): readonly ReferenceLine[] {
  const lines: { sections: string[]; key: string; line: Key<unknown> }[] = []
  for (const section of sections) {
    for (const { key, line } of flatten(section.keys)) {
      const known = lines.find(other => other.key === key && other.line === line)
      if (known === undefined) lines.push({ sections: [section.name], key, line })
      else known.sections.push(section.name)
    }
  }
  return lines
}

function flatten(keys: Keys, above = ''): { readonly key: string; readonly line: Key<unknown> }[] {
  return Object.entries(keys).flatMap(([name, line]) => {
    const { nested } = line.type
    const below = nested && flatten(nested.keys, `${above}${name}.${nested.under ? `${nested.under}.` : ''}`)
    return [{ key: `${above}${name}`, line }, ...(below ?? [])]
  })
}

/** The row of a key in a table of docs/reference/fleet-file.md. */
export function referenceRow({ sections, key, line }: ReferenceLine): string {
  const where = sections.map(section => `\`${section}\``).join(' ')
  return `| \`${key}\` | ${where} | ${line.type.label} | ${line.fallback} | ${line.meaning} | \`${line.example}\` |`
}
