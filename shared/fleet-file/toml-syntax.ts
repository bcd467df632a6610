import type { Place } from './problem.ts'

const TWICE = 'Defining a key multiple times'

const cures: readonly (readonly [start: string, cure: string])[] = [
  ['Trailing comma', 'Nix reads TOML 1.0: remove the last comma, or write a [section] of its own'],
  [
    'No newlines are allowed between',
    'Nix reads TOML 1.0: write the table on one line, or as a [section] of its own',
  ],
  [
    'Invalid character in escape',
    "TOML 1.0 knows \\b \\t \\n \\f \\r \\\" \\\\ \\uXXXX; in 'single quotes' nothing is an escape",
  ],
  ['Must be a newline', 'write each key on a line of its own'],
  ['Unspecified values', 'write a value after the equals sign; text needs quotes'],
  ['Unexpected token', 'text needs quotes; true and false are written small'],
]

export function isDefinedTwice(message: string): boolean {
  return message.startsWith(TWICE)
}

/** What the parser says, with the cure. `first`: the line in which what is defined twice stands already. */
export function syntaxMessage(message: string, first?: number): string {
  const place = first === undefined ? 'in the file' : `in line ${first}`
  const cure = isDefinedTwice(message)
    ? `this key or table stands ${place} already; keep one of the two`
    : cures.find(([beginning]) => message.startsWith(beginning))?.[1]
  const lower = message.charAt(0).toLowerCase() + message.slice(1)
  return `no valid TOML 1.0: ${lower}${cure === undefined ? '' : ` (${cure})`}`
}

/** What the parser says at the beginning of the line after a header that is not closed. */
const AFTER_OPEN = ['The key, equals sign, and value must be on the same line', 'Unterminated table-key']
const OPEN = /^\s*(?:\[[^[\]]*|\[\[[^\]]*\]?)$/

/**
 * A mistake in the line before the place that the parser names, for it stops where that line has ended: a header such as `[hosts.x`
 * without its end, or a key without a value. Undefined: it is another mistake.
 */
export function mistakeBefore(
  text: string,
  message: string,
  { line, column }: Place,
): { readonly at: Place; readonly message: string } | undefined {
  const before = text.split('\n')[line - 2]?.trimEnd()
  if (before === undefined || column !== 1 || !AFTER_OPEN.some(said => message.startsWith(said))) {
    return undefined
  }
  const at = { line: line - 1, column: before.length + 1 }
  if (!OPEN.test(before)) return { at, message: syntaxMessage(message) }
  const end = before.trimStart().startsWith('[[') ? ']]' : ']'
  return { at, message: `no valid TOML 1.0: the name of the table is not closed (write ${end} after it)` }
}
