import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { reasonOf } from '../../shared/errors.ts'
import { escapeText } from '../../shared/escape.ts'
import { withDeadline } from '../../shared/lifecycle.ts'
import type { Log } from '../log.ts'
import type { EnrolmentOutcome } from './enrolment-outcome.ts'

const MAX_REASON_CHARS = 300
const WRITE_DEADLINE_MS = 2_000

/** What a person in front of the machine needs to know. Text from the coordinator is bounded and escaped. */
export function consoleText(
  outcome: Exclude<EnrolmentOutcome, { kind: 'admitted' }>,
  machine: string,
  coordinator: string,
): string {
  const lines = [
    headline(outcome),
    `  machine      ${machine}`,
    `  coordinator  ${coordinator}`,
    `  reason       ${clean('class' in outcome ? `${outcome.class}: ${outcome.reason}` : outcome.reason)}`,
  ]
  const cure = cureFor(outcome, machine)
  if (cure) lines.push(`  ${cure}`)
  return `\nMuster: ${lines.join('\n')}\n`
}

/** The same of an agent that cannot even begin to enrol, such as with a token file that everybody can read. */
export function failedStartText(error: unknown): string {
  return `\nMuster: the agent of this machine does not start; trying again\n  reason       ${clean(reasonOf(error))}\n`
}

/** What an operator's approval overrules; of anything else only the coordinator knows what helps. */
const APPROVED: ReadonlySet<string> = new Set(['evicted', 'rejected'])

function headline(outcome: Exclude<EnrolmentOutcome, { kind: 'admitted' }>): string {
  switch (outcome.kind) {
    case 'waiting':
      return 'this machine waits to be let into the fleet'
    case 'refused':
      return 'the coordinator refused this machine'
    case 'away':
      return 'the coordinator cannot be reached; trying again'
    case 'failed':
      return 'this machine cannot enrol; trying again'
  }
}

function cureFor(
  outcome: Exclude<EnrolmentOutcome, { kind: 'admitted' }>,
  machine: string,
): string | undefined {
  switch (outcome.kind) {
    case 'waiting': {
      const command = clean(outcome.command)
      return `to let it in ${command === '' ? `muster approve ${machine}` : command}`
    }
    case 'refused': {
      const approves = APPROVED.has(outcome.class)
      const command = clean(outcome.command) || (approves ? `muster approve ${machine}` : '')
      return command === '' ? undefined : `${approves ? 'to let it in' : 'what helps  '} ${command}`
    }
    case 'failed':
      switch (outcome.class) {
        case 'clock':
          return 'set this machine’s clock, for instance with `timedatectl set-ntp true`'
        case 'pin':
        case 'chain':
          return 'this is another coordinator than the CA pin names, or the pin is wrong; nothing was sent to it'
        case 'trust':
          return 'compare the trust pin with `muster trust show` at an operator’s'
        default:
          return undefined
      }
    case 'away':
      return undefined
  }
}

function clean(text: string): string {
  const escaped = escapeText(text)
  return escaped.length > MAX_REASON_CHARS ? `${escaped.slice(0, MAX_REASON_CHARS)}…` : escaped
}

/** Shows texts on the machine's console, each only when it differs from the one before. */
export class ConsoleWriter {
  readonly #target: string
  readonly #log: Log
  #shown = ''

  constructor(target: string, log: Log) {
    this.#target = target
    this.#log = log
  }

  async show(text: string): Promise<void> {
    if (this.#target === 'none' || text === this.#shown) return
    this.#shown = text
    try {
      await withDeadline(WRITE_DEADLINE_MS, undefined, () => write(this.#target, text))
    } catch (error) {
      this.#log.warn({ console: this.#target, err: reasonOf(error) }, 'console could not be written')
    }
  }

  /** Says that all is well, where something else was said before. */
  async clear(text: string): Promise<void> {
    if (this.#shown === '' || this.#shown === text) return
    await this.show(text)
  }
}

async function write(target: string, text: string): Promise<void> {
  if (target === '-') {
    process.stderr.write(text)
    return
  }
  // A console may be blocked by a person's Ctrl-S, and must not become this process's controlling terminal.
  const flags =
    constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NOCTTY | constants.O_NONBLOCK
  const handle = await open(target, flags, 0o600)
  try {
    await handle.writeFile(target.startsWith('/dev/') ? text.replaceAll('\n', '\r\n') : text)
  } finally {
    await handle.close()
  }
}
