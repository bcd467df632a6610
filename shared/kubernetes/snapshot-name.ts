/** The end of what is still being written. */
export const PARTIAL = '.partial'

export const SNAPSHOT_NAME_RULE =
  'a snapshot’s name has lower-case letters, digits, hyphens and dots, begins with a letter or digit, and has at most 63 characters'

export const isSnapshotName = (name: string): boolean =>
  /^[a-z0-9][a-z0-9.-]{0,62}$/.test(name) && !name.endsWith(PARTIAL)
