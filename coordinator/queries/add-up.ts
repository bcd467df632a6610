import type { CelValue } from '@bufbuild/cel'
import type { AggregateName } from '../../shared/query/aggregate.ts'
import { compareOrdered, type Ordered, type OrderedKind, orderedOf } from './order-values.ts'

/** One aggregate of one group, grown machine by machine. What is not known is left out, never taken for zero. */
export class Sum {
  readonly #name: AggregateName
  #count = 0
  #kind: OrderedKind | undefined
  #total: bigint | number = 0n
  #best: { readonly ordered: Ordered; readonly value: CelValue } | undefined

  constructor(name: AggregateName) {
    this.#name = name
  }

  /** Takes in a machine's value. A text: why it cannot be taken, and it was left out. */
  add(value: CelValue | undefined): string | undefined {
    const ordered = orderedOf(value)
    if (value === undefined || ordered === undefined) return undefined
    if (this.#name === 'count') {
      this.#count++
      return undefined
    }
    if (this.#name === 'sum' && ordered.kind !== 'number') return `is a ${ordered.kind}, only numbers add up`
    if (this.#kind !== undefined && this.#kind !== ordered.kind) {
      return `is a ${ordered.kind}, and a ${this.#kind} with others: they do not compare`
    }
    this.#kind = ordered.kind
    this.#count++
    if (ordered.kind === 'number') this.#total = plus(this.#total, ordered.key)
    const better =
      this.#best === undefined || compareOrdered(ordered, this.#best.ordered, this.#name === 'max') < 0
    if (better) this.#best = { ordered, value }
    return undefined
  }

  /** A machine that is counted whatever is known of it. */
  addOne(): void {
    this.#count++
  }

  /** Undefined: nothing was known that could be added up. */
  get value(): CelValue | undefined {
    if (this.#name === 'count') return BigInt(this.#count)
    if (this.#count === 0) return undefined
    return this.#name === 'sum' ? this.#total : this.#best?.value
  }
}

/** Whole numbers stay exact; with a fraction among them all are fractions. */
function plus(a: bigint | number, b: bigint | number): bigint | number {
  return typeof a === 'bigint' && typeof b === 'bigint' ? a + b : Number(a) + Number(b)
}
