const NEWLINE = 0x0a
/** Room kept within the bound for the words that say how much was cut. */
const NOTE_BYTES = 48

export interface SplitLine {
  readonly text: string
  readonly cut: boolean
}

/**
 * Splits bytes into lines. Works on bytes and decodes whole lines only, so that a code point cut between two chunks
 * stays whole; keeps at most `maxBytes` of a line, however long it gets.
 */
export class LineSplitter {
  readonly #maxBytes: number
  #kept: Buffer[] = []
  #keptBytes = 0
  #lineBytes = 0

  constructor(maxBytes: number) {
    this.#maxBytes = Math.max(maxBytes, 2 * NOTE_BYTES)
  }

  /** The lines that this chunk completes. */
  push(chunk: Uint8Array): SplitLine[] {
    const lines: SplitLine[] = []
    let start = 0
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      this.#keep(chunk.subarray(start, end))
      lines.push(this.#take())
      start = end + 1
    }
    this.#keep(chunk.subarray(start))
    return lines
  }

  /** The last line, when the output did not end with a line break. */
  end(): SplitLine[] {
    return this.#lineBytes === 0 ? [] : [this.#take()]
  }

  #keep(part: Uint8Array): void {
    this.#lineBytes += part.length
    const room = this.#maxBytes - this.#keptBytes
    if (room <= 0 || part.length === 0) return
    const kept = Buffer.from(part.subarray(0, room)) // a copy: the chunk's memory is the stream's
    this.#kept.push(kept)
    this.#keptBytes += kept.length
  }

  #take(): SplitLine {
    const bytes = Buffer.concat(this.#kept)
    const lineBytes = this.#lineBytes
    this.#kept = []
    this.#keptBytes = 0
    this.#lineBytes = 0
    if (lineBytes <= this.#maxBytes) {
      const end = bytes.at(-1) === 0x0d ? bytes.length - 1 : bytes.length
      return { text: bytes.toString('utf8', 0, end), cut: false }
    }
    const end = wholeCodePoints(bytes, this.#maxBytes - NOTE_BYTES)
    return { text: `${bytes.toString('utf8', 0, end)} [cut: ${lineBytes - end} bytes more]`, cut: true }
  }
}

/** The largest length up to `limit` at which no UTF-8 sequence is cut. */
function wholeCodePoints(bytes: Uint8Array, limit: number): number {
  let end = limit
  for (let back = 0; back < 3 && end > 0 && isContinuation(bytes[end]); back++) end -= 1
  return isContinuation(bytes[end]) ? limit : end // no UTF-8 at all: nothing to keep whole
}

function isContinuation(byte: number | undefined): boolean {
  return byte !== undefined && (byte & 0xc0) === 0x80
}
