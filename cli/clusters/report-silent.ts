import type { Cli } from '../cli.ts'
import { CliError } from '../exit-codes.ts'
import { exitForActs, isDone } from './act-state.ts'
import type { Gathered } from './gather.ts'
import { failureText } from './show-act.ts'

/** Names the hosts that gave no answer, and ends the command accordingly: partly, or as they did where all are the same. */
export function reportSilent(cli: Pick<Cli, 'io'>, gathered: readonly Gathered[]): void {
  const bad = gathered.filter(each => !('act' in each && isDone(each.act)))
  if (bad.length === 0) return
  for (const each of bad) cli.io.err(`${'act' in each ? failureText(each.act) : each.refused.message}\n`)
  if (bad.length < gathered.length) throw new CliError('partial', '')
  const acts = bad.flatMap(each => ('act' in each ? each.act : []))
  const refused = bad.flatMap(each => ('act' in each ? [] : each.refused))
  throw new CliError(refused[0]?.exit ?? exitForActs(acts), '')
}
