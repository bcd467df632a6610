import { escapeText } from '../escape.ts'
import { findSecret } from './secrets.ts'

/** A place in the file as people count it: the first character of the first line is 1:1. */
export interface Place {
  readonly line: number
  readonly column: number
}

/** One thing that is wrong (or doubtful) in a fleet file, where it stands and what would be right. */
export interface Problem extends Place {
  readonly file: string
  /** The key it concerns, such as "hosts.olaf.address"; empty when it concerns the whole file. */
  readonly path: string
  /** A file with an error is not used at all; a warning is only shown. */
  readonly severity: 'error' | 'warning'
  readonly message: string
  /** Lines that show the place within the value, for people; never of a value that holds a secret. */
  readonly excerpt?: string | undefined
}

export type Path = readonly string[]

/** Takes down a problem. Everything that reads a part of the file is given one of these. */
export type Report = (
  at: Place,
  path: Path,
  message: string,
  severity?: Problem['severity'],
  excerpt?: string | undefined,
) => void

const mostProblems = 1_000

/** Collects problems up to a bound, so that a generated file with one mistake in each host stays readable. */
export class ProblemList {
  readonly #file: string
  readonly #problems: Problem[] = []
  #leftOut = 0
  #errors = 0

  constructor(file: string) {
    this.#file = file
  }

  get hasErrors(): boolean {
    return this.#errors > 0
  }

  readonly report: Report = (at, path, message, severity = 'error', excerpt) => {
    if (severity === 'error') this.#errors += 1
    if (this.#problems.length >= mostProblems) {
      this.#leftOut += 1
      return
    }
    this.#problems.push({
      file: this.#file,
      line: at.line,
      column: at.column,
      path: pathText(path),
      severity,
      message,
      ...(excerpt !== undefined && { excerpt }),
    })
  }

  /** All problems in the order of the file. */
  list(): readonly Problem[] {
    const sorted = this.#problems.toSorted((a, b) => a.line - b.line || a.column - b.column)
    const last = sorted.at(-1)
    if (this.#leftOut === 0 || last === undefined) return sorted
    const message = `${this.#leftOut} more problems are not shown; mend these first`
    const severity = this.#problems.some(problem => problem.severity === 'error') ? 'warning' : 'error'
    return [...sorted, { ...last, path: '', severity, message }]
  }
}

/** Problems as lines that editors and people understand: `fleet.toml:12:5: error: hosts.olaf.address: ...`, what shows the place below. */
export function formatProblems(problems: readonly Problem[]): string {
  return problems
    .map(({ file, line, column, severity, path, message, excerpt }) => {
      const where = path === '' ? '' : `${path}: `
      const shown = excerpt === undefined ? [] : excerpt.split('\n')
      return [`${file}:${line}:${column}: ${severity}: ${where}${message}`, ...shown]
        .map(text => `${escapeText(text)}\n`)
        .join('')
    })
    .join('')
}

/** A key path as one would write it in TOML: keys that need quotes get them. */
function pathText(path: Path): string {
  return path
    .map(part => (/^[A-Za-z0-9_-]{1,60}$/.test(part) && findSecret(part) === undefined ? part : quote(part)))
    .join('.')
}

/** A value of the file inside a message: quoted, cut, without characters that a terminal would obey, and never a secret. */
export function quote(text: string): string {
  if (findSecret(text) !== undefined) return '(hidden)'
  const longest = 60
  const cut = text.length > longest ? `${text.slice(0, longest)}…` : text
  return `"${escapeText(cut)}"`
}
