import { status } from '@grpc/grpc-js'
import { escapeText } from '../../shared/escape.ts'
import { pause } from '../../shared/lifecycle.ts'
import { backoffMs } from '../../shared/retry.ts'
import { RpcError } from '../../shared/rpc/rpc-error.ts'
import type { Cli } from '../cli.ts'
import { withCoordinator } from '../connect.ts'
import { CliError } from '../exit-codes.ts'

export interface LogOptions {
  readonly follow?: boolean | undefined
  readonly operation?: string | undefined
  readonly tail?: number | undefined
}

const MOST_RETRIES = 20

/**
 * Prints the build output of a host. Following goes on when the coordinator was away: the lines have numbers, so none is
 * printed twice and what is missing is said.
 */
export async function followLogs(cli: Cli, ref: string, options: LogOptions): Promise<void> {
  await withCoordinator(cli, async ({ client, call }) => {
    let operationId = options.operation ?? ''
    let next: bigint | undefined
    let any = false
    for (let attempt = 0; ; attempt += 1) {
      try {
        const stream = client.followLogs(
          {
            ref,
            operationId,
            follow: options.follow ?? false,
            tail: next === undefined ? (options.tail ?? 0) : 0,
          },
          call,
        )
        for await (const part of stream) {
          attempt = 0
          if (part.operationId !== '' && part.operationId !== operationId) {
            operationId = part.operationId
            next = undefined
          }
          if (part.dropped > 0n) cli.io.err(`… ${part.dropped} lines were dropped: more came than is kept\n`)
          const skip = next === undefined || part.first >= next ? 0 : Number(next - part.first)
          for (const line of part.lines.slice(skip)) cli.io.out(`${printable(line)}\n`)
          any ||= part.lines.length > 0
          if (part.lines.length > 0) {
            const end = part.first + BigInt(part.lines.length)
            next = next === undefined || end > next ? end : next
          }
          if (part.end) return nothing(cli, any)
        }
        return nothing(cli, any)
      } catch (error) {
        const again = options.follow && error instanceof RpcError && error.code === status.UNAVAILABLE
        if (!again || attempt >= MOST_RETRIES) throw error
        if (!(await pause(backoffMs(attempt, { firstMs: 250, mostMs: 5_000 }), cli.signal))) {
          throw new CliError('interrupted', '')
        }
      }
    }
  })
}

/** A tab is no harm in build output, and common there. */
function printable(line: string): string {
  return escapeText(line.replaceAll('\t', '    '))
}

function nothing(cli: Cli, any: boolean): void {
  if (!any) cli.io.err('no output is kept of this operation\n')
}
