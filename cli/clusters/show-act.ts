import { escapeText } from '../../shared/escape.ts'
import type { ClusterAct } from '../../shared/gen/muster/v1/cluster_pb.ts'
import type { Cli } from '../cli.ts'
import { CliError } from '../exit-codes.ts'
import { actRecord } from '../output/act-listing.ts'
import type { Format } from '../output/format.ts'
import { showOne } from '../output/show-list.ts'
import { actState, exitForAct, subjectOf } from './act-state.ts'

/** How a command that waits for acts is told to. */
export interface ActOptions {
  readonly wait: boolean
  /** Milliseconds. */
  readonly timeout: number
  readonly output?: Format | undefined
}

/** Writes what came of an act; one that was not done ends the command with the code of its class. */
export async function showAct(
  cli: Cli,
  act: ClusterAct,
  output: Format | undefined,
  hint: string = '',
): Promise<void> {
  const exit = act.ended ? exitForAct(act) : 'ok'
  const good = exit === 'ok'
  await showOne(cli.io, actRecord(act), output, () =>
    good ? `${escapeText(`${subjectOf(act)}: ${act.act}: ${actState(act)}`)}\n` : '',
  )
  if (!good) throw new CliError(exit, `${failureText(act)}${hint === '' ? '' : `\n${hint}`}`)
}

/** Why an act was not done; pods in the way of a drain have a line each. */
export function failureText(act: ClusterAct): string {
  const head = `${subjectOf(act)}: ${act.act}: ${act.result?.class || 'failed'}`
  const reason = act.result?.reason || act.reason
  const at = act.result?.class === 'blocked' ? reason.indexOf(': pod ') : -1
  if (at === -1) return escapeText(reason === '' ? head : `${head}: ${reason}`)
  const pods = reason.slice(at + 2).split(/; (?=pod \S+\/|and \d+ more)/)
  return [`${head}: ${reason.slice(0, at)}; in the way:`, ...pods.map(pod => `  ${pod}`)]
    .map(escapeText)
    .join('\n')
}
