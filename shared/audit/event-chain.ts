import { sha256Hex } from '../ids.ts'

/** An event as the chain binds it. */
export interface ChainedEvent {
  readonly id: number
  /** Milliseconds since 1970. */
  readonly at: number
  readonly class: string
  readonly machine: string
  readonly host: string
  readonly reason: string
  readonly actor: string
  /** Hash of the event before it; empty: it was the first of all. */
  readonly previous: string
  readonly hash: string
}

/** A link of the chain, by which everything before it is bound too. */
export interface ChainHead {
  readonly id: number
  readonly hash: string
}

/** SHA-256 (hex) of an event and of everything before it. */
export function hashEvent(event: Omit<ChainedEvent, 'hash'>): string {
  const { previous, id, at, class: kind, machine, host, reason, actor } = event
  return sha256Hex(
    `muster audit v1\n${JSON.stringify([previous, id, at, kind, machine, host, reason, actor])}`,
  )
}

/** Recomputes a chain piece by piece, from its oldest event. */
export class ChainCheck {
  #last: ChainedEvent | undefined
  #first: ChainedEvent | undefined
  #count = 0
  readonly #problems: string[] = []
  /** Hashes by id; a chain is kept up to half a million events. */
  readonly #hashes = new Map<number, string>()

  /** Takes the next event. Each problem is told once, where it is found first. */
  add(event: ChainedEvent): void {
    const last = this.#last
    if (hashEvent(event) !== event.hash)
      this.#problem(`event ${event.id} was changed: its hash is not that of its content`)
    if (last) {
      if (event.id <= last.id) this.#problem(`event ${event.id} comes after event ${last.id}`)
      else if (event.previous !== last.hash) {
        this.#problem(`something is missing or was changed between event ${last.id} and event ${event.id}`)
      }
    }
    this.#first ??= event
    this.#last = event
    this.#count += 1
    this.#hashes.set(event.id, event.hash)
  }

  get count(): number {
    return this.#count
  }

  get head(): ChainHead | undefined {
    return this.#last && { id: this.#last.id, hash: this.#last.hash }
  }

  get problems(): readonly string[] {
    return this.#problems
  }

  /** What a link that somebody was shown says of this chain. */
  compare(shown: ChainHead): HeadVerdict {
    const [first, last] = [this.#first, this.#last]
    if (!first || !last || shown.id > last.id) {
      const newest = last ? `the newest event here is ${last.id}` : 'there is no event here'
      return { kind: 'missing', reason: `was shown event ${shown.id}, but ${newest}: events were cut off` }
    }
    const known = this.#hashes.get(shown.id)
    if (known === shown.hash) return { kind: 'agrees' }
    if (shown.id < first.id) {
      // The link before the oldest event that is kept is known by its hash alone.
      if (first.id === shown.id + 1 && first.previous !== shown.hash) return differs(shown)
      return { kind: 'older', reason: `was shown event ${shown.id}, which is older than what is kept` }
    }
    return differs(shown)
  }

  #problem(text: string): void {
    if (this.#problems.length < 100) this.#problems.push(text)
  }
}

export type HeadVerdict =
  | { readonly kind: 'agrees' }
  /** It was pruned meanwhile: nothing can be said. */
  | { readonly kind: 'older'; readonly reason: string }
  | { readonly kind: 'differs'; readonly reason: string }
  | { readonly kind: 'missing'; readonly reason: string }

function differs({ id }: ChainHead): HeadVerdict {
  return { kind: 'differs', reason: `was shown another event ${id}: the record was rewritten since` }
}
