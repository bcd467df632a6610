export interface DefaultQuestion {
  /** Store paths. */
  readonly target: string
  readonly current: string | undefined
  readonly booted: string | undefined
  /** What the next boot starts. */
  readonly profile: string | undefined
}

/**
 * Whether the next boot starts the very system that is to be tried, while another one runs: somebody chose an older
 * generation at the boot menu, or had the target installed for the next boot. One that was booted and runs no more, because
 * of a switch by hand, is known to boot, which what runs is not: it stays the default.
 */
export function isTargetPending({ target, current, booted, profile }: DefaultQuestion): boolean {
  return profile === target && current !== target && booted !== target
}
