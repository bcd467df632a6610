import type { System } from '../system/system.ts'

/** What was read of a system's file: its text or link target, that it is not there, or that nobody could tell. */
export type Part =
  | { readonly kind: 'value'; readonly value: string }
  | { readonly kind: 'missing' }
  | { readonly kind: 'unknown'; readonly why?: string }

const MAX_PART_BYTES = 64 * 1024

/** Where a link points, not resolved. What is there and is no link is unknown, because its content was not compared. */
export async function readLinkPart(system: System, path: string): Promise<Part> {
  const reading = await system.readLink(path)
  if (reading.kind === 'link') return { kind: 'value', value: reading.target }
  return reading.kind === 'missing' ? reading : { kind: 'unknown', why: `${path}: ${reading.code}` }
}

/** The text of a small file without the white space around it. */
export async function readTextPart(system: System, path: string): Promise<Part> {
  const reading = await system.readFile(path, MAX_PART_BYTES)
  if (reading.kind === 'missing') return reading
  if (reading.kind === 'unreadable') return { kind: 'unknown', why: `${path}: ${reading.code}` }
  if (reading.truncated) return { kind: 'unknown', why: `${path}: longer than ${MAX_PART_BYTES} bytes` }
  return { kind: 'value', value: reading.bytes.toString('utf8').trim() }
}

/** A part's value; undefined when it is missing or unknown. */
export function knownValue(part: Part): string | undefined {
  return part.kind === 'value' ? part.value : undefined
}
