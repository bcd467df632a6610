import type { MessageInitShape } from '@bufbuild/protobuf'
import type {
  ApproveMachineRequest,
  ApproveMachineResponseSchema,
} from '../../shared/gen/muster/v1/admission_pb.ts'
import { precondition } from '../../shared/rpc/rpc-error.ts'
import { findConflicts, recordFindings } from '../enrolment/find-conflicts.ts'
import { bindByHand } from '../machines/bind-by-hand.ts'
import { type ChangeStateDeps, requireMachine } from '../machines/change-state.ts'
import { describeMachine } from '../machines/describe-machines.ts'
import { disputedBecause, isLive, isSentAway, readState } from '../machines/entry.ts'
import { identityOfRow } from '../machines/identity.ts'
import { refreshMachines } from '../machines/refresh.ts'
import { resolveMachine } from '../machines/resolve.ts'
import { conditionsOf } from '../store/conditions.ts'
import { recordEvent } from '../store/events.ts'
import { readLabels } from '../store/json.ts'
import { changeMachine } from '../store/machines.ts'
import { actorOf, type Caller } from './caller.ts'
import { readLabelInput } from './read-labels.ts'

/**
 * Lets a machine in by an operator's hand; it fetches its certificate when it asks next. One that comes back to find its hardware
 * claimed by another collides with that one, and neither is acted on until somebody decides.
 */
export function approveMachine(deps: ChangeStateDeps) {
  return async (
    request: ApproveMachineRequest,
    caller: Caller,
  ): Promise<MessageInitShape<typeof ApproveMachineResponseSchema>> => {
    const { store, directory, sessions, clock } = deps
    const { id } = resolveMachine(directory, request.ref)
    const labels = readLabelInput(request.labels)
    const { host } = request
    const now = clock.now()
    const by = `operator ${actorOf(caller)}`
    const others = await store.transact(async tx => {
      const row = await requireMachine(tx, id)
      const state = readState(row.state)
      if (state === 'banned') throw precondition('ref: the machine was banned, which is for good')
      const dispute = disputedBecause(await conditionsOf(tx, id))
      if (dispute) {
        throw precondition(
          `ref: ${dispute.class}: ${dispute.reason}; look at both machines, then \`muster release\` or \`muster reject\``,
        )
      }
      const findings = isSentAway(state)
        ? await findConflicts(tx, { machineId: id, claimed: identityOfRow(row), row, vouched: true })
        : []
      if (host !== '') await bindByHand(tx, directory, { host, machineId: id, by, now })
      const isNew = !isLive(state)
      await changeMachine(tx, row, {
        labels: JSON.stringify({ ...readLabels(row.labels), ...labels }),
        ...(isNew && { state: 'enrolled', admitted_by: by, admitted_at: now.getTime(), evicted_at: null }),
      })
      const what = isNew ? `let in by ${by}` : `labels or host given by ${by}`
      await recordEvent(tx, {
        at: now,
        class: 'approved',
        machine: id,
        host,
        reason: what,
        actor: actorOf(caller),
      })
      return await recordFindings(tx, id, findings, now)
    })
    if (host !== '') directory.bind(id, host)
    await refreshMachines(store.db, directory, [id, ...others])
    sessions.wake(id)
    return { machine: await describeMachine(deps, id) }
  }
}
