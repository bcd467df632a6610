/** Keeps the beginning and the end of an output, and counts what it leaves out between them. */
export class BoundedOutput {
  readonly #headLimit: number
  readonly #tailLimit: number
  #head: Buffer[] = []
  #headBytes = 0
  #tail: Buffer[] = []
  #tailBytes = 0
  #droppedBytes = 0

  constructor(maxBytes: number) {
    this.#tailLimit = Math.floor(maxBytes / 2)
    this.#headLimit = maxBytes - this.#tailLimit
  }

  push(chunk: Buffer): void {
    const room = this.#headLimit - this.#headBytes
    const head = chunk.subarray(0, Math.max(0, room))
    if (head.length > 0) {
      this.#head.push(head)
      this.#headBytes += head.length
    }
    const rest = chunk.subarray(head.length)
    if (rest.length === 0) return
    this.#tail.push(rest)
    this.#tailBytes += rest.length
    for (let first = this.#tail[0]; first && this.#tailBytes > this.#tailLimit; first = this.#tail[0]) {
      const excess = Math.min(first.length, this.#tailBytes - this.#tailLimit)
      if (excess === first.length) this.#tail.shift()
      else this.#tail[0] = first.subarray(excess)
      this.#tailBytes -= excess
      this.#droppedBytes += excess
    }
  }

  get truncated(): boolean {
    return this.#droppedBytes > 0
  }

  bytes(): Buffer {
    return Buffer.concat([...this.#head, ...this.#tail])
  }

  text(): string {
    if (!this.truncated) return this.bytes().toString('utf8')
    const head = Buffer.concat(this.#head).toString('utf8')
    const tail = Buffer.concat(this.#tail).toString('utf8')
    return `${head}\n[${this.#droppedBytes} bytes left out]\n${tail}`
  }
}
