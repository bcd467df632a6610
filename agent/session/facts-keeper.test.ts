import { describe, expect, it } from 'vitest'
import { createLog } from '../log.ts'
import { FactsKeeper, type SerialisedFacts } from './facts-keeper.ts'

const DAY_MS = 86_400_000

/** A machine whose facts are a number, read in steps that the test takes. */
class Readings implements AsyncDisposable {
  machine = 1
  readonly keeper: FactsKeeper
  readonly #stop = new AbortController()
  readonly #under: { readonly facts: SerialisedFacts; readonly end: (failure?: Error) => void }[] = []
  readonly #fresh: Promise<void>
  begun = 0

  constructor() {
    this.keeper = new FactsKeeper(
      {
        collect: () => this.#begin(),
        everyMs: DAY_MS,
        retry: { firstMs: 1, mostMs: 5 },
        log: createLog('debug', () => {}),
      },
      this.#stop.signal,
    )
    this.#fresh = this.keeper.keepFresh()
  }

  get known(): string | undefined {
    return this.keeper.latest?.digest
  }

  /** What it reads is what is there when it begins. */
  #begin(): Promise<SerialisedFacts> {
    const facts = { bytes: new Uint8Array(), digest: String(this.machine) }
    this.begun += 1
    return new Promise((resolve, reject) => {
      this.#under.push({ facts, end: failure => (failure ? reject(failure) : resolve(facts)) })
    })
  }

  async end(failure?: Error): Promise<void> {
    const reading = await expect
      .poll(() => this.#under[0])
      .toBeDefined()
      .then(() => this.#under.shift())
    reading?.end(failure)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort()
    for (const { end } of this.#under) end()
    await this.#fresh
  }
}

describe('the facts of a machine that was changed', () => {
  it('are read anew at once, and not only when their time comes', async () => {
    await using readings = new Readings()
    await readings.end()
    await expect.poll(() => readings.known).toBe('1')
    readings.machine = 2
    readings.keeper.outdate()
    await readings.end()
    await expect.poll(() => readings.known).toBe('2')
  })

  it('are not those of a reading that had begun before', async () => {
    await using readings = new Readings()
    await readings.end()
    await expect.poll(() => readings.known).toBe('1')
    const early = readings.keeper.refresh()
    readings.machine = 2
    readings.keeper.outdate()
    await readings.end()
    expect((await early).digest).toBe('1')
    await readings.end()
    await expect.poll(() => readings.known).toBe('2')
  })

  it('are read once for all changes during one reading', async () => {
    await using readings = new Readings()
    for (let change = 2; change < 9; change++) {
      readings.machine = change
      readings.keeper.outdate()
    }
    await readings.end()
    await readings.end()
    await expect.poll(() => readings.known).toBe('8')
    expect(readings.begun).toBe(2)
  })

  it('are read again where that failed, and not a day later', async () => {
    await using readings = new Readings()
    await readings.end(new Error('a child that was killed'))
    await readings.end(new Error('and once more'))
    await readings.end()
    await expect.poll(() => readings.known).toBe('1')
  })
})
