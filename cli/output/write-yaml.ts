import { Document, Scalar, visit } from 'yaml'
import { HAZARDOUS, unicodeEscape } from './hazardous.ts'
import type { Plain } from './plain.ts'

/** YAML whose texts cannot disturb a terminal; for programs it is the same data. */
export function writeYaml(value: Plain): string {
  const document = new Document(value)
  visit(document, {
    Scalar: (_, node) => {
      // Only in double quotes can a character be written as an escape.
      if (typeof node.value === 'string' && node.value.search(HAZARDOUS) !== -1)
        node.type = Scalar.QUOTE_DOUBLE
    },
  })
  return document.toString({ lineWidth: 0 }).replace(HAZARDOUS, unicodeEscape)
}
