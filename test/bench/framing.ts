// gRPC's framing by hand: the emulated agents speak it over bare HTTP/2, so that a client library's cost is no part of
// what is measured.

const HEADER_BYTES = 5

/** One message as gRPC sends it: a byte that says "not compressed", the length, the bytes. */
export function frame(message: Uint8Array): Buffer {
  const framed = Buffer.allocUnsafe(HEADER_BYTES + message.length)
  framed.writeUInt8(0, 0)
  framed.writeUInt32BE(message.length, 1)
  framed.set(message, HEADER_BYTES)
  return framed
}

/** Puts messages together from the pieces a stream delivers. */
export class FrameReader {
  readonly #pieces: Buffer[] = []
  #bytes = 0

  /** Takes a piece; gives the messages that are whole with it. */
  push(piece: Buffer): Buffer[] {
    this.#pieces.push(piece)
    this.#bytes += piece.length
    const messages: Buffer[] = []
    while (this.#bytes >= HEADER_BYTES) {
      const length = this.#peekHeader().readUInt32BE(1)
      if (this.#bytes < HEADER_BYTES + length) break
      const all = this.#joined()
      messages.push(all.subarray(HEADER_BYTES, HEADER_BYTES + length))
      this.#pieces.splice(0, 1, all.subarray(HEADER_BYTES + length))
      this.#bytes = all.length - HEADER_BYTES - length
    }
    return messages
  }

  /** Only the header is joined: a long message is not copied again with each of its pieces. */
  #peekHeader(): Buffer {
    const first = this.#pieces[0]
    return first && first.length >= HEADER_BYTES ? first : this.#joined()
  }

  #joined(): Buffer {
    const all = this.#pieces.length === 1 ? this.#pieces[0]! : Buffer.concat(this.#pieces)
    this.#pieces.splice(0, this.#pieces.length, all)
    return all
  }
}
