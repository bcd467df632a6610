import { appendFileSync, mkdirSync, renameSync, statSync } from 'node:fs'
import { dirname } from 'node:path'

const MOST_BYTES = 8 * 1024 * 1024
const KEPT_LINES = 20

/** A log file that never grows beyond its bound: what is full becomes FILE.1. Remembers its last lines. */
export class BoundedLog {
  readonly path: string
  #bytes: number
  #last: string[] = []
  #partial = ''

  constructor(path: string) {
    this.path = path
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    this.#bytes = statSync(path, { throwIfNoEntry: false })?.size ?? 0
  }

  add(chunk: Buffer): void {
    if (this.#bytes + chunk.length > MOST_BYTES) {
      renameSync(this.path, `${this.path}.1`)
      this.#bytes = 0
    }
    appendFileSync(this.path, chunk, { mode: 0o600 })
    this.#bytes += chunk.length
    const lines = `${this.#partial}${chunk.toString('utf8')}`.split('\n')
    this.#partial = (lines.pop() ?? '').slice(-10_000)
    this.#last = [...this.#last, ...lines].slice(-KEPT_LINES)
  }

  get lastLines(): readonly string[] {
    return this.#partial === '' ? this.#last : [...this.#last, this.#partial]
  }
}
