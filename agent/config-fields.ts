/** A configuration that cannot be used; the message names the file, the field and what would be right. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
}

/**
 * Reads the fields of one JSON object, each once. A small stand-in for a schema library, which would stay in the idle
 * agent's memory for good.
 */
export class ConfigFields {
  readonly #source: string
  readonly #prefix: string
  readonly #values: ReadonlyMap<string, unknown>
  readonly #known = new Set<string>()

  constructor(source: string, value: unknown, prefix = '') {
    this.#source = source
    this.#prefix = prefix
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      const place = prefix === '' ? source : `${source}: ${prefix.slice(0, -1)}`
      throw new ConfigError(`${place}: must be an object, like {"coordinator": "hub.example:7701"}`)
    }
    this.#values = new Map(Object.entries(value))
  }

  fail(name: string, problem: string): never {
    throw new ConfigError(`${this.#source}: ${this.#prefix}${name}: ${problem}`)
  }

  text(name: string, wanted: string, accept: (text: string) => boolean = text => text.length > 0): string {
    return this.optionalText(name, wanted, accept) ?? this.fail(name, `missing; must be ${wanted}`)
  }

  optionalText(
    name: string,
    wanted: string,
    accept: (text: string) => boolean = text => text.length > 0,
  ): string | undefined {
    const value = this.#take(name)
    if (value === undefined) return undefined
    if (typeof value !== 'string' || value.length > 4096 || !accept(value))
      this.fail(name, `must be ${wanted}`)
    return value
  }

  flag(name: string, fallback: boolean): boolean {
    const value = this.#take(name) ?? fallback
    return typeof value === 'boolean' ? value : this.fail(name, 'must be true or false')
  }

  integer(name: string, fallback: number, least: number, most: number): number {
    const value = this.#take(name) ?? fallback
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < least || value > most) {
      this.fail(name, `must be a whole number from ${least} to ${most}`)
    }
    return value
  }

  choice<T extends string>(name: string, fallback: T, choices: readonly T[]): T {
    const value = this.#take(name) ?? fallback
    return choices.find(choice => choice === value) ?? this.fail(name, `must be one of ${choices.join(', ')}`)
  }

  choices<T extends string>(name: string, fallback: readonly T[], choices: readonly T[]): readonly T[] {
    const value = this.#take(name) ?? fallback
    if (!Array.isArray(value)) this.fail(name, `must be a list of ${choices.join(', ')}`)
    const items: readonly unknown[] = value
    const unique = new Set(
      items.map(
        item =>
          choices.find(choice => choice === item) ??
          this.fail(name, `${JSON.stringify(item)} is none of ${choices.join(', ')}`),
      ),
    )
    return [...unique]
  }

  /** The fields of an object inside this one; all absent when it is. */
  inner(name: string): ConfigFields {
    return new ConfigFields(this.#source, this.#take(name) ?? {}, `${this.#prefix}${name}.`)
  }

  /** Refuses what nobody asked for: a misspelt key must not silently do nothing. */
  finish(): void {
    const unknown = [...this.#values.keys()].find(name => !this.#known.has(name))
    if (unknown !== undefined) {
      this.fail(unknown, `unknown key; known are ${[...this.#known].sort().join(', ')}`)
    }
  }

  #take(name: string): unknown {
    this.#known.add(name)
    return this.#values.get(name)
  }
}
