import type { MessageInitShape } from '@bufbuild/protobuf'
import type {
  ConfirmOperationRequest,
  ConfirmOperationResponseSchema,
} from '../../shared/gen/muster/v1/agent_pb.ts'
import type { Logger } from '../../shared/log.ts'
import { invalid } from '../../shared/rpc/rpc-error.ts'
import type { MachineDirectory } from '../machines/directory.ts'
import { heldBecause } from '../machines/entry.ts'
import type { Sessions } from '../sessions/sessions.ts'
import { recordEvent } from '../store/events.ts'
import { findOperation, planOf } from '../store/operations.ts'
import { recordSeldom } from '../store/seldom.ts'
import { judgeConfirm } from './judge-confirm.ts'
import { moveOperation, stateOf } from './move-operation.ts'
import type { OrderDeps } from './orders.ts'
import { whatWasOrdered } from './what-was-ordered.ts'

export interface ConfirmDeps extends OrderDeps {
  readonly directory: MachineDirectory
  readonly sessions: Pick<Sessions, 'live'>
  readonly log: Logger
}

/** Answers whether the coordinator sees a machine after an activation, and writes down that it does before it says so. */
export async function confirmOperation(
  { store, clock, directory, sessions, operationFeed, log }: ConfirmDeps,
  machine: string,
  request: ConfirmOperationRequest,
): Promise<MessageInitShape<typeof ConfirmOperationResponseSchema>> {
  const { operationId: id, instance, bootId, storePath } = request
  if (id === '' || id.length > 64) throw invalid('operation_id: must be 1 to 64 characters')
  if (instance === '' || instance.length > 64) throw invalid('instance: must be 1 to 64 characters')
  if (bootId.length > 64) throw invalid('boot_id: longer than 64 characters')
  if (storePath.length > 1_024) throw invalid('store_path: longer than 1024 characters')
  const now = clock.now()
  const verdict = await store.transact(async tx => {
    const row = await findOperation(tx, id)
    const entry = directory.get(machine)
    const verdict = judgeConfirm(
      {
        machine,
        instance,
        bootId,
        storePath,
        operation: row && {
          machine: row.machine,
          state: stateOf(row),
          activatedBy: row.activated_by,
          target: planOf(row)?.to ?? '',
        },
        machineState: entry?.state ?? 'not enrolled here',
        held: entry && heldBecause(entry)?.class,
        session: sessions.live(machine),
      },
      now.getTime(),
    )
    if (verdict.kind === 'refused' && verdict.foreign) {
      const reason = `asked to confirm operation ${id}, which is another machine’s`
      await recordSeldom(tx, 'foreign-operation', machine, now, reason)
    }
    if (verdict.kind === 'confirm' && row) {
      await moveOperation(tx, row, { kind: 'confirmed' }, undefined, now)
      const reason = `operation ${id} (${whatWasOrdered(row)}): seen over a new session`
      await recordEvent(tx, {
        at: now,
        class: 'confirmed',
        machine,
        host: row.host,
        reason,
        actor: 'coordinator',
      })
    }
    return verdict
  })
  if (verdict.kind === 'refused') {
    log.info({ machineId: machine, operationId: id, reason: verdict.reason }, 'operation not confirmed')
    return { confirmed: false, reason: verdict.reason }
  }
  if (verdict.kind === 'confirm') operationFeed.notify(id)
  return { confirmed: true }
}
