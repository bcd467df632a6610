import { InvalidArgumentError, Option } from '@commander-js/extra-typings'
import { durationMs } from '../shared/duration.ts'
import { parseDuration } from './duration.ts'
import { FORMATS } from './output/format.ts'

/** `-o`, the same wherever something is shown. */
export function outputOption() {
  return new Option('-o, --output <format>', 'how to write it').choices(FORMATS)
}

/** `--watch [seconds]`. */
export function watchOption() {
  return new Option('-w, --watch [seconds]', 'show it again and again, every 2 seconds or as said').argParser(
    (text: string): number => parseSeconds(text),
  )
}

export function whereOption() {
  return new Option('--where <expr>', 'only machines for which this CEL expression is true').argParser(
    parseExpression,
  )
}

/** A variable of a shell that nobody set makes an empty one: that is never taken for all there is. */
export function parseExpression(text: string): string {
  if (text.trim() === '') throw new InvalidArgumentError('is empty: write `true` for all.')
  return text
}

export function keyOption() {
  return new Option(
    '--key <file>',
    "a signing key instead of the operator's own; several times where several must sign",
  ).argParser(collectText)
}

const DEFAULT_TIMEOUT_MS = 3_600_000

export function timeoutOption() {
  return new Option('--timeout <time>', 'how long to wait; what was ordered goes on')
    .argParser(parseTime)
    .default(DEFAULT_TIMEOUT_MS, '1h')
}

export function noWaitOption() {
  return new Option('--no-wait', 'only order it')
}

function parseSeconds(text: string): number {
  const seconds = Number(text)
  if (!/^\d{1,5}(\.\d{1,3})?$/.test(text) || seconds <= 0) {
    throw new InvalidArgumentError('must be a number of seconds above 0.')
  }
  return seconds
}

export function parseTime(text: string): number {
  const ms = parseDuration(text)
  if (ms === undefined)
    throw new InvalidArgumentError('must be a duration such as 90s, 5m, 1h30m, 7d or 2w, of at most 3660d.')
  return ms
}

/** A time that may be none at all: "0s". */
export function parseSoak(text: string): number {
  return durationMs(text) === 0 ? 0 : parseTime(text)
}

/** A whole number in bounds. */
export function numberBetween(least: number, most: number) {
  return (text: string): number => {
    const number = Number(text)
    if (!/^\d{1,15}$/.test(text) || number < least || number > most) {
      throw new InvalidArgumentError(`must be a whole number from ${least} to ${most}.`)
    }
    return number
  }
}

/** `--label k=v`, any number of times. */
export function collectLabel(
  text: string,
  before: Readonly<Record<string, string>> | undefined,
): Readonly<Record<string, string>> {
  const [, key, value] = /^([A-Za-z0-9][A-Za-z0-9._/-]{0,62})=(.{0,253})$/.exec(text) ?? []
  if (key === undefined || value === undefined) throw new InvalidArgumentError('must be KEY=VALUE.')
  if (before !== undefined && Object.hasOwn(before, key))
    throw new InvalidArgumentError(`gives ${key} a second value.`)
  return { ...before, [key]: value }
}

/** An option of Nix: `--option "cores 4"` or `--option cores=4`. */
export function collectNixOption(
  text: string,
  before: readonly (readonly [string, string])[] | undefined,
): readonly (readonly [string, string])[] {
  const [, name, value] = /^([a-z0-9-]{1,100})[ =]([\s\S]*)$/.exec(text) ?? []
  if (name === undefined || value === undefined) {
    throw new InvalidArgumentError('must be NAME=VALUE, such as cores=4.')
  }
  return [...(before ?? []), [name, value]]
}

export function collectText(text: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), text]
}

export function signingKeyOption() {
  return new Option('--key <file>', "a signing key instead of the operator's own")
}
