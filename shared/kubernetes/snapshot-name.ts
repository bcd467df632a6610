/** The end of what is still being written. */
export const PARTIAL = '.partial'

export const SNAPSHOT_NAME_RULE =
  'a snapshot’s name has lower-case letters, digits, hyphens and dots, begins with a letter or digit, and has at most 63 characters'

/** Whoever makes one on the way to a change: a rollout (`rollout`), or the node itself (`before`). */
type MadeBy = 'rollout' | 'before'

/** Names that are never an operator's: the id of what it was made for tells them from such as `before-1-35`. */
const MADE_FOR_CHANGE = /^(?:rollout|before)-[0-9a-z]{9}-[0-9a-f]{12}$/

/** As many of the copies that were made on the way to a change stay on a server; an operator's stay until he takes them away. */
export const KEPT_FOR_CHANGES = 10

/** `id`: as `operationId` makes them. */
export const nameForChange = (by: MadeBy, id: string): string =>
  `${by}-${id.toLowerCase().replaceAll(/[^a-z0-9.-]/g, '-')}`.slice(0, 63)

export const isForChange = (name: string): boolean => MADE_FOR_CHANGE.test(name)

export const isSnapshotName = (name: string): boolean =>
  /^[a-z0-9][a-z0-9.-]{0,62}$/.test(name) && !name.endsWith(PARTIAL)
