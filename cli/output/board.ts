import { escapeText } from '../../shared/escape.ts'
import type { OperationSummary } from '../../shared/gen/muster/v1/order_pb.ts'
import type { Cli } from '../cli.ts'
import { formatDuration } from '../duration.ts'
import { paint } from './colour.ts'
import { nameOf, operationStyle, orderText, reasonOfOperation, stateOf, tookMs } from './operation-listing.ts'

/** What shows how far each node is, on standard error. */
export interface Board extends Disposable {
  update(operation: OperationSummary): void
}

const REDRAW_MS = 1_000
const MOST_LINES = 20

/** On a terminal a picture that is redrawn; elsewhere one line for each change. */
export function startBoard(cli: Pick<Cli, 'io' | 'clock' | 'settings'>): Board {
  return cli.io.errIsTerminal ? drawnBoard(cli) : lineBoard(cli)
}

function lineBoard({ io }: Pick<Cli, 'io'>): Board {
  const said = new Map<string, string>()
  return {
    update(operation) {
      const reason = reasonOfOperation(operation)
      const state = `${stateOf(operation)}${reason === '' ? '' : `: ${reason}`}`
      if (said.get(operation.operationId) === state) return
      said.set(operation.operationId, state)
      io.err(`${escapeText(`${nameOf(operation)}: ${orderText(operation)}: ${state}`)}\n`)
    },
    [Symbol.dispose]() {},
  }
}

function drawnBoard({ io, clock, settings }: Pick<Cli, 'io' | 'clock' | 'settings'>): Board {
  const operations = new Map<string, OperationSummary>()
  let drawn = 0
  const erase = () => {
    if (drawn > 0) io.err(`\u001b[${drawn}A\u001b[J`)
    drawn = 0
  }
  const draw = () => {
    erase()
    const now = clock.now().getTime()
    const all = [...operations.values()]
    // Those that still run are what one looks at.
    const open = all.filter(({ outcome }) => !outcome)
    const shown = [...open, ...all.filter(({ outcome }) => outcome)].slice(0, MOST_LINES)
    const width = Math.max(...shown.map(operation => nameOf(operation).length), 4)
    const lines = shown.map(operation => {
      const took = tookMs(operation, now)
      const text = escapeText(
        `${nameOf(operation).padEnd(width)}  ${stateOf(operation)}  ${took === undefined ? '' : formatDuration(took)}  ${reasonOfOperation(operation)}`,
      ).slice(0, io.columns - 1)
      return paint(text, operationStyle(operation), !settings.noColour)
    })
    lines.push(`${all.length - open.length} of ${all.length} done`)
    io.err(`${lines.join('\n')}\n`)
    drawn = lines.length
  }
  // Unref'd: it must not keep the process alive. It only lets the durations go on.
  const timer = setInterval(draw, REDRAW_MS)
  timer.unref()
  return {
    update(operation) {
      operations.set(operation.operationId, operation)
      draw()
    },
    [Symbol.dispose]() {
      clearInterval(timer)
      erase()
    },
  }
}
