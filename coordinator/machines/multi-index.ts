/** From a text to the ids that carry it. An empty text is no text and leads to nobody. */
export class MultiIndex {
  readonly #ids = new Map<string, Set<string>>()

  add(key: string, id: string): void {
    if (key === '') return
    const ids = this.#ids.get(key)
    if (ids) ids.add(id)
    else this.#ids.set(key, new Set([id]))
  }

  delete(key: string, id: string): void {
    const ids = this.#ids.get(key)
    ids?.delete(id)
    if (ids?.size === 0) this.#ids.delete(key)
  }

  get(key: string): ReadonlySet<string> {
    return this.#ids.get(key) ?? NOBODY
  }

  /** The texts that more than one id carries. */
  shared(): readonly string[] {
    return [...this.#ids].flatMap(([key, ids]) => (ids.size > 1 ? [key] : [])).toSorted()
  }

  clear(): void {
    this.#ids.clear()
  }
}

const NOBODY: ReadonlySet<string> = new Set()
