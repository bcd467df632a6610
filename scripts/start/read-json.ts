import { readFile } from 'node:fs/promises'

/** The fields of a file of ours; none when it is missing or damaged, for nothing rests on it. */
export async function readJson(path: string): Promise<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(await readFile(path, 'utf8'))
    return typeof value === 'object' && value !== null ? Object.fromEntries(Object.entries(value)) : {}
  } catch {
    return {}
  }
}
