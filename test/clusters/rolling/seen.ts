/** What `ask-main.ts` is told on standard input. */
export interface AskConfig {
  /** Addresses of the API servers. */
  readonly servers: readonly string[]
  readonly authority: string
  readonly certificate: string
  readonly key: string
  /** The service whose pods are asked. */
  readonly service: string
  /** What they answer. */
  readonly answer: string
}

/** A request that nobody answered as it must be. */
export interface LostRequest {
  readonly atMs: number
  /** Of the pod; empty: no pod was ready. */
  readonly address: string
  readonly why: string
}

/** A moment at which a node was seen another than before. */
export interface NodeChange {
  readonly atMs: number
  readonly node: string
  readonly ready: boolean
  readonly schedulable: boolean
  readonly version: string
}

/** What `ask-main.ts` prints when it is ended. */
export interface Seen {
  readonly asked: number
  /** How many were lost, and the first of them. */
  readonly lostCount: number
  readonly lost: readonly LostRequest[]
  readonly slowestMs: number
  /** Longest time from one answer of a ready API server, whichever it was, to the next. */
  readonly longestWithoutServerMs: number
  /** The same of each server for itself. */
  readonly longestWithoutMs: Readonly<Record<string, number>>
  readonly nodes: readonly NodeChange[]
  /** Every pod address that was ever asked. */
  readonly pods: readonly string[]
}

/** Longest time from one success to the next, from the first on. */
export class Gap {
  #lastMs: number | undefined
  longestMs = 0

  success(atMs: number): void {
    if (this.#lastMs !== undefined) this.longestMs = Math.max(this.longestMs, atMs - this.#lastMs)
    this.#lastMs = atMs
  }

  /** Nobody looks any more: what is still missing counts as long as it was missing. */
  end(atMs: number): number {
    if (this.#lastMs === undefined) return Number.POSITIVE_INFINITY
    return Math.max(this.longestMs, atMs - this.#lastMs)
  }
}
