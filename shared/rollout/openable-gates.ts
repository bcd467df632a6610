/** Gates that `muster rollout override` opens, as the coordinator has them; the command completes them. */
export const OPENABLE_GATES: readonly string[] = [
  ...(['rollout', 'cluster', 'order', 'servers', 'canary', 'budget', 'spread', 'silence'] as const),
  ...(['lock', 'pin', 'window', 'health', 'checks', 'jobs', 'soak', 'given-up'] as const),
]
