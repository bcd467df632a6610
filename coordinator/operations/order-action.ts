import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { OrderSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import type { GiveOrdersRequest } from '../../shared/gen/muster/v1/order_pb.ts'
import type { OperationRow } from '../store/operations.ts'

export const ACTIONS = [
  'apply',
  'plan',
  'rollback',
  'reboot',
  'restart',
  'hold',
  'resume',
  'retry',
  'upgrade',
  'fetch',
] as const
export type ActionWord = (typeof ACTIONS)[number]

/** What an operator wants of every machine named. */
export type WantedAction =
  | { readonly word: 'apply' | 'plan' }
  /** To the Kubernetes of a revision, or only to have it there. */
  | { readonly word: 'upgrade' | 'fetch' }
  /** Without an operation: back to what ran before the newest change of the system. */
  | { readonly word: 'rollback'; readonly to: string; readonly before: boolean }
  | { readonly word: 'hold'; readonly reason: string }
  | { readonly word: 'reboot' | 'restart' | 'resume' | 'retry' }

/** What one machine is ordered: as wanted, with everything filled in. */
export type DecidedAction = WantedAction

export const CHANGES = [
  'apply',
  'upgrade',
  'rollback',
  'reboot',
  'restart',
] as const satisfies readonly ActionWord[]

/** Actions that change what the node runs: one after the other, and only where the node's own settings allow. */
export function isChange(word: string): boolean {
  return CHANGES.some(change => change === word)
}

/** Whether an order as it is sent changes what the node runs. */
export function changesNode({ action }: OrderInit): boolean {
  if (action?.case === 'apply') return action.value?.planOnly !== true
  if (action?.case === 'upgrade') return action.value?.fetchOnly !== true
  return action?.case === undefined || isChange(action.case)
}

/** Actions that go to what a revision says. */
export function needsRevision(word: string): boolean {
  return word === 'apply' || word === 'plan' || word === 'upgrade' || word === 'fetch'
}

/** Reads the action of a request; a text is what is wrong with it. */
export function readAction({ action }: Pick<GiveOrdersRequest, 'action'>): WantedAction | string {
  switch (action.case) {
    case 'apply':
      return { word: action.value.planOnly ? 'plan' : 'apply' }
    case 'rollback': {
      const { operationId, before } = action.value
      if (operationId.length > 64) return 'rollback.operation_id: longer than any that can be'
      if (operationId === '' && before) {
        return 'rollback.before: needs an operation_id; without either, the change before the newest is meant'
      }
      return { word: 'rollback', to: operationId, before }
    }
    case 'hold': {
      const reason = action.value.reason.trim()
      if (reason === '' || reason.length > 256) return 'hold.reason: must be 1 to 256 characters'
      return { word: 'hold', reason }
    }
    case 'upgrade':
      return { word: action.value.fetchOnly ? 'fetch' : 'upgrade' }
    case 'reboot':
    case 'restart':
    case 'resume':
    case 'retry':
      return { word: action.case }
    case undefined:
      return 'action: must be one of apply, upgrade, rollback, reboot, restart, hold, resume, retry'
  }
}

type OrderInit = MessageInitShape<typeof OrderSchema>
type OrderAction = NonNullable<OrderInit['action']>

/** The action as its order carries it. */
export function orderAction(action: DecidedAction): OrderAction {
  switch (action.word) {
    case 'apply':
      return { case: 'apply', value: { planOnly: false } }
    case 'plan':
      return { case: 'apply', value: { planOnly: true } }
    case 'rollback':
      return { case: 'rollback', value: { operationId: action.to, before: action.before } }
    case 'hold':
      return { case: 'hold', value: { reason: action.reason } }
    case 'upgrade':
      return { case: 'upgrade', value: { fetchOnly: false } }
    case 'fetch':
      return { case: 'upgrade', value: { fetchOnly: true } }
    case 'reboot':
      return { case: 'reboot', value: {} }
    case 'restart':
      return { case: 'restart', value: {} }
    case 'resume':
      return { case: 'resume', value: {} }
    case 'retry':
      return { case: 'retry', value: {} }
  }
}

/** The columns that keep an action, so that the order can be sent again from its row alone. */
export function actionColumns(action: DecidedAction) {
  return {
    action: action.word,
    order_action: toBinary(OrderSchema, create(OrderSchema, { action: orderAction(action) })),
    rollback_to: action.word === 'rollback' ? action.to : '',
    rollback_before: action.word === 'rollback' && action.before ? 1 : 0,
  } as const
}

/** The action of a row; rows from before there were any mean "go to the revision". */
export function actionOfRow(row: Pick<OperationRow, 'order_action'>): OrderAction {
  const kept = row.order_action ? fromBinary(OrderSchema, row.order_action).action : undefined
  return kept?.case === undefined ? { case: 'apply', value: { planOnly: false } } : kept
}
