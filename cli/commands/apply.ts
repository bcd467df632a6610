import { escapeText } from '../../shared/escape.ts'
import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'
import type { OperationSummary } from '../../shared/gen/muster/v1/order_pb.ts'
import type { Cli } from '../cli.ts'
import { type Connection, withCoordinator } from '../connect.ts'
import { CliError } from '../exit-codes.ts'
import { checkScope, type GivenOrders, giveOrders, type OrderScope } from '../orders/give-orders.ts'
import { waitForAll } from '../orders/wait-for-all.ts'
import { exitForOutcomes } from '../outcome-exit.ts'
import type { Format } from '../output/format.ts'
import { operationListing } from '../output/operation-listing.ts'
import { showList } from '../output/show-list.ts'
import { followRollout, lookOf } from '../rollouts/follow-rollout.ts'
import { planFirst } from './plan.ts'

export interface WaitOptions {
  readonly wait: boolean
  /** Milliseconds. */
  readonly timeout: number
  readonly output?: Format | undefined
}

export interface ApplyOptions extends WaitOptions {
  readonly where?: string | undefined
  readonly revision?: number | undefined
  /** Show every plan first, and ask. */
  readonly plan?: boolean | undefined
  /** With `plan`: do not ask. */
  readonly yes?: boolean | undefined
}

/** Orders machines to a revision and, unless told otherwise, waits until each has an outcome. */
export async function apply(cli: Cli, refs: readonly string[], options: ApplyOptions): Promise<void> {
  const { where, plan, yes, timeout } = options
  checkScope('apply', { refs, where })
  if (yes && !plan) throw new CliError('usage', 'apply: --yes answers the question of --plan; say both')
  await withCoordinator(cli, async connection => {
    let scope: OrderScope = { refs, where }
    let revision = BigInt(options.revision ?? 0)
    if (plan) {
      const approved = await planFirst(cli, connection, scope, { revision, timeout, yes: yes === true })
      // What was looked at and nothing else: not what a selector would match, or a revision that came, meanwhile.
      scope = { refs: approved.machines, selected: where !== undefined }
      revision = approved.revision
    }
    const ordered = await giveOrders(cli, connection, 'apply', scope, {
      case: 'apply',
      value: { revision },
    })
    await showOutcomes(cli, connection, ordered, options)
  })
}

/** Follows a rollout to its end; the operations that it gave. Hosts that it left are named. */
async function waitForRollout(
  cli: Cli,
  connection: Connection,
  id: string,
  timeoutMs: number,
): Promise<readonly OperationSummary[]> {
  const { hosts } = await followRollout(cli, connection, id, { look: lookOf(cli), timeoutMs })
  const left = hosts.filter(({ operationId }) => operationId === '')
  const operationIds = hosts.map(({ operationId }) => operationId).filter(operation => operation !== '')
  const { operations } =
    operationIds.length === 0
      ? { operations: [] }
      : await connection.client.listOperations({ operationIds, limit: 1_000 }, connection.call)
  if (left.length > 0) {
    const names = left.slice(0, 10).map(({ host, reason }) => `${host}${reason === '' ? '' : ` (${reason})`}`)
    const text = `rollout ${id} left ${left.length} behind: ${names.join(', ')}`
    if (operations.length === 0) throw new CliError('refused', text)
    cli.io.err(`${escapeText(text)}\n`)
  }
  return operations
}

/** Waits for what was ordered, unless told otherwise, lists it and ends with the code of its outcomes. */
export async function showOutcomes(
  cli: Cli,
  connection: Connection,
  { operations: ordered, rollout }: GivenOrders,
  { wait, timeout, output }: WaitOptions,
): Promise<void> {
  if (!wait) {
    if (rollout !== '') {
      cli.io.err(
        `rollout ${rollout} orders the others when their turn comes: \`muster rollout watch ${rollout}\`\n`,
      )
    }
    return showList(cli.io, ordered, operationListing(cli.clock.now()), output)
  }
  const ended =
    rollout === ''
      ? await waitForAll(cli, connection, ordered, timeout)
      : await waitForRollout(cli, connection, rollout, timeout)
  await showList(cli.io, ended, operationListing(cli.clock.now()), output)
  const exit = exitForOutcomes(ended.map(({ outcome }) => outcome?.class ?? OutcomeClass.UNKNOWN))
  if (exit !== 'ok') throw new CliError(exit, '')
}
