import type { Kysely } from 'kysely'
import { allOperators, type OperatorRow } from '../store/operators.ts'
import type { Database } from '../store/tables.ts'

/** The operators that may call, in memory: asked for every call. */
export class OperatorBook {
  readonly #names = new Map<string, string>()

  static async load(db: Kysely<Database>): Promise<OperatorBook> {
    const book = new OperatorBook()
    for (const row of await allOperators(db)) book.put(row)
    return book
  }

  /** The name of the operator with this key; undefined: nobody's, or one that was removed. */
  nameOf(id: string): string | undefined {
    return this.#names.get(id)
  }

  isAllowed(id: string): boolean {
    return this.#names.has(id)
  }

  /** Takes over what was committed. */
  put(row: Pick<OperatorRow, 'id' | 'name' | 'removed'>): void {
    for (const [id, name] of this.#names) if (name === row.name) this.#names.delete(id)
    if (row.removed === 0) this.#names.set(row.id, row.name)
  }
}
