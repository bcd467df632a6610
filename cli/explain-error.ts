import { status } from '@grpc/grpc-js'
import { reasonOf } from '../shared/errors.ts'
import { escapeText } from '../shared/escape.ts'
import { RpcError } from '../shared/rpc/rpc-error.ts'
import { CliError, type ExitName } from './exit-codes.ts'

/** The exit for each kind of refusal by the coordinator. */
export function exitForStatus(code: status): ExitName {
  switch (code) {
    case status.OK:
      return 'ok'
    case status.INVALID_ARGUMENT:
    case status.OUT_OF_RANGE:
      return 'usage'
    case status.NOT_FOUND:
      return 'notFound'
    case status.PERMISSION_DENIED:
    case status.UNAUTHENTICATED:
    case status.FAILED_PRECONDITION:
    case status.RESOURCE_EXHAUSTED:
      return 'refused'
    case status.ALREADY_EXISTS:
    case status.ABORTED:
      return 'conflict'
    case status.UNAVAILABLE:
    case status.DEADLINE_EXCEEDED:
      return 'unavailable'
    case status.CANCELLED:
      return 'interrupted'
    case status.UNIMPLEMENTED:
    case status.INTERNAL:
    case status.DATA_LOSS:
    case status.UNKNOWN:
      return 'error'
  }
}

/** An error of a call as people are told it. `place` is where the coordinator was looked for, `cure` what to try then. */
export function explainCallError(error: unknown, place: string, cure: string): unknown {
  if (!(error instanceof RpcError)) return error
  const exit = exitForStatus(error.code)
  const text = asTyped(escapeLines(error.message))
  if (error.code === status.UNAVAILABLE) {
    return new CliError(exit, `no answer from the coordinator at ${place}: ${text}\n${cure}`, {
      cause: error,
    })
  }
  if (error.code === status.DEADLINE_EXCEEDED) {
    return new CliError(exit, `the coordinator at ${place} did not answer in time\n${cure}`, { cause: error })
  }
  if (error.code === status.UNIMPLEMENTED) {
    return new CliError(
      exit,
      `the coordinator at ${place} does not know this command; it is older than this program: ${text}`,
      { cause: error },
    )
  }
  return new CliError(exit, text, { cause: error })
}

/** Fields of a request by the names of the options that they come from. */
function asTyped(text: string): string {
  return text
    .replace(/^settings\.canaries:/, '--canary:')
    .replace(/^settings\.([a-z_]+):/, (_, name: string) => `--${name.replaceAll('_', '-')}:`)
    .replace(
      /^(sort|select|group_by)(\[\d+\]:)/,
      (_, name: string, at: string) => `--${name.replace('_', '-')}${at}`,
    )
}

/** Line breaks are meant where problems are listed; machines' own words come without. */
function escapeLines(text: string): string {
  return text.split('\n').map(escapeText).join('\n')
}

/** What to print and how to exit for anything that was thrown. */
export function describeFailure(error: unknown): { readonly exit: ExitName; readonly text: string } {
  if (error instanceof CliError) return { exit: error.exit, text: error.message }
  if (error instanceof RpcError) return { exit: exitForStatus(error.code), text: escapeLines(error.message) }
  return { exit: 'error', text: escapeText(reasonOf(error)) }
}
