import { describeReason, type Reason, type Waiting } from './reasons.ts'

export interface StuckSettings {
  /** What waits longer than this is told as a problem. */
  readonly afterMs: number
}

/** Something that waits, and since when it has waited for the same kind of thing. */
export interface KnownWaiting extends Waiting {
  readonly sinceMs: number
}

/** Waits that are as an operator wants them, or that other problems tell of: never a problem by themselves. */
const QUIET: ReadonlySet<Reason['gate']> = new Set([
  ...(['left', 'leaving', 'unbound', 'away', 'slots', 'recount', 'halted'] as const),
])
/** Waits that end by a person's hand only: told at once. */
const PERSON: ReadonlySet<Reason['gate']> = new Set([
  'adopt-first',
  'foreign-data',
  'unreadable-data',
  'unfinished-data',
  'founder-data',
  'not-a-member',
  'set-back',
  'lost-datastore',
  'snapshot-found',
  'name-in-use',
  'unkeyed',
  'is-a-server',
  'member-alive',
])

const MAX_PROBLEMS = 50

/** What waits in each cluster, by its newest turn. In memory: after a restart the times begin anew. */
export class WaitingBook {
  readonly #settings: StuckSettings
  readonly #byCluster = new Map<string, readonly KnownWaiting[]>()

  constructor(settings: StuckSettings) {
    this.#settings = settings
  }

  /** Takes down what waits now; what waited for the same before has done so all the time. */
  set(cluster: string, waiting: readonly Waiting[], nowMs: number): void {
    const before = this.of(cluster)
    const since = ({ host, reason }: Waiting) =>
      before.find(each => each.host === host && each.reason.gate === reason.gate)?.sinceMs ?? nowMs
    this.#byCluster.set(
      cluster,
      waiting.map(each => ({ ...each, sinceMs: since(each) })),
    )
  }

  forget(cluster: string): void {
    this.#byCluster.delete(cluster)
  }

  of(cluster: string): readonly KnownWaiting[] {
    return this.#byCluster.get(cluster) ?? []
  }

  /** One sentence each. The same of many hosts is one. */
  problems(nowMs: number): readonly string[] {
    const hosts = new Map<string, string[]>()
    for (const [cluster, waiting] of this.#byCluster) {
      for (const { host, reason, sinceMs } of waiting) {
        const stuck = nowMs - sinceMs >= this.#settings.afterMs && !QUIET.has(reason.gate)
        if (!stuck && !PERSON.has(reason.gate)) continue
        const key = `cluster ${cluster}\0${describeReason(reason)}`
        const same = hosts.get(key)
        if (same) same.push(host)
        else hosts.set(key, [host])
      }
    }
    return [...hosts].slice(0, MAX_PROBLEMS).map(([key, names]) => {
      const [cluster = '', why = ''] = key.split('\0')
      const some = names.filter(name => name !== '')
      const more = some.length > 5 ? ` and ${some.length - 5} more` : ''
      const who = some.length === 0 ? '' : `${some.slice(0, 5).join(', ')}${more}: `
      return `${cluster}: ${who}${why}`
    })
  }
}
