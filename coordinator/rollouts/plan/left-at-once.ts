import type { Decision, Wait } from './decision.ts'
import { LEAVES_BEHIND } from './gates.ts'
import type { RolloutRecord } from './rollout-record.ts'

export interface LeftAtOnce {
  readonly host: string
  /** Empty: no machine is this host. */
  readonly machine: string
  readonly waits: readonly Wait[]
}

/**
 * Hosts that a rollout which was only thought through would leave behind as soon as it began, with what holds them: only a person can
 * open that. A machine that is away may come back by itself.
 */
export function leftAtOnce(
  { id, hosts }: Pick<RolloutRecord, 'id' | 'hosts'>,
  { waits }: Pick<Decision, 'waits'>,
): readonly LeftAtOnce[] {
  return hosts.flatMap(({ host, machine = '' }) => {
    const held = (waits.get(id)?.get(host) ?? []).filter(
      ({ gate }) => gate !== 'away' && LEAVES_BEHIND.includes(gate),
    )
    return held.length > 0 ? [{ host, machine, waits: held }] : []
  })
}
