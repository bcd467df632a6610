import { inspect } from 'node:util'

/** What takes the place of a secret wherever something tries to show it. */
const SHOWN = '[secret]'

/**
 * Bytes that no log, error or JSON can show by accident: whoever wants them says `reveal()`. Disposing of it overwrites
 * them, so that a secret does not outlive its use in memory that is ours.
 */
export class SecretBytes implements Disposable {
  readonly #bytes: Buffer

  /** Takes the bytes over: the caller's buffer is the one that is overwritten. */
  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  get length(): number {
    return this.#bytes.length
  }

  reveal(): Buffer {
    return this.#bytes
  }

  toString(): string {
    return SHOWN
  }

  toJSON(): string {
    return SHOWN
  }

  [inspect.custom](): string {
    return SHOWN
  }

  [Symbol.dispose](): void {
    this.#bytes.fill(0)
  }
}
