import type { SealedSecret } from '../../shared/gen/muster/v1/cluster_pb.ts'

/** More joins are not under way at once in a fleet whose clusters bear them. */
const MAX_HELD = 1024

/**
 * Sealed secrets on their way from minter to joiner: in memory alone, never in the store. What is lost with the process
 * comes again, since a minter repeats its report until the joiner has the secret. Nothing here can read them.
 */
export class SecretRelay<Secret = SealedSecret> {
  readonly #held = new Map<string, { readonly secret: Secret; readonly expiresMs: number }>()

  /** Takes a secret until it expires. When too many are held the oldest goes; it will come again. */
  put(operation: string, secret: Secret, expiresMs: number, nowMs: number): void {
    for (const [known, held] of this.#held) if (held.expiresMs <= nowMs) this.#held.delete(known)
    this.#held.delete(operation)
    this.#held.set(operation, { secret, expiresMs })
    for (const oldest of this.#held.keys()) {
      if (this.#held.size <= MAX_HELD) break
      this.#held.delete(oldest)
    }
  }

  get(operation: string, nowMs: number): Secret | undefined {
    const held = this.#held.get(operation)
    return held && held.expiresMs > nowMs ? held.secret : undefined
  }

  /** The joiner has it, or nobody is to have it any more. */
  drop(operation: string): void {
    this.#held.delete(operation)
  }
}
