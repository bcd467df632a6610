import { type Generation, type Generations, pathsInUse } from './generations.ts'

/** How many generations stay. */
export interface KeepRule {
  /** The newest so many stay; at least 1. */
  readonly keep: number
  /** Those made within so many days stay too; absent: age saves none. */
  readonly keepDays?: number | undefined
}

export interface SurplusQuestion extends KeepRule {
  readonly generations: Generations
  /** More store paths that must stay: the target, the system to return to, whatever a journal still names. */
  readonly protect: readonly string[]
  readonly nowMs: number
}

export type Surplus =
  | { readonly kind: 'surplus'; readonly remove: readonly Generation[] }
  /** It cannot be told what is in use, so nothing may go. */
  | { readonly kind: 'unknown'; readonly why: string }

const DAY_MS = 24 * 60 * 60 * 1000

/**
 * The generations that may go, oldest first. Never one whose system is booted, current, the profile's or protected,
 * whatever number it bears: several generations can name one system. Never one of which something is unknown.
 */
export function surplusGenerations({
  generations,
  keep,
  keepDays,
  protect,
  nowMs,
}: SurplusQuestion): Surplus {
  for (const part of [generations.booted, generations.current, generations.profile]) {
    if (part.kind === 'unknown') return { kind: 'unknown', why: part.why ?? 'what is in use cannot be read' }
  }
  if (generations.generations.length === 0) return { kind: 'surplus', remove: [] }
  if (generations.profileNumber === undefined) {
    return { kind: 'unknown', why: 'the system profile leads to no generation' }
  }
  const safe = new Set([...pathsInUse(generations), ...protect])
  const byAge = generations.generations.toSorted((a, b) => b.number - a.number)
  const remove = byAge.slice(Math.max(1, keep)).filter(({ number, path, madeMs }) => {
    if (path.kind !== 'value' || safe.has(path.value) || number === generations.profileNumber) return false
    return keepDays === undefined || (madeMs !== undefined && nowMs - madeMs > keepDays * DAY_MS)
  })
  return { kind: 'surplus', remove: remove.reverse() }
}
