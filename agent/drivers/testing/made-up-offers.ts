import { isObject, type JsonObject, readObject } from '../../../shared/read-value.ts'
import type { Handover } from '../driver.ts'
import { DONE, done, failed } from '../result.ts'
import type { Answer, Script } from './scripted-system.ts'

const NAME = 'muster-next-token'
const NOT_FOUND: Answer = { exitCode: 1, stderr: `Error from server (NotFound): secrets "${NAME}" not found` }

/** The one Secret by which servers of k3s hand a token over, in a cluster that several made-up machines ask. */
export class MadeUpOffers {
  object: JsonObject | undefined
  /** Every one that there was, as text. */
  readonly seen: string[] = []
  #made = 0

  readonly script: Script = [
    [new RegExp(`^k3s kubectl get --raw \\S+/${NAME}`), () => this.#told()],
    [
      /^k3s kubectl create --raw \S+\/secrets -f -/,
      ({ input }) => {
        if (this.object) return { exitCode: 1, stderr: 'Error from server (AlreadyExists): it is there' }
        this.#made += 1
        this.#put(merge(readObject(input) ?? {}, { metadata: { uid: `uid-${this.#made}` } }))
        return this.#told()
      },
    ],
    [
      new RegExp(`^k3s kubectl patch secret ${NAME}`),
      ({ line }) => {
        if (!this.object) return NOT_FOUND
        this.#put(merge(this.object, readObject(/--patch=(.*) -o json/.exec(line)?.[1] ?? '') ?? {}))
        return this.#told()
      },
    ],
    [
      new RegExp(`^k3s kubectl delete --raw \\S+/${NAME}`),
      () => {
        if (!this.object) return NOT_FOUND
        this.object = undefined
        return '{}'
      },
    ],
  ]

  #told(): Answer {
    return this.object ? JSON.stringify(this.object) : NOT_FOUND
  }

  #put(object: JsonObject): void {
    this.object = object
    this.seen.push(JSON.stringify(object))
  }
}

function merge(before: JsonObject, change: JsonObject): JsonObject {
  const merged: Record<string, unknown> = { ...before }
  for (const [key, value] of Object.entries(change)) {
    const own = merged[key]
    merged[key] = isObject(own) && isObject(value) ? merge(own, value) : value
  }
  return merged
}

/** Seals nothing: what it seals says whom it is for, backwards, and is opened by nobody else. */
export function madeUpHandover(
  machine: string,
  publicKey: Uint8Array,
  servers: ReadonlyMap<string, string>,
): Handover {
  const turned = (text: string) => [...text].reverse().join('')
  return {
    machine,
    publicKey,
    servers: async () => done(servers),
    seal: async ({ id, node, text, expiresMs }) =>
      done(Buffer.from(JSON.stringify({ id, to: servers.get(node), text: turned(text), expiresMs }))),
    open: async (id, sealed) => {
      const { to, text, expiresMs, ...rest } = JSON.parse(Buffer.from(sealed).toString('utf8'))
      if (to !== machine || rest.id !== id) return failed('precondition', 'it is for another machine')
      return done({ text: turned(text), expiresMs, spend: async () => DONE })
    },
  }
}

/** Of a distribution that hands nothing over. */
export const NO_ROTATION = { operation: 'o1', handover: madeUpHandover('', new Uint8Array(), new Map()) }
