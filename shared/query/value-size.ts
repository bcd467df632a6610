import { isCelList, isCelMap } from '@bufbuild/cel'

/**
 * Whether a value's elements and characters together stay within a bound. Lists are shared inside a value, so a small
 * loop can give a value whose text would fill the memory; this stops counting as soon as the bound is passed.
 */
export function fitsInto(value: unknown, limit: number): boolean {
  let room = limit
  const count = (part: unknown): boolean => {
    room -= typeof part === 'string' ? part.length + 1 : 1
    if (room < 0) return false
    if (isCelList(part)) {
      for (const item of part) if (!count(item)) return false
    } else if (isCelMap(part)) {
      for (const [key, item] of part) if (!count(key) || !count(item)) return false
    }
    return true
  }
  return count(value)
}
