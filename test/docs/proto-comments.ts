/** A declaration of a .proto file, and whether a comment stands directly above it. */
export interface Declaration {
  /** "Message", "Message.field", "Service.Rpc" or "Enum.VALUE". */
  readonly name: string
  readonly kind: 'service' | 'rpc' | 'message' | 'field' | 'enum' | 'value'
  readonly line: number
  readonly documented: boolean
}

const BLOCK = /^\s*(service|message|enum|oneof) (\w+) \{(\})?$/
const RPC = /^\s*rpc (\w+)\(/
const FIELD = /^\s*(?:optional |repeated )?(?:map<[^>]+>|[\w.]+) (\w+) = \d+(?: \[[^\]]*\])?;$/
/** Numbers and names that are never used again declare nothing. */
const RESERVED = /^\s*reserved [^;]+;$/
const VALUE = /^\s*([A-Z][A-Z0-9_]*) = \d+;$/

/**
 * Reads what a file declares. It relies on the form that `buf format` gives: one declaration a line. Braces that this reader
 * does not follow are an error, so that nothing is left out in silence.
 */
export function readDeclarations(path: string, text: string): Declaration[] {
  const found: Declaration[] = []
  const open: { readonly kind: string; readonly name: string }[] = []
  let commented = false
  for (const [index, line] of text.split('\n').entries()) {
    const declare = (kind: Declaration['kind'], name: string) => {
      const scope = open.filter(block => block.kind !== 'oneof').map(block => block.name)
      found.push({ kind, name: [...scope, name].join('.'), line: index + 1, documented: commented })
    }
    const block = BLOCK.exec(line)
    const inEnum = open.at(-1)?.kind === 'enum'
    if (block) {
      const [, kind = '', name = '', closed] = block
      if (kind === 'service' || kind === 'message' || kind === 'enum') declare(kind, name)
      if (closed === undefined) open.push({ kind, name })
    } else if (/^\s*\}$/.test(line)) {
      if (!open.pop()) throw new Error(`${path}:${index + 1}: a brace too many`)
    } else if (RPC.test(line)) {
      declare('rpc', RPC.exec(line)?.[1] ?? '')
    } else if (inEnum && VALUE.test(line)) {
      declare('value', VALUE.exec(line)?.[1] ?? '')
    } else if (open.length > 0 && FIELD.test(line)) {
      declare('field', FIELD.exec(line)?.[1] ?? '')
    } else if (open.length > 0 && !RESERVED.test(line) && !/^\s*(\/\/.*)?$/.test(line)) {
      throw new Error(`${path}:${index + 1}: not understood: ${line.trim()}`)
    }
    commented = /^\s*\/\/ ?\S/.test(line)
  }
  if (open.length > 0) throw new Error(`${path}: ${open.map(({ name }) => name).join(', ')} is not closed`)
  return found
}
