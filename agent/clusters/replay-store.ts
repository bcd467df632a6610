import { join } from 'node:path'
import { readFileIfThere, writeFileDurably } from '../../shared/durable-file.ts'
import { readSpent, type SpentSecrets, spendSecret, writeSpent } from '../../shared/sealing/spent-secrets.ts'
import { readSeenOrders, type SeenOrders, seeOrder, writeSeenOrders } from './seen-orders.ts'

const SPENT_FILE = 'spent.json'
const ORDERS_FILE = 'operator-orders.json'

/**
 * What may count here once: secrets, and what operators signed. INVARIANTS: on disk before what it stands for is used; a file
 * that is damaged or has gone is a refusal of everything of its kind, never an empty list.
 */
export class ReplayStore {
  readonly #folder: string
  #spent: SpentSecrets | undefined
  #orders: SeenOrders | undefined
  #last: Promise<unknown> = Promise.resolve()

  private constructor(folder: string, spent: SpentSecrets | undefined, orders: SeenOrders | undefined) {
    this.#folder = folder
    this.#spent = spent
    this.#orders = orders
  }

  /** `fresh`: nothing was ever done here, so that there is nothing to be missed. */
  static async open(folder: string, fresh: boolean): Promise<ReplayStore> {
    const read = async (name: string) => (await readFileIfThere(join(folder, name)))?.toString('utf8')
    const [spent, orders] = [await read(SPENT_FILE), await read(ORDERS_FILE)]
    if (fresh && spent === undefined) await writeFileDurably(join(folder, SPENT_FILE), writeSpent(new Map()))
    if (fresh && orders === undefined)
      await writeFileDurably(join(folder, ORDERS_FILE), writeSeenOrders(new Map()))
    const none = fresh ? new Map<string, never>() : undefined
    return new ReplayStore(
      folder,
      spent === undefined ? none : readSpent(spent),
      orders === undefined ? none : readSeenOrders(orders),
    )
  }

  /** undefined: it is not known, and no secret can be used. */
  get spent(): SpentSecrets | undefined {
    return this.#spent
  }

  /** undefined: it is not known, and nothing that an operator signed can be obeyed. */
  get orders(): SeenOrders | undefined {
    return this.#orders
  }

  /** Answers why it may not be used; undefined: it may, and never again. */
  spend(
    secret: { readonly digest: string; readonly expiresMs: number },
    nowMs: number,
  ): Promise<string | undefined> {
    return this.#afterOthers(async () => {
      if (!this.#spent) return `${SPENT_FILE}: cannot be read, so nobody knows which secrets were used here`
      const spending = spendSecret(this.#spent, secret, nowMs)
      if (spending.kind === 'full') return spending.reason
      await writeFileDurably(join(this.#folder, SPENT_FILE), writeSpent(spending.spent))
      this.#spent = spending.spent
      return undefined
    })
  }

  /** Notes that an operator's order is being obeyed by an operation, or with `done` that it was. Answers why not. */
  see(
    order: {
      readonly id: string
      readonly expiresMs: number
      readonly operation: string
      readonly done: boolean
    },
    nowMs: number,
  ): Promise<string | undefined> {
    return this.#afterOthers(async () => {
      if (!this.#orders)
        return `${ORDERS_FILE}: cannot be read, so nobody knows which orders were obeyed here`
      const seeing = seeOrder(this.#orders, order, nowMs)
      if (seeing.kind === 'refused') return seeing.reason
      await writeFileDurably(join(this.#folder, ORDERS_FILE), writeSeenOrders(seeing.orders))
      this.#orders = seeing.orders
      return undefined
    })
  }

  #afterOthers<T>(task: () => Promise<T>): Promise<T> {
    const work = this.#last.then(task)
    this.#last = work.catch(() => {}) // told to who asked
    return work
  }
}
