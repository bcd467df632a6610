import { parseAllDocuments } from 'yaml'
import { reasonOf } from '../errors.ts'
import { isObject } from '../read-value.ts'

/** One document of a file, and the line it begins at. */
export interface ParsedDocument {
  readonly value: unknown
  readonly line: number
}

/**
 * The documents of a file of YAML or JSON, or what is wrong with it. Numbers and switches are read as Kubernetes reads them,
 * by YAML 1.1: 0644 is octal. Nothing between two separators is no document.
 */
export function parseDocuments(text: string): readonly ParsedDocument[] | string {
  const documents = parseAllDocuments(text, {
    schema: 'yaml-1.1',
    customTags: withoutTimes,
    prettyErrors: true,
  })
  const parsed: ParsedDocument[] = []
  for (const document of 'empty' in documents ? [] : documents) {
    const [error] = document.errors
    if (error) return firstLine(error.message)
    let value: unknown
    try {
      value = document.toJS({ maxAliasCount: 100 })
    } catch (problem) {
      return firstLine(reasonOf(problem))
    }
    if (value === null || value === undefined) continue
    const start = document.contents?.range?.[0] ?? document.range[0]
    parsed.push({ value, line: text.slice(0, start).split('\n').length })
  }
  return parsed
}

const firstLine = (text: string): string => text.split('\n')[0] ?? ''

/** 22:30 is a text to Kubernetes and no number of seconds, and a date is a text, too. */
function withoutTimes<T>(tags: T[]): T[] {
  return tags.filter(tag => {
    if (!isObject(tag)) return true
    return tag.format !== 'TIME' && tag.tag !== 'tag:yaml.org,2002:timestamp'
  })
}
