import type { MessageInitShape } from '@bufbuild/protobuf'
import type { GiveOrdersRequestSchema, OperationSummary } from '../../shared/gen/muster/v1/order_pb.ts'
import { randomId } from '../../shared/ids.ts'
import type { Cli } from '../cli.ts'
import { reportSelectorErrors } from '../commands/list-machines.ts'
import type { Connection } from '../connect.ts'
import { CliError } from '../exit-codes.ts'
import { tryAgain } from './try-again.ts'

type Action = NonNullable<MessageInitShape<typeof GiveOrdersRequestSchema>['action']>

/** Whom an order is for: hosts by name, or a selector, exactly one of the two. */
export interface OrderScope {
  readonly refs: readonly string[]
  readonly where?: string | undefined
  /** The hosts in `refs` are those that a selector found: nobody has named them. */
  readonly selected?: boolean
}

/** Fails where it is not said whom the order is for, or said twice. */
export function checkScope(command: string, { refs, where }: OrderScope): void {
  if (refs.length === 0 && where === undefined) {
    throw new CliError(
      'usage',
      `${command}: name hosts, or select them with --where EXPR (--where 'true' is all of them)`,
    )
  }
  if (refs.length > 0 && where !== undefined) {
    throw new CliError('usage', `${command}: name hosts or say --where, not both`)
  }
}

/** What an order became. */
export interface GivenOrders {
  readonly operations: readonly OperationSummary[]
  /** The rollout that orders further machines when their turn comes; empty: all were ordered. */
  readonly rollout: string
}

/**
 * Gives an order; the operations it became. The same request id makes one that is sent again, after its answer was lost,
 * the same order.
 */
export async function giveOrders(
  cli: Cli,
  { client, call }: Connection,
  command: string,
  { refs, where, selected = false }: OrderScope,
  action: Action,
): Promise<GivenOrders> {
  const request = { refs: [...refs], where: where ?? '', requestId: randomId(), action, selected }
  const { operations, errors, rolloutId } = await tryAgain(cli.signal, () => client.giveOrders(request, call))
  reportSelectorErrors(cli, errors, operations.length)
  if (operations.length > 0 || rolloutId !== '') return { operations, rollout: rolloutId }
  throw new CliError('notFound', `${command}: nothing matches, so nothing was ordered`)
}
