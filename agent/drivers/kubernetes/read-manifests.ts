import { parseAllDocuments } from 'yaml'
import { isObject, type JsonObject, listAt, textAt } from '../read-value.ts'
import { done, failed, type Result } from '../result.ts'

const MAX_BYTES = 4 * 1024 * 1024

/**
 * The objects in files of YAML or JSON, in the order of the files and of their documents. Numbers and switches are read as
 * Kubernetes reads them, by YAML 1.1: 0644 is octal. What has no kind or name is refused, with its file and line.
 */
export function readManifests(files: ReadonlyMap<string, string>): Result<readonly JsonObject[]> {
  const objects: JsonObject[] = []
  for (const [path, text] of files) {
    if (Buffer.byteLength(text) > MAX_BYTES)
      return failed('precondition', `${path}: longer than ${MAX_BYTES} bytes`)
    const documents = parseAllDocuments(text, {
      schema: 'yaml-1.1',
      customTags: withoutTimes,
      prettyErrors: true,
    })
    for (const document of 'empty' in documents ? [] : documents) {
      const [error] = document.errors
      if (error) return failed('precondition', `${path}: ${error.message.split('\n')[0]}`)
      const value: unknown = document.toJS({ maxAliasCount: 100 })
      // Nothing between two separators.
      if (value === null || value === undefined) continue
      const start = document.contents?.range?.[0] ?? document.range[0]
      const where = `${path}, line ${text.slice(0, start).split('\n').length}`
      const found = isObject(value) && value.kind === 'List' ? listAt(value, 'items') : [value]
      for (const each of found ?? []) {
        const problem = whyNoObject(each)
        if (problem !== undefined || !isObject(each))
          return failed('precondition', `${where}: ${problem ?? 'no object'}`)
        objects.push(each)
      }
    }
  }
  return done(objects)
}

function whyNoObject(value: unknown): string | undefined {
  if (textAt(value, 'apiVersion') === undefined) return 'wanted apiVersion'
  if (textAt(value, 'kind') === undefined) return 'wanted kind'
  if (textAt(value, 'metadata', 'name') === undefined)
    return 'wanted metadata.name; generateName makes a new object each time'
  return undefined
}

/** 22:30 is a text to Kubernetes and no number of seconds, and a date is a text, too. */
function withoutTimes<T>(tags: T[]): T[] {
  return tags.filter(tag => {
    if (!isObject(tag)) return true
    return tag.format !== 'TIME' && tag.tag !== 'tag:yaml.org,2002:timestamp'
  })
}
