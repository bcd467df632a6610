import type { MessageInitShape } from '@bufbuild/protobuf'
import type { Clock } from '../../shared/clock.ts'
import type {
  RotateAuthorityRequest,
  RotateAuthorityResponseSchema,
} from '../../shared/gen/muster/v1/fleet_trust_pb.ts'
import { invalid, precondition } from '../../shared/rpc/rpc-error.ts'
import { readTrustSet } from '../../shared/trust/trust-set.ts'
import type { Authorities, RotationResult } from '../authority/authorities.ts'
import { firstSetListing } from '../authority/first-set-listing.ts'
import type { MachineDirectory } from '../machines/directory.ts'
import type { FleetTrust } from '../machines/fleet-trust.ts'
import { recordEvent } from '../store/events.ts'
import { countCertificatesOf, machinesBeforeTrust } from '../store/machines.ts'
import { countOperatorsOf } from '../store/operators.ts'
import type { Store } from '../store/store.ts'
import { actorOf, type Caller } from './caller.ts'
import { describeAuthorities } from './describe-authorities.ts'

export interface RotateAuthorityDeps {
  readonly store: Store
  readonly authorities: Pick<Authorities, 'list' | 'add' | 'switchTo' | 'drop'>
  readonly trust: FleetTrust
  readonly clock: Clock
  readonly directory: Pick<MachineDirectory, 'assignment'>
  /** Told which authority is trusted no more, to end the connections it let in. */
  readonly onAuthorityDropped: (pin: string) => void
}

/** Replaces the coordinator's authority step by step; each step is refused while it would lock a machine out. */
export function rotateAuthority(deps: RotateAuthorityDeps) {
  return async (
    { step, force }: RotateAuthorityRequest,
    caller: Caller,
  ): Promise<MessageInitShape<typeof RotateAuthorityResponseSchema>> => {
    const { store, authorities, clock } = deps
    const result = await takeStep(deps, step, force)
    if (!result.ok) throw precondition(`step: ${result.reason}`)
    await store.transact(tx =>
      recordEvent(tx, {
        at: clock.now(),
        class: 'authority',
        reason: `${step}${force ? ' (forced)' : ''}: ${result.pin}`,
        actor: actorOf(caller),
      }),
    )
    if (step === 'drop') deps.onAuthorityDropped(result.pin)
    return { authorities: describeAuthorities(authorities) }
  }
}

const MOST_NAMED = 10

/**
 * The listeners will show another authority. A machine that never had a trust set with it accepts that nowhere, whether its certificate still
 * lasts or not, and could not come back by itself.
 */
async function refuseLockedOut(
  { store, trust, directory }: RotateAuthorityDeps,
  shown: string,
): Promise<void> {
  const sets = trust.chain().flatMap(({ payload }) => {
    const read = readTrustSet(payload)
    return read.kind === 'ok' ? [read.trust] : []
  })
  const from = firstSetListing(sets, shown)
  if (from === undefined) return
  const behind = await machinesBeforeTrust(store.db, from)
  if (behind.length === 0) return
  const names = behind.slice(0, MOST_NAMED).map(id => {
    const assignment = directory.assignment(id)
    return assignment.kind === 'host' ? assignment.host : id.slice(0, 12)
  })
  const more = behind.length > MOST_NAMED ? ` and ${behind.length - MOST_NAMED} more` : ''
  throw precondition(
    `step: ${names.join(', ')}${more}: not known to have trust set ${from}, the first with ${shown}, and locked out without it; ` +
      'let them connect once, evict what is not wanted any more, or force it',
  )
}

async function takeStep(deps: RotateAuthorityDeps, step: string, force: boolean): Promise<RotationResult> {
  const { authorities, trust, store, clock } = deps
  const known = authorities.list()
  switch (step) {
    case 'add':
      return await authorities.add()
    case 'switch': {
      const next = known.at(-1)
      if (!next || next.issuing) throw precondition('step: there is no other authority; `add` one first')
      if (!trust.newest?.set.caPins.includes(next.pin)) {
        throw precondition(
          `step: trust set ${trust.number} does not list ${next.pin} yet; sign one that lists both authorities and give it with \`muster trust set\``,
        )
      }
      return await authorities.switchTo(next.pin)
    }
    case 'drop': {
      const old = known.find(({ issuing }) => !issuing)
      if (!old) throw precondition('step: there is no authority that could be dropped')
      const nowMs = clock.now().getTime()
      const machines = await countCertificatesOf(store.db, old.pin, nowMs)
      const operators = await countOperatorsOf(store.db, old.pin, nowMs)
      if (!force && machines + operators > 0) {
        throw precondition(
          `step: ${machines} machines and ${operators} operators hang on certificates of ${old.pin}; wait until they renewed, or force it`,
        )
      }
      const shown = known.find(authority => authority !== old)
      const changesShown = known[0] === old
      if (!force && shown && changesShown) await refuseLockedOut(deps, shown.pin)
      return await authorities.drop(old.pin)
    }
    default:
      throw invalid('step: is one of add, switch, drop')
  }
}
