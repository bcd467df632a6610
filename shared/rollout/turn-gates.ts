/** Gates that open by themselves when those before are done, or that hold all hosts alike. */
export const TURN_GATES: ReadonlySet<string> = new Set(
  ['halted', 'paused', 'rollout', 'cluster', 'order', 'servers'].concat(['canary', 'budget', 'spread']),
)
