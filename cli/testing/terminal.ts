// For tests: a terminal as a person sees it, as far as our screens need one: two screens, the first of which scrolls.
import { textWidth } from '../output/text-width.ts'

// biome-ignore lint/suspicious/noControlCharactersInRegex: a terminal is told what to do by control characters
const PARTS = /\u001b\[(\??[0-9;]*)([A-Za-z])|\n|\r|[^\u001b\n\r]/gu

export class Terminal {
  rows: number
  columns: number
  /** Lines that scrolled out of the first screen. */
  readonly scrolled: string[] = []
  #first: string[] = []
  #second: string[] | undefined
  #row = 0
  #column = 0
  #saved = { row: 0, column: 0 }

  constructor(size: { readonly columns: number; readonly rows: number }) {
    this.columns = size.columns
    this.rows = size.rows
  }

  /** What is on the screen. */
  get lines(): readonly string[] {
    return Array.from({ length: this.rows }, (_, row) => (this.#screen[row] ?? '').trimEnd())
  }

  get isOnSecond(): boolean {
    return this.#second !== undefined
  }

  /** The window has another size: what has no room any more is gone from the top of the first screen, and cut off the second. */
  resize(size: { readonly columns: number; readonly rows: number }): void {
    this.columns = size.columns
    this.rows = size.rows
    while (this.#first.length > this.rows) this.scrolled.push(this.#first.shift() ?? '')
    if (this.#second) this.#second.length = Math.min(this.#second.length, this.rows)
    this.#row = Math.min(this.#row, this.rows - 1)
  }

  write(text: string): void {
    for (const [part, parameter = '', command] of text.matchAll(PARTS)) {
      if (command !== undefined) this.#command(`${parameter}${command}`)
      else if (part === '\n') this.#nextLine()
      else if (part === '\r') this.#column = 0
      else this.#put(part)
    }
  }

  get #screen(): string[] {
    return this.#second ?? this.#first
  }

  #command(command: string): void {
    const line = this.#screen[this.#row] ?? ''
    switch (command) {
      case 'H':
        this.#row = 0
        this.#column = 0
        return
      case 'K':
        this.#screen[this.#row] = line.slice(0, this.#column)
        return
      case 'J':
        this.#screen[this.#row] = line.slice(0, this.#column)
        this.#screen.length = Math.min(this.#screen.length, this.#row + 1)
        return
      case '?1049h':
        this.#saved = { row: this.#row, column: this.#column }
        this.#second = []
        this.#row = 0
        this.#column = 0
        return
      case '?1049l':
        this.#second = undefined
        this.#row = Math.min(this.#saved.row, this.rows - 1)
        this.#column = this.#saved.column
        return
      default:
        if (!command.endsWith('m')) throw new Error(`this terminal does not know ${JSON.stringify(command)}`)
    }
  }

  #put(char: string): void {
    if (this.#column + textWidth(char) > this.columns) this.#nextLine()
    const line = (this.#screen[this.#row] ?? '').padEnd(this.#column)
    this.#screen[this.#row] = line.slice(0, this.#column) + char + line.slice(this.#column + 1)
    this.#column += textWidth(char)
  }

  #nextLine(): void {
    this.#column = 0
    this.#screen[this.#row] ??= ''
    this.#row += 1
    if (this.#row < this.rows) return
    this.#row = this.rows - 1
    const line = this.#screen.shift() ?? ''
    if (!this.#second) this.scrolled.push(line)
  }
}
