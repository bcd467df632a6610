import { TreeRefusal } from './tree-refusal.ts'

/** Reads exact amounts from a stream of chunks of any size, holding one chunk at a time. */
export class ByteReader {
  readonly #chunks: AsyncIterator<Uint8Array>
  #rest: Buffer = Buffer.alloc(0)

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#chunks = source[Symbol.asyncIterator]()
  }

  /** Exactly this many bytes, in pieces; refused when the stream ends before. */
  async *read(bytes: number): AsyncGenerator<Buffer> {
    for (let left = bytes; left > 0; ) {
      if (this.#rest.length === 0 && !(await this.#fill())) {
        throw new TreeRefusal('the packed tree ends in the middle')
      }
      const piece = this.#rest.subarray(0, left)
      this.#rest = this.#rest.subarray(piece.length)
      left -= piece.length
      yield piece
    }
  }

  /** Exactly this many bytes in one piece, for small amounts. */
  async take(bytes: number): Promise<Buffer> {
    const pieces: Buffer[] = []
    for await (const piece of this.read(bytes)) pieces.push(piece)
    return Buffer.concat(pieces)
  }

  /** Whether nothing is left. */
  async atEnd(): Promise<boolean> {
    return this.#rest.length === 0 && !(await this.#fill())
  }

  /** Lets the source release what it holds, also when it was not read to its end. */
  async close(): Promise<void> {
    await this.#chunks.return?.()
  }

  async #fill(): Promise<boolean> {
    for (;;) {
      const next = await this.#chunks.next()
      if (next.done) return false
      const { buffer, byteOffset, byteLength } = next.value
      if (byteLength === 0) continue
      this.#rest = Buffer.from(buffer, byteOffset, byteLength)
      return true
    }
  }
}
