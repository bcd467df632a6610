import { parseDocuments } from '../../../shared/kubernetes/parse-documents.ts'
import { isObject, type JsonObject, listAt, textAt } from '../../../shared/read-value.ts'
import { done, failed, type Result } from '../result.ts'

const MAX_BYTES = 4 * 1024 * 1024

/**
 * The objects in files of YAML or JSON, in the order of the files and of their documents. What has no kind or name is refused,
 * with its file and line.
 */
export function readManifests(files: ReadonlyMap<string, string>): Result<readonly JsonObject[]> {
  const objects: JsonObject[] = []
  for (const [path, text] of files) {
    if (Buffer.byteLength(text) > MAX_BYTES)
      return failed('precondition', `${path}: longer than ${MAX_BYTES} bytes`)
    const documents = parseDocuments(text)
    if (typeof documents === 'string') return failed('precondition', `${path}: ${documents}`)
    for (const { value, line } of documents) {
      const found = isObject(value) && value.kind === 'List' ? listAt(value, 'items') : [value]
      for (const each of found ?? []) {
        const problem = whyNoObject(each)
        if (problem !== undefined || !isObject(each))
          return failed('precondition', `${path}, line ${line}: ${problem ?? 'no object'}`)
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
