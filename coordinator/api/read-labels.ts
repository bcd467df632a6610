import { invalid } from '../../shared/rpc/rpc-error.ts'

const MAX_LABELS = 64
const MAX_VALUE_CHARS = 256

/** Labels as an operator gives them. Throws, naming the label at fault. */
export function readLabelInput(labels: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  const entries = Object.entries(labels)
  if (entries.length > MAX_LABELS) throw invalid(`labels: ${entries.length}, at most ${MAX_LABELS}`)
  for (const [key, value] of entries) {
    if (!/^[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$/.test(key)) {
      throw invalid(`labels ${key}: a label's name has letters, digits, dots, dashes and slashes, at most 63`)
    }
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this refuses
    if (value.length > MAX_VALUE_CHARS || /[\u0000-\u001f\u007f]/.test(value)) {
      throw invalid(`labels ${key}: its value has control characters or more than ${MAX_VALUE_CHARS}`)
    }
  }
  return Object.fromEntries(entries)
}
