import type { Io } from '../io.ts'

const ENTER = '\u001b[?1049h'
const LEAVE = '\u001b[?1049l'
const HOME = '\u001b[H'
const ERASE_LINE = '\u001b[K'
const ERASE_BELOW = '\u001b[J'

/**
 * A picture on standard error that takes the place of the one before. It has the terminal's second screen, whose lines never scroll and
 * are never broken anew: whatever becomes of the window's size, no copy of an older picture is left. The last picture stays on the
 * first screen.
 */
export class LiveScreen implements Disposable {
  readonly #io: Pick<Io, 'err' | 'screen' | 'onResize'>
  readonly #render: (size: Io['screen']) => string
  readonly #unfollow: () => void
  #last = ''

  /** `render`: at most as many lines as there are rows, each shorter than there are columns, and with an end. */
  constructor(io: Pick<Io, 'err' | 'screen' | 'onResize'>, render: (size: Io['screen']) => string) {
    this.#io = io
    this.#render = render
    this.#unfollow = io.onResize(() => this.draw())
  }

  draw(): void {
    const { columns, rows } = this.#io.screen
    // The cursor has the last row: a picture that filled it would scroll.
    const picture = this.#render({ columns, rows: Math.max(1, rows - 1) })
    if (picture === '') return
    const enter = this.#last === '' ? ENTER : ''
    this.#last = picture
    this.#io.err(`${enter}${HOME}${picture.replaceAll('\n', `${ERASE_LINE}\n`)}${ERASE_BELOW}`)
  }

  [Symbol.dispose](): void {
    this.#unfollow()
    if (this.#last !== '') this.#io.err(`${LEAVE}${this.#last}`)
  }
}
