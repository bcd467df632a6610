/** What is known of one machine's systems, and of what should run there. Store paths; undefined: not known, or none. */
export interface DriftInput {
  readonly booted: string | undefined
  readonly current: string | undefined
  /** What the next boot starts. */
  readonly profile: string | undefined
  /** Number of the generation that the profile names, as fresh as the rest. */
  readonly profileGeneration: number | undefined
  /** Generations of the profile, as told after the newest operation: what was made since is not among them. */
  readonly generations: readonly { readonly number: number; readonly storePath: string }[]
  readonly desired: Desired | undefined
  /** Its newest change of ours that got there. */
  readonly reached: Reached | undefined
  /** Systems that earlier changes of ours reached. */
  readonly reachedBefore: ReadonlySet<string>
  /** The machine was booted after that change; undefined: not known. */
  readonly bootedSince: boolean | undefined
  /** An operation of ours is under way. */
  readonly moving: boolean
  /** The operation after whose end no facts came yet, while those that are known contradict it. */
  readonly factsAwaited: string | undefined
  readonly rebootReasons: readonly string[]
  /** The newest revision, to which an order leads that names none; 0: there is none. */
  readonly newest: number
  /** Systems that failed on it and are not tried again, whatever number they come back under; with the revision that brought them. */
  readonly quarantined: readonly { readonly revision: number; readonly storePath: string }[]
}

export interface Desired {
  readonly revision: number
  /** Who says so: its pin, the last rollout that named it, or the newest revision. */
  readonly by: 'pin' | 'rollout' | 'fleet'
  /** It was to go back to what ran before. */
  readonly back: boolean
  /** Undefined: the machine builds it, so only it knows. */
  readonly storePath: string | undefined
}

export interface Reached {
  readonly operation: string
  readonly action: string
  readonly revision: number
  readonly storePath: string
}

export const DRIFT_STATES = [
  'in-sync',
  'behind',
  'reboot-pending',
  'drifted',
  'moving',
  'unmanaged',
  'unknown',
] as const
export type DriftState = (typeof DRIFT_STATES)[number]

/** Who made the machine what it is. */
export type ChangedBy =
  | 'operation'
  | 'rebuild-by-hand'
  | 'rollback-by-hand'
  | 'test-by-hand'
  | 'reboot'
  | 'nobody'
  | 'unknown'

export interface Drift {
  readonly state: DriftState
  readonly changedBy: ChangedBy
  /** One sentence. */
  readonly reason: string
  /** What would put it right; empty: nothing is to be done. `HOST` stands for its name. */
  readonly remedy: string
}

const REBOOT = 'muster reboot HOST'

/**
 * Whether a machine is what it should be, and if not, who made it so: an operation of ours, a rebuild or a rollback by
 * hand, a `test` that the next boot undoes, or a boot of something else than the default. Told apart by facts alone: what
 * was booted, what runs, what the next boot starts, and which generation is older.
 */
export function judgeDrift(input: DriftInput): Drift {
  const { current, profile, reached, desired } = input
  if (input.moving) {
    return { state: 'moving', changedBy: 'operation', reason: 'an operation is under way', remedy: '' }
  }
  if (input.factsAwaited !== undefined) {
    const reason = `operation ${input.factsAwaited} has just ended, and what the machine is since then was not told yet`
    return { state: 'moving', changedBy: 'operation', reason, remedy: '' }
  }
  if (current === undefined) {
    return {
      state: 'unknown',
      changedBy: 'unknown',
      reason: 'it told nothing of what it runs',
      remedy: 'muster query "host == \'HOST\'" --live --select facts.nixos',
    }
  }
  if (!reached) {
    return desired && !desired.back
      ? {
          state: 'behind',
          changedBy: 'nobody',
          reason: `revision ${desired.revision} was never applied${quarantineText(input)}`,
          remedy: bringText(input),
        }
      : { state: 'unmanaged', changedBy: 'nobody', reason: 'no revision names it', remedy: '' }
  }
  if (current !== reached.storePath) return drifted(input, current, reached)
  if (profile !== undefined && profile !== reached.storePath) return movedDefault(input, profile, reached)
  return asReached(input, reached)
}

/** What runs and what the next boot starts is what our newest change reached. */
function asReached(input: DriftInput, reached: Reached): Drift {
  const { booted, current, desired, rebootReasons } = input
  if (desired !== undefined && isBehind(desired, reached)) {
    const how = reached.action === 'rollback' ? 'was rolled back to' : 'is at'
    return {
      state: 'behind',
      changedBy: 'operation',
      reason: `it ${how} revision ${reached.revision} by operation ${reached.operation}; ${wantedText(desired)}${quarantineText(input)}`,
      remedy: bringText(input),
    }
  }
  if (rebootReasons.length > 0 && booted !== current) {
    return {
      state: 'reboot-pending',
      changedBy: 'operation',
      reason: `what it runs counts as a whole only after a reboot: ${rebootReasons.slice(0, 8).join(', ')}`,
      remedy: REBOOT,
    }
  }
  return {
    state: 'in-sync',
    changedBy: 'operation',
    reason: `as operation ${reached.operation} left it`,
    remedy: '',
  }
}

function isBehind({ revision, by, back, storePath }: Desired, reached: Reached): boolean {
  // Only the node knows what ran before; where it went back it is there.
  if (back && reached.action === 'rollback') return false
  if (storePath !== undefined) return storePath !== reached.storePath
  return by === 'fleet' && reached.action !== 'rollback'
    ? revision > reached.revision
    : revision !== reached.revision
}

function wantedText({ revision, by, back }: Desired): string {
  if (back && revision === 0) return 'what ran before is wanted'
  const why = { pin: ', to which it is pinned', rollout: ', by the last rollout that named it', fleet: '' }
  return `revision ${revision} is wanted${why[by]}`
}

/** The order that brings what is wanted, which is not always the newest. What failed there must be let in first. */
function bringText(input: DriftInput): string {
  const { desired, newest, reached } = input
  if (desired?.back && desired.revision === 0) {
    return reached?.action === 'rollback'
      ? `muster rollback HOST --to ${reached.operation}`
      : 'muster rollback HOST'
  }
  const revision = desired && desired.revision !== newest ? ` --revision ${desired.revision}` : ''
  const apply = `muster apply HOST${revision}`
  return isQuarantined(input) ? `muster retry HOST && ${apply}` : apply
}

function quarantineText(input: DriftInput): string {
  return isQuarantined(input) ? ', but it failed there and is not tried again' : ''
}

function isQuarantined({ desired, quarantined }: DriftInput): boolean {
  return quarantined.some(
    ({ revision, storePath }) => revision === desired?.revision || storePath === desired?.storePath,
  )
}

/** Something else runs than what our newest change reached. */
function drifted(input: DriftInput, current: string, reached: Reached): Drift {
  const { booted, profile } = input
  const than = `not what operation ${reached.operation} left`
  if (profile === reached.storePath) {
    // The system that was booted may have been activated by hand as well, without a boot.
    return current === booted && input.bootedSince !== false
      ? {
          state: 'drifted',
          changedBy: 'reboot',
          reason: `it was booted with ${current}, ${than} and the boot loader's default names`,
          remedy: REBOOT,
        }
      : {
          state: 'drifted',
          changedBy: 'test-by-hand',
          reason: `${current} was activated by hand without becoming the boot default, ${than}`,
          remedy: bringText(input),
        }
  }
  const by = directionOf(input, current, reached)
  return {
    state: 'drifted',
    changedBy: by,
    reason: `${current} was ${by === 'rollback-by-hand' ? 'gone back to' : 'switched to'} by hand${current === booted ? ', and booted since' : ''}, ${than}`,
    remedy: bringText(input),
  }
}

/** It runs what our newest change reached, but the next boot starts something else. */
function movedDefault(input: DriftInput, profile: string, reached: Reached): Drift {
  const by = directionOf(input, profile, reached)
  return {
    state: 'drifted',
    changedBy: by,
    reason: `the next boot starts ${profile}, which was made the default by hand; operation ${reached.operation} left another`,
    remedy: bringText(input),
  }
}

/** A generation that is older than ours, or a system that we reached before, was gone back to; all else was built. */
function directionOf(
  { generations, profile, profileGeneration, reachedBefore }: DriftInput,
  path: string,
  reached: Reached,
): 'rebuild-by-hand' | 'rollback-by-hand' {
  const newestOf = (storePath: string) =>
    Math.max(0, ...generations.filter(one => one.storePath === storePath).map(({ number }) => number))
  const theirs = path === profile && profileGeneration !== undefined ? profileGeneration : newestOf(path)
  const ours = newestOf(reached.storePath)
  if (theirs > 0 && ours > 0) return theirs < ours ? 'rollback-by-hand' : 'rebuild-by-hand'
  // Ours is gone from the profile, or theirs never was in it: what we reached before is known at least.
  return reachedBefore.has(path) ? 'rollback-by-hand' : 'rebuild-by-hand'
}
