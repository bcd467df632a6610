import { pause } from '../../shared/lifecycle.ts'
import type { StatusBoard } from '../local/status-board.ts'
import type { Log } from '../log.ts'
import { type ConsoleWriter, consoleText } from './console.ts'
import { type EnrolDeps, enrolOnce } from './enrol.ts'
import { type EnrolmentOutcome, showsToken, waitAfter } from './enrolment-outcome.ts'
import type { EnrolmentToken } from './token.ts'

export interface EnrolmentDeps extends EnrolDeps {
  readonly token: EnrolmentToken | undefined
  readonly retry: { readonly firstMs: number; readonly mostMs: number }
  readonly console: ConsoleWriter
  readonly board: StatusBoard
  readonly log: Log
}

/** Asks for a certificate until there is one. Nothing is a reason to give up: an operator may change his mind. */
export async function enrolUntilAdmitted(deps: EnrolmentDeps, signal: AbortSignal): Promise<void> {
  const { board, retry, log, directory, token } = deps
  const enrolledBefore = directory.state.current.fleetAddress !== undefined
  let tokenRefused = false
  let keyWasNotEnough = false
  let attempt = 0
  let last = ''
  board.set('enrolling', '', deps.coordinator)
  while (!signal.aborted) {
    const withToken = showsToken({
      hasToken: token !== undefined,
      tokenRefused,
      enrolledBefore,
      keyWasNotEnough,
    })
    const outcome = await attemptOnce(deps, withToken ? token : undefined, signal)
    if (signal.aborted) return
    if (outcome.kind === 'admitted') {
      log.info({ coordinator: deps.coordinator }, 'machine enrolled')
      await deps.console.clear('\nMuster: this machine is enrolled\n')
      return
    }
    const told = JSON.stringify(outcome)
    if (told !== last) {
      log.warn({ ...outcome }, 'enrolment waits')
      attempt = outcome.kind === 'waiting' ? 0 : attempt
    }
    last = told
    board.set(boardPhase(outcome), describe(outcome), deps.coordinator)
    await deps.console.show(consoleText(outcome, directory.identity.id, deps.coordinator))
    if (outcome.kind === 'refused' && outcome.class.startsWith('token-')) tokenRefused = true
    if (outcome.kind === 'waiting' || outcome.kind === 'refused') keyWasNotEnough = true
    await pause(waitAfter(outcome, attempt++, retry), signal)
  }
}

async function attemptOnce(
  deps: EnrolmentDeps,
  token: EnrolmentToken | undefined,
  signal: AbortSignal,
): Promise<EnrolmentOutcome> {
  try {
    return await enrolOnce(deps, token, signal)
  } catch (error) {
    if (!signal.aborted) deps.log.error({ err: error }, 'enrolment attempt failed')
    return { kind: 'failed', class: 'local', reason: error instanceof Error ? error.message : String(error) }
  }
}

function boardPhase(outcome: EnrolmentOutcome): 'enrolling' | 'waiting' | 'refused' {
  if (outcome.kind === 'waiting') return 'waiting'
  return outcome.kind === 'refused' || outcome.kind === 'failed' ? 'refused' : 'enrolling'
}

function describe(outcome: Exclude<EnrolmentOutcome, { kind: 'admitted' }>): string {
  return 'class' in outcome ? `${outcome.class}: ${outcome.reason}` : outcome.reason
}
