import type { Transaction } from 'kysely'
import { cutText } from '../../shared/cut-text.ts'
import { notFound, precondition } from '../../shared/rpc/rpc-error.ts'
import type { ChangeFeed } from '../operations/change-feed.ts'
import { abandonOperations } from '../operations/orders.ts'
import type { OpenCalls } from '../services/open-calls.ts'
import type { Sessions } from '../sessions/sessions.ts'
import { deleteBindingOfMachine } from '../store/bindings.ts'
import { forgetInClusters } from '../store/cluster-machines.ts'
import { clearConditions } from '../store/conditions.ts'
import { recordEvent } from '../store/events.ts'
import { changeMachine, findMachine, type MachineChange, type MachineRow } from '../store/machines.ts'
import type { Database } from '../store/tables.ts'
import { type DescribeDeps, describeMachine, type MachineInit } from './describe-machines.ts'
import { type MachineState, readState } from './entry.ts'
import { refreshMachines } from './refresh.ts'
import { settleCollisions } from './settle-collisions.ts'

export interface ChangeStateDeps extends DescribeDeps {
  readonly sessions: Pick<Sessions, 'online' | 'lastMessage' | 'end' | 'wake'>
  readonly openCalls: Pick<OpenCalls, 'endMachine'>
  /** Told of the operations that end with the machine. */
  readonly operationFeed?: Pick<ChangeFeed, 'notify'>
}

/** Longest reason an operator may give. */
export const MAX_REASON_CHARS = 1_000

/** Sends a machine away: its state and its binding change in one transaction, then its live sessions and downloads end at once. */
export async function sendAway(
  deps: ChangeStateDeps,
  machineId: string,
  input: {
    readonly state: 'rejected' | 'evicted' | 'banned'
    /** States from which this verb leads there, and what to say of the others. */
    readonly from: readonly MachineState[]
    readonly otherwise: (state: MachineState) => string
    readonly reason: string
    readonly actor: string
  },
): Promise<MachineInit> {
  const { store, directory, sessions, openCalls, clock } = deps
  const reason = cutText(input.reason, MAX_REASON_CHARS)
  const now = clock.now()
  const { settled, ended } = await store.transact(async tx => {
    const row = await requireMachine(tx, machineId)
    const state = readState(row.state)
    if (state === input.state) return { settled: [], ended: [] }
    if (state === 'banned')
      throw precondition('ref: the machine was banned, which is for good: it has nothing to lose')
    if (!input.from.includes(state)) {
      throw precondition(`ref: the machine is ${state}; ${input.otherwise(state)}`)
    }
    const change: MachineChange = {
      state: input.state,
      ...(input.state === 'rejected'
        ? {}
        : {
            evicted_at: now.getTime(),
            certificate_not_after: null,
            certificate_issuer: '',
          }),
    }
    await changeMachine(tx, row, change)
    await deleteBindingOfMachine(tx, machineId)
    await forgetInClusters(tx, machineId)
    await clearConditions(tx, machineId, ['clone', 'collision', 'went-back', 'similar', 'clock'])
    await recordEvent(tx, { at: now, class: input.state, machine: machineId, reason, actor: input.actor })
    const ended = await abandonOperations(tx, machineId, `the machine was ${input.state}`, now)
    return { settled: await settleCollisions(tx, row.serial, now), ended }
  })
  for (const id of ended) deps.operationFeed?.notify(id)
  directory.bind(machineId, undefined)
  await refreshMachines(store.db, directory, [machineId, ...settled])
  const told = reason === '' ? `this machine was ${input.state}` : `${input.state}: ${reason}`
  sessions.end(machineId, told)
  openCalls.endMachine(machineId, told)
  for (const id of settled) sessions.wake(id)
  return await describeMachine(deps, machineId)
}

export async function requireMachine(tx: Transaction<Database>, id: string): Promise<MachineRow> {
  const row = await findMachine(tx, id)
  if (!row) throw notFound(`ref: there is no machine ${id}`)
  return row
}
