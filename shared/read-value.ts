/** Reading of values that came from outside as JSON: what is missing or of another type is undefined, never a default. */
export type JsonObject = Readonly<Record<string, unknown>>

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** What a text says as JSON, when that is an object. */
export function readObject(text: string): JsonObject | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return isObject(value) ? value : undefined
  } catch {
    return undefined
  }
}

/** The value at a path of keys. */
export function at(value: unknown, ...keys: readonly string[]): unknown {
  let found = value
  for (const key of keys) {
    if (!isObject(found) || !Object.hasOwn(found, key)) return undefined
    found = found[key]
  }
  return found
}

export function textAt(value: unknown, ...keys: readonly string[]): string | undefined {
  const found = at(value, ...keys)
  return typeof found === 'string' ? found : undefined
}

export function listAt(value: unknown, ...keys: readonly string[]): readonly unknown[] | undefined {
  const found = at(value, ...keys)
  return Array.isArray(found) ? found : undefined
}

/** A time in milliseconds since 1970. */
export function timeAt(value: unknown, ...keys: readonly string[]): number | undefined {
  const text = textAt(value, ...keys)
  const time = text === undefined ? Number.NaN : Date.parse(text)
  return Number.isFinite(time) ? time : undefined
}

/** A list that holds nothing but texts. */
export function textsAt(value: unknown, ...keys: readonly string[]): readonly string[] | undefined {
  const found = listAt(value, ...keys)
  return found?.every(each => typeof each === 'string')
    ? found.filter(each => typeof each === 'string')
    : undefined
}
