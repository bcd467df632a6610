import type { MessageInitShape } from '@bufbuild/protobuf'
import type { Clock } from '../../shared/clock.ts'
import type { Envelope } from '../../shared/gen/muster/v1/envelope_pb.ts'
import type {
  SetFleetTrustRequest,
  SetFleetTrustResponseSchema,
} from '../../shared/gen/muster/v1/fleet_trust_pb.ts'
import { aborted, denied, invalid, precondition } from '../../shared/rpc/rpc-error.ts'
import { type KnownTrust, readTrustSet } from '../../shared/trust/trust-set.ts'
import { type TrustWalk, walkTrust } from '../../shared/trust/walk-trust.ts'
import type { Authorities } from '../authority/authorities.ts'
import type { FleetTrust } from '../machines/fleet-trust.ts'
import { recordEvent } from '../store/events.ts'
import { isUniqueViolation, type Store } from '../store/store.ts'
import { appendTrustSet, newestTrust } from '../store/trust-sets.ts'
import { actorOf, type Caller } from './caller.ts'

export interface SetFleetTrustDeps {
  readonly store: Store
  readonly trust: FleetTrust
  readonly authorities: Pick<Authorities, 'shownPin'>
  readonly clock: Clock
  /** Told the number of the newest set after it was committed, to notify sessions. */
  readonly onTrustChanged: (number: number) => void
}

/**
 * Appends trust sets to the coordinator's chain, judged as a machine judges them. The first is taken as it is. The same
 * chain once more changes nothing.
 */
export function setFleetTrust(deps: SetFleetTrustDeps) {
  return async (
    request: SetFleetTrustRequest,
    caller: Caller,
  ): Promise<MessageInitShape<typeof SetFleetTrustResponseSchema>> => {
    const { store, trust, clock, authorities } = deps
    const envelopes = request.trust?.envelopes ?? []
    if (envelopes.length === 0) throw invalid('trust: holds no trust set')
    const now = clock.now()
    const write = store.transact(async tx => {
      const current = await newestTrust(tx)
      const walk = walkTrust(current ? { kind: 'current', trust: current } : { kind: 'first-use' }, envelopes)
      if (walk.kind === 'refused') throw refusal(walk)
      refuseFork(trust.chain(), envelopes)
      if (!walk.changed) return { newest: walk.trust, changed: false }
      checkAuthority(walk.trust, authorities.shownPin)
      for (const { envelope, set } of stepsAfter(current?.number ?? 0, envelopes)) {
        await appendTrustSet(tx, envelope, set, now)
      }
      const reason = `trust set ${walk.trust.number}, ${walk.trust.digest}`
      await recordEvent(tx, { at: now, class: 'trust-set', reason, actor: actorOf(caller) })
      return { newest: walk.trust, changed: true }
    })
    const { newest, changed } = await write.catch((error: unknown) => {
      if (!isUniqueViolation(error)) throw error
      throw aborted('trust: another set was given meanwhile; look at it with `muster trust show`')
    })
    await trust.reload(store.db)
    if (changed) deps.onTrustChanged(newest.number)
    return { number: BigInt(newest.number), digest: newest.digest }
  }
}

/** A chain that holds another set under a number of ours is a fork: to answer that nothing changed would hide it. */
function refuseFork(ours: readonly Envelope[], given: readonly Envelope[]): void {
  const known = new Map(ours.flatMap(envelope => numbered(envelope)))
  const fork = given
    .flatMap(envelope => numbered(envelope))
    .find(([number, digest]) => {
      const own = known.get(number)
      return own !== undefined && own !== digest
    })
  if (fork) {
    throw invalid(
      `trust: set ${fork[0]} is another one here; compare with \`muster trust show\` which is right`,
    )
  }
}

function numbered({ payload }: Envelope): readonly (readonly [number, string])[] {
  const read = readTrustSet(payload)
  return read.kind === 'ok' ? [[read.trust.number, read.trust.digest]] : []
}

function stepsAfter(
  number: number,
  envelopes: readonly Envelope[],
): readonly { readonly envelope: Envelope; readonly set: KnownTrust }[] {
  return envelopes.flatMap(envelope => {
    const read = readTrustSet(envelope.payload)
    return read.kind === 'ok' && read.trust.number > number ? [{ envelope, set: read.trust }] : []
  })
}

/** A set that leaves out the authority the listeners show would lock every machine out that takes it. */
function checkAuthority({ set, number }: KnownTrust, shownPin: string): void {
  if (set.caPins.length === 0 || set.caPins.includes(shownPin)) return
  throw precondition(
    `trust: set ${number} does not list the authority that this coordinator shows, ${shownPin}: machines that take it would refuse the coordinator; sign one that lists it`,
  )
}

function refusal({ class: kind, reason }: Extract<TrustWalk, { kind: 'refused' }>) {
  return kind === 'signature' || kind === 'fleet' ? denied(reason) : invalid(reason)
}
