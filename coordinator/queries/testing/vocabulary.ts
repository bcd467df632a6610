import type { CelInput } from '@bufbuild/cel'
import { type DescField, type DescMessage, isMessage, ScalarType } from '@bufbuild/protobuf'
import { isReflectMessage } from '@bufbuild/protobuf/reflect'

/** Names of what expressions may speak of, each with the word for its type. */
export type Vocabulary = ReadonlyMap<string, string>

const TIMESTAMP = 'google.protobuf.Timestamp'

/** The fields of a message as `messageToCel` shows them: `root.field`, and of lists of messages `root.field[].field`. */
export function vocabularyOf(root: string, schema: DescMessage): Vocabulary {
  const found = new Map<string, string>()
  for (const field of schema.fields) {
    const path = `${root}.${field.localName}`
    const message = field.message
    if (message === undefined || message.typeName === TIMESTAMP) {
      found.set(path, field.fieldKind === 'list' ? `list of ${wordOf(field)}` : wordOf(field))
      continue
    }
    const inner = field.fieldKind === 'list' ? `${path}[]` : path
    for (const [name, word] of vocabularyOf(inner, message)) found.set(name, word)
  }
  return found
}

function wordOf(field: DescField): string {
  if (field.message !== undefined) return 'time'
  if (field.scalar === ScalarType.STRING) return 'text'
  return field.scalar === ScalarType.BOOL ? 'yes or no' : 'number'
}

/** The same of values as they are made for an expression. */
export function vocabularyOfValue(root: string, value: CelInput | undefined): Vocabulary {
  if (!(value instanceof Map)) return new Map([[root, wordOfValue(value)]])
  return new Map([...value].map(([key, item]) => [`${root}.${String(key)}`, wordOfValue(item)]))
}

function wordOfValue(value: unknown): string {
  if (typeof value === 'string') return 'text'
  if (typeof value === 'boolean') return 'yes or no'
  if (typeof value === 'bigint' || typeof value === 'number') return 'number'
  if (Array.isArray(value)) return 'list of text'
  if (isReflectMessage(value) || isMessage(value)) return 'time'
  throw new Error(`the vocabulary has no word for ${String(value)}`)
}
