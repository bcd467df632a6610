import type { Cli } from '../cli.ts'
import { withCoordinator } from '../connect.ts'
import { CliError } from '../exit-codes.ts'
import { giveOrders } from '../orders/give-orders.ts'
import { showOutcomes, type WaitOptions } from './apply.ts'
import { wholeOperationId } from './list-operations.ts'

/** Back to what ran before the newest change, or to what an operation reached. */
export async function rollback(
  cli: Cli,
  host: string,
  options: WaitOptions & { readonly to?: string | undefined; readonly before?: string | undefined },
): Promise<void> {
  const { to, before } = options
  if (to !== undefined && before !== undefined) {
    throw new CliError('usage', 'rollback: --to and --before: give one of the two')
  }
  const named = to ?? before
  const operationId =
    named === undefined
      ? ''
      : await withCoordinator(cli, async connection => await wholeOperationId(connection, named))
  const value = { operationId, before: before !== undefined }
  await orderHost(cli, 'rollback', host, { case: 'rollback', value }, options)
}

export async function reboot(cli: Cli, host: string, options: WaitOptions): Promise<void> {
  await orderHost(cli, 'reboot', host, { case: 'reboot', value: {} }, options)
}

/** Of the Kubernetes that runs there. */
export async function restart(cli: Cli, host: string, options: WaitOptions): Promise<void> {
  await orderHost(cli, 'restart', host, { case: 'restart', value: {} }, options)
}

/** From here on the node obeys nothing but resume, retry and plan. */
export async function hold(
  cli: Cli,
  host: string,
  options: WaitOptions & { readonly why: string },
): Promise<void> {
  const reason = options.why.trim()
  if (reason === '' || reason.length > 256) {
    throw new CliError(
      'usage',
      'hold: --why must be 1 to 256 characters; whoever finds the node held reads it',
    )
  }
  await orderHost(cli, 'hold', host, { case: 'hold', value: { reason } }, options)
}

export async function resume(cli: Cli, host: string, options: WaitOptions): Promise<void> {
  await orderHost(cli, 'resume', host, { case: 'resume', value: {} }, options)
}

/** Lifts the quarantine of what failed on the node. */
export async function retry(cli: Cli, host: string, options: WaitOptions): Promise<void> {
  await orderHost(cli, 'retry', host, { case: 'retry', value: {} }, options)
}

async function orderHost(
  cli: Cli,
  command: string,
  host: string,
  action: Parameters<typeof giveOrders>[4],
  options: WaitOptions,
): Promise<void> {
  await withCoordinator(cli, async connection => {
    const ordered = await giveOrders(cli, connection, command, { refs: [host] }, action)
    await showOutcomes(cli, connection, ordered, options)
  })
}
