import { type AST, parseTOML } from 'toml-eslint-parser'

export interface WrittenKey {
  readonly host: string
  readonly machine: string
  /** Line of the new text, from 1. */
  readonly line: number
}

export type WrittenKeys =
  | { readonly kind: 'written'; readonly text: string; readonly keys: readonly WrittenKey[] }
  | { readonly kind: 'refused'; readonly reason: string }

/**
 * Writes `machine = "…"` into hosts of a fleet file that passed the check and does not name their machines yet. Everything
 * else stays as it is, byte by byte: comments, order, line ends. A host may be written as a section, an inline table, by dotted
 * keys, or only by sections below it.
 */
export function writeMachineKeys(text: string, machines: ReadonlyMap<string, string>): WrittenKeys {
  const program = parseTOML(text, { tomlVersion: '1.0' })
  const eol = text.includes('\r\n') ? '\r\n' : '\n'
  const insertions: Insertion[] = []
  for (const [host, machine] of machines) {
    const found = findPlaces(program, host)
    if (found.named) return { kind: 'refused', reason: `hosts.${host}: names a machine already` }
    const at = placeFor(found, text, host, eol)
    if (!at) return { kind: 'refused', reason: `hosts.${host}: is not in the file` }
    insertions.push({ host, machine, ...at })
  }
  insertions.sort((a, b) => a.at - b.at)
  let written = ''
  let from = 0
  const keys: WrittenKey[] = []
  for (const { host, machine, at, before, after } of insertions) {
    written += text.slice(from, at) + before
    keys.push({ host, machine, line: written.split('\n').length })
    written += `machine = "${machine}"${after}`
    from = at
  }
  return { kind: 'written', text: written + text.slice(from), keys }
}

interface Place {
  /** Offset in the text. */
  readonly at: number
  readonly before: string
  readonly after: string
}

interface Insertion extends Place {
  readonly host: string
  readonly machine: string
}

interface Found {
  named: boolean
  section: AST.TOMLTable | undefined
  inline: AST.TOMLInlineTable | undefined
  /** The last pair that says something of the host by a dotted key, and the words of its key that lead to the host. */
  dotted: { pair: AST.TOMLKeyValue; lead: readonly Key[]; isInline: boolean } | undefined
  below: AST.TOMLTable | undefined
}

type Key = AST.TOMLBare | AST.TOMLQuoted

function findPlaces(program: AST.TOMLProgram, host: string): Found {
  const found: Found = {
    named: false,
    section: undefined,
    inline: undefined,
    dotted: undefined,
    below: undefined,
  }
  const wanted = ['hosts', host]
  const leads = (path: readonly string[]) => wanted.every((part, index) => path[index] === part)
  const visit = (above: readonly string[], pair: AST.TOMLKeyValue, isInline: boolean) => {
    const path = [...above, ...pair.key.keys.map(nameOf)]
    if (leads(path)) {
      if (path.length === 3 && path[2] === 'machine') found.named = true
      if (path.length > 2 && above.length < 2) {
        found.dotted = { pair, lead: pair.key.keys.slice(0, 2 - above.length), isInline }
      }
    }
    if (pair.value.type !== 'TOMLInlineTable') return
    if (leads(path) && path.length === 2) found.inline = pair.value
    if (path.length <= 2) for (const inner of pair.value.body) visit(path, inner, true)
  }
  for (const node of program.body[0].body) {
    if (node.type !== 'TOMLTable') {
      visit([], node, false)
      continue
    }
    if (node.kind === 'array') continue
    const path = node.key.keys.map(nameOf)
    if (leads(path)) {
      if (path.length === 2) found.section = node
      else found.below ??= node
    }
    for (const pair of node.body) visit(path, pair, false)
  }
  return found
}

function placeFor(
  { section, inline, dotted, below }: Found,
  text: string,
  host: string,
  eol: string,
): Place | undefined {
  const onNewLine = (after: AST.TOMLNode, lead = ''): Place => {
    const newline = text.indexOf('\n', after.range[1])
    const indent = indentOf(text, after.range[0])
    return newline < 0
      ? { at: text.length, before: `${eol}${indent}${lead}`, after: '' }
      : { at: newline + 1, before: `${indent}${lead}`, after: eol }
  }
  if (section) return onNewLine(section.body.at(-1) ?? section.key)
  if (inline) {
    const last = inline.body.at(-1)
    return last
      ? { at: last.range[1], before: ', ', after: '' }
      : { at: inline.range[0] + 1, before: ' ', after: ' ' }
  }
  if (dotted) {
    const lead = `${dotted.lead.map(key => text.slice(...key.range)).join('.')}.`
    return dotted.isInline
      ? { at: dotted.pair.range[1], before: `, ${lead}`, after: '' }
      : onNewLine(dotted.pair, lead)
  }
  if (!below) return undefined
  const at = text.lastIndexOf('\n', below.range[0]) + 1
  return { at, before: `[hosts.${host}]${eol}`, after: `${eol}${eol}` }
}

function indentOf(text: string, at: number): string {
  const start = text.lastIndexOf('\n', at - 1) + 1
  return /^[ \t]*/.exec(text.slice(start, at))?.[0] ?? ''
}

function nameOf(key: Key): string {
  return key.type === 'TOMLBare' ? key.name : key.value
}
