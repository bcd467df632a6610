import type { Clock } from '../../shared/clock.ts'
import { reasonOf } from '../../shared/errors.ts'
import type { TrustNotice } from '../../shared/gen/muster/v1/agent_pb.ts'
import type { Pins } from '../identity/token.ts'
import type { Log } from '../log.ts'
import type { AgentStateFile } from '../state/agent-state.ts'
import type { TrustStore } from '../trust/trust-store.ts'
import { recordEvent } from './event-messages.ts'
import type { FleetClient } from './fleet-link.ts'

export interface TrustUpdateDeps {
  readonly trust: TrustStore
  readonly state: AgentStateFile
  readonly pins: Pins
  readonly clock: Clock
  readonly log: Log
  readonly deadlineMs: number
}

/** Follows a notice of a newer trust set, or of a confirmed one. Says whether anything changed; durable when it returns. */
export async function followTrust(
  deps: TrustUpdateDeps,
  client: Pick<FleetClient, 'getTrust'>,
  notice: Pick<TrustNotice, 'number' | 'confirmedDigest'>,
  signal: AbortSignal,
): Promise<boolean> {
  const { trust, state, clock, log, pins, deadlineMs } = deps
  let changed = false
  if (notice.confirmedDigest !== '' && (await trust.confirm(notice.confirmedDigest))) {
    log.info({ digest: notice.confirmedDigest }, 'trust set confirmed by an operator')
    changed = true
  }
  if (notice.number <= BigInt(trust.current?.number ?? 0)) return changed
  try {
    const { trust: chain } = await client.getTrust({}, { signal, deadlineMs })
    const walk = trust.consider(chain?.envelopes ?? [], pins.trustPin)
    if (walk.kind === 'refused') {
      log.error({ class: walk.class, reason: walk.reason }, 'trust set refused')
      await recordEvent(state, 'trust', `${walk.class}: ${walk.reason}`, clock.now())
      return changed
    }
    if (await trust.take(walk)) {
      log.info({ number: walk.trust.number, digest: walk.trust.digest }, 'trust set taken')
      changed = true
    }
  } catch (error) {
    if (!signal.aborted) log.warn({ err: reasonOf(error) }, 'trust set could not be fetched')
  }
  return changed
}
