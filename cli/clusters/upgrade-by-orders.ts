import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'
import type { OperationSummary } from '../../shared/gen/muster/v1/operator_pb.ts'
import type { Cli } from '../cli.ts'
import type { Connection } from '../connect.ts'
import type { ExitName } from '../exit-codes.ts'
import { giveOrders } from '../orders/give-orders.ts'
import { waitForAll } from '../orders/wait-for-all.ts'
import { exitForOutcomes } from '../outcome-exit.ts'
import type { UpgradeLine } from './plan-upgrade.ts'

/**
 * Moves a cluster turn by turn, by orders, where the coordinator has no rollouts: each turn waits for the one before, and one that
 * fails is the last. Stopped anywhere, the same command goes on, since who runs the version already has no turn.
 */
export async function upgradeByOrders(
  cli: Cli,
  connection: Connection,
  lines: readonly UpgradeLine[],
  { action, revision }: { readonly action: 'upgrade' | 'apply'; readonly revision: bigint },
  timeoutMs: number,
): Promise<{ readonly exit: ExitName; readonly done: ReadonlySet<string> }> {
  const until = performance.now() + timeoutMs
  const ended: OperationSummary[] = []
  const order = { case: action, value: { revision } } as const
  const turns = [...new Set(lines.map(({ turn }) => turn))].filter(turn => turn > 0).sort((a, b) => a - b)
  for (const turn of turns) {
    const refs = lines.filter(line => line.turn === turn).map(({ host }) => host)
    const { operations: ordered } = await giveOrders(cli, connection, 'cluster upgrade', { refs }, order)
    const outcomes = await waitForAll(cli, connection, ordered, Math.max(1, until - performance.now()))
    ended.push(...outcomes)
    if (exitOf(outcomes) !== 'ok') break
  }
  const good = ended.filter(operation => exitOf([operation]) === 'ok')
  const exit = exitOf(ended)
  // Turns that were never begun count as well: the cluster is not where it was to go.
  const isWhole = ended.length === lines.filter(({ turn }) => turn > 0).length
  return {
    exit: exit === 'ok' && !isWhole ? 'partial' : exit,
    done: new Set(good.map(({ host }) => host)),
  }
}

function exitOf(operations: readonly OperationSummary[]): ExitName {
  const exit = exitForOutcomes(operations.map(({ outcome }) => outcome?.class ?? OutcomeClass.UNKNOWN))
  return exit === 'degraded' ? 'ok' : exit
}
