import type { Plain, PlainRecord } from './plain.ts'

/** Every value with the path that leads to it, as one would write it in a selector: `disks[0].size`. */
export function flatten(record: PlainRecord): Map<string, string> {
  const found = new Map<string, string>()
  walk(record, '', found)
  return found
}

function walk(value: Plain, path: string, found: Map<string, string>): void {
  if (value === null || typeof value !== 'object') {
    found.set(path, String(value))
    return
  }
  if (isList(value)) {
    for (const [index, item] of value.entries()) walk(item, `${path}[${index}]`, found)
    return
  }
  for (const [key, item] of Object.entries(value)) walk(item, path === '' ? key : `${path}.${key}`, found)
}

function isList(value: object): value is readonly Plain[] {
  return Array.isArray(value)
}
