/** A JSON column that holds an array of strings. Rows are ours: anything else is a damaged store, and says so. */
export function readTexts(column: string): readonly string[] {
  const value: unknown = JSON.parse(column)
  if (!Array.isArray(value)) throw new Error('store: a column that holds a list holds something else')
  return value.map(String)
}

/** A JSON column that holds an object of strings, such as labels. */
export function readLabels(column: string): Readonly<Record<string, string>> {
  const value: unknown = JSON.parse(column)
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new Error('store: a column that holds labels holds something else')
  }
  return Object.fromEntries(Object.entries(value).map(([key, text]) => [key, String(text)]))
}
