import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'
import type { OperationSummary } from '../../shared/gen/muster/v1/order_pb.ts'
import type { Cli } from '../cli.ts'
import { type Connection, withCoordinator } from '../connect.ts'
import { CliError } from '../exit-codes.ts'
import { checkScope, giveOrders, type OrderScope } from '../orders/give-orders.ts'
import { waitForAll } from '../orders/wait-for-all.ts'
import { exitForOutcomes } from '../outcome-exit.ts'
import type { Format } from '../output/format.ts'
import { planListing, planText } from '../output/plan-listing.ts'
import { renderList } from '../output/show-list.ts'

export interface PlanOptions {
  readonly where?: string | undefined
  readonly revision?: number | undefined
  /** Milliseconds. */
  readonly timeout: number
  readonly output?: Format | undefined
}

/** Plans that are written out one after the other below the table; more are told as a table alone. */
const WRITTEN_OUT = 20

/** Has each host find out what a revision would change there, and shows it; nothing of any host is touched. */
export async function plan(cli: Cli, refs: readonly string[], options: PlanOptions): Promise<void> {
  const { where, revision, timeout, output } = options
  checkScope('plan', { refs, where })
  await withCoordinator(cli, async connection => {
    const planned = await makePlans(cli, connection, 'plan', { refs, where }, BigInt(revision ?? 0), timeout)
    cli.io.out(await renderPlans(cli, planned, output))
    const exit = exitOf(planned)
    if (exit !== 'ok') throw new CliError(exit, '')
  })
}

/**
 * Shows every plan and asks whether to go on. What is approved are the machines whose plan was seen, and the revision that
 * was planned. Fails where a host could not plan, or the answer is no.
 */
export async function planFirst(
  cli: Cli,
  connection: Connection,
  scope: OrderScope,
  options: { readonly revision: bigint; readonly timeout: number; readonly yes: boolean },
): Promise<{ readonly machines: readonly string[]; readonly revision: bigint }> {
  const { revision, timeout, yes } = options
  if (!yes && !cli.io.ask) {
    throw new CliError('usage', 'apply: --plan asks before it goes on, and there is no terminal; say --yes')
  }
  const planned = await makePlans(cli, connection, 'apply', scope, revision, timeout)
  cli.io.err(await renderPlans(cli, planned, undefined))
  if (exitOf(planned) !== 'ok') {
    throw new CliError(exitOf(planned), 'apply: not every host could plan it, so nothing was ordered')
  }
  const [first] = planned
  const number = first?.revision ?? revision
  if (!yes) {
    const what = `revision ${number} on ${planned.length === 1 ? 'this host' : `these ${planned.length} hosts`}`
    const answer = (await cli.io.ask?.(`Apply ${what}? [y/N] `)) ?? ''
    if (!/^y(es)?$/i.test(answer.trim())) {
      throw new CliError('refused', 'apply: not approved, so nothing was ordered')
    }
  }
  return { machines: planned.map(({ machine }) => machine), revision: number }
}

async function makePlans(
  cli: Cli,
  connection: Connection,
  command: string,
  scope: OrderScope,
  revision: bigint,
  timeoutMs: number,
): Promise<readonly OperationSummary[]> {
  const action = { case: 'apply' as const, value: { revision, planOnly: true } }
  const { operations: ordered } = await giveOrders(cli, connection, command, scope, action)
  return await waitForAll(cli, connection, ordered, timeoutMs)
}

/** A plan that says "only a reboot would reach it" has answered the question as well as any other. */
function exitOf(planned: readonly OperationSummary[]) {
  return exitForOutcomes(
    planned.map(({ outcome, plan }) => {
      const kind = outcome?.class ?? OutcomeClass.UNKNOWN
      return kind === OutcomeClass.REBOOT_REQUIRED && plan ? OutcomeClass.SUCCEEDED : kind
    }),
  )
}

async function renderPlans(
  cli: Cli,
  planned: readonly OperationSummary[],
  format: Format | undefined,
): Promise<string> {
  const listing = planListing()
  if (format !== undefined && format !== 'table') return await renderList(cli.io, planned, listing, format)
  const texts = planned.map(operation => planText(operation, cli.io.colour))
  if (planned.length === 1) return texts.join('')
  const table = await renderList(cli.io, planned, listing, 'table')
  if (planned.length > WRITTEN_OUT) return table
  return `${table}\n${texts.join('\n')}`
}
