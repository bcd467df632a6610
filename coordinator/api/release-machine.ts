import type { MessageInitShape } from '@bufbuild/protobuf'
import type { Transaction } from 'kysely'
import { cutText } from '../../shared/cut-text.ts'
import type {
  ReleaseMachineRequest,
  ReleaseMachineResponseSchema,
} from '../../shared/gen/muster/v1/admission_pb.ts'
import { precondition } from '../../shared/rpc/rpc-error.ts'
import { type ChangeStateDeps, MAX_REASON_CHARS, requireMachine } from '../machines/change-state.ts'
import { describeMachine } from '../machines/describe-machines.ts'
import { HOLDING } from '../machines/entry.ts'
import { identityColumns, identityOfFacts } from '../machines/identity.ts'
import { MAX_FACTS_BYTES, readFacts } from '../machines/read-facts.ts'
import { refreshMachines } from '../machines/refresh.ts'
import { resolveMachine } from '../machines/resolve.ts'
import { abandonOperations } from '../operations/orders.ts'
import { clearConditions, conditionsOf } from '../store/conditions.ts'
import { recordEvent } from '../store/events.ts'
import { newestFacts } from '../store/facts.ts'
import { readTexts } from '../store/json.ts'
import { changeMachine, type MachineChange, type MachineRow, machinesWithSerial } from '../store/machines.ts'
import type { Database } from '../store/tables.ts'
import { actorOf, type Caller } from './caller.ts'

const MAX_ACCEPTED = 64

/**
 * Frees a machine that a person looked at. What was disputed becomes what is known of it: its newest facts are its own,
 * and those that share its hardware are let be. Its rivals stay held until they are released themselves.
 */
export function releaseMachine(deps: ChangeStateDeps) {
  return async (
    request: ReleaseMachineRequest,
    caller: Caller,
  ): Promise<MessageInitShape<typeof ReleaseMachineResponseSchema>> => {
    const { store, directory, sessions, clock } = deps
    const { id } = resolveMachine(directory, request.ref)
    const now = clock.now()
    const ended = await store.transact(async tx => {
      const row = await requireMachine(tx, id)
      const held = (await conditionsOf(tx, id)).map(condition => condition.class)
      const released = [...HOLDING, 'similar'].filter(kind => held.includes(kind))
      if (released.length === 0) throw precondition('ref: nothing holds this machine')
      await changeMachine(tx, row, {
        ...(released.includes('clone') && (await newestIdentity(tx, id))),
        ...(released.includes('collision') && (await acceptedRivals(tx, row))),
      })
      await clearConditions(tx, id, released)
      await recordEvent(tx, {
        at: now,
        class: 'released',
        machine: id,
        reason: `${released.join(', ')}: ${cutText(request.reason, MAX_REASON_CHARS)}`,
        actor: actorOf(caller),
      })
      // A journal that went back may not know what it was doing; waiting for it would keep the machine from every order.
      return released.includes('went-back')
        ? await abandonOperations(tx, id, 'the machine was released after its journal went back', now)
        : []
    })
    for (const operation of ended) deps.operationFeed?.notify(operation)
    await refreshMachines(store.db, directory, [id])
    sessions.wake(id)
    return { machine: await describeMachine(deps, id) }
  }
}

async function newestIdentity(tx: Transaction<Database>, id: string): Promise<MachineChange> {
  const bytes = (await newestFacts(tx, [id])).get(id)
  const reading = bytes && readFacts(bytes, MAX_FACTS_BYTES)
  return reading?.kind === 'ok' ? identityColumns(identityOfFacts(reading.facts)) : {}
}

async function acceptedRivals(tx: Transaction<Database>, row: MachineRow): Promise<MachineChange> {
  const rivals = await machinesWithSerial(tx, row.serial, MAX_ACCEPTED)
  const ids = rivals.filter(rival => rival.disks_digest === row.disks_digest).map(rival => rival.id)
  const accepted = new Set([...readTexts(row.accepted), ...ids].filter(other => other !== row.id))
  return { accepted: JSON.stringify([...accepted].slice(-MAX_ACCEPTED)) }
}
