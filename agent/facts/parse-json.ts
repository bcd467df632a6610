import type { Source } from './source.ts'

export type JsonObject = Readonly<Record<string, unknown>>

/** What a tool printed as JSON; undefined with a warning naming the tool when it is none. */
export function parseJson(source: Source, tool: string, text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    source.warn(`${tool}: prints no JSON`)
    return undefined
  }
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The objects of a list; anything else is left out. */
export function objectsIn(value: unknown): readonly JsonObject[] {
  return Array.isArray(value) ? value.filter(isObject) : []
}

export function stringAt(object: JsonObject, key: string): string | undefined {
  const value = object[key]
  return typeof value === 'string' ? value : undefined
}

/** Older tools print booleans as "0" and "1". */
export function booleanAt(object: JsonObject, key: string): boolean | undefined {
  const value = object[key]
  if (typeof value === 'boolean') return value
  return value === '1' || value === 1 ? true : value === '0' || value === 0 ? false : undefined
}
