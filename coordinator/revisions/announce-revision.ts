import { setImmediate } from 'node:timers/promises'
import type { Kysely } from 'kysely'
import { SessionResponseSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import type { Envelope } from '../../shared/gen/muster/v1/envelope_pb.ts'
import { Encoded } from '../../shared/rpc/definition.ts'
import type { MachineDirectory } from '../machines/directory.ts'
import type { SessionRegistry } from '../sessions/registry.ts'
import type { Database } from '../store/tables.ts'
import type { FleetTargetsCache } from './fleet-targets.ts'

/** A revision that was committed, as every machine is told of it. */
export interface CommittedRevision {
  readonly number: number
  readonly digest: string
  readonly envelope: Envelope
}

/** Tells every connected machine of a revision; who is away asks when it is ordered there. */
export async function announceRevision(
  registry: Pick<SessionRegistry, 'broadcastInTurns'>,
  { number, digest, envelope }: CommittedRevision,
): Promise<void> {
  await registry.broadcastInTurns(
    Encoded.of(SessionResponseSchema, {
      message: { case: 'revision', value: { number: BigInt(number), manifestDigest: digest, envelope } },
    }),
  )
}

export interface FollowDeps {
  readonly db: Kysely<Database>
  readonly directory: Pick<MachineDirectory, 'retarget' | 'assignment'>
  readonly registry: Pick<SessionRegistry, 'machines' | 'wake'>
  readonly fleetTargets: FleetTargetsCache
}

/** Machines that are woken in one turn of the event loop: each asks the store for its orders. */
const SLICE = 50

/**
 * Judges every machine by the newest targets, and wakes those that are another host now: a publication gives orders to
 * nobody else, so nobody else has anything to hear.
 */
export async function followRevision({ db, directory, registry, fleetTargets }: FollowDeps): Promise<void> {
  const nameOf = (machine: string) => {
    const assignment = directory.assignment(machine)
    return assignment.kind === 'host' ? `${assignment.host}\0${assignment.group}` : ''
  }
  const before = new Map([...registry.machines()].map(machine => [machine, nameOf(machine)]))
  await directory.retarget(db, fleetTargets.current())
  // Who connected meanwhile may have been told what it was before.
  const changed = [...registry.machines()].filter(machine => before.get(machine) !== nameOf(machine))
  for (const [index, machine] of changed.entries()) {
    if (index > 0 && index % SLICE === 0) await setImmediate()
    registry.wake(machine)
  }
}
