import { InvalidArgumentError } from '@commander-js/extra-typings'

/** The coordinator's word for the newest revision. */
export const NEWEST = 0

/** The number of a revision, or `newest`. */
export function revisionNumber(text: string): number {
  if (text === 'newest') return NEWEST
  if (/^[1-9][0-9]{0,14}$/.test(text)) return Number(text)
  throw new InvalidArgumentError('must be the number of a revision, or newest.')
}
