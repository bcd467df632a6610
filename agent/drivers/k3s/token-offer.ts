import { type JsonObject, textAt, timeAt } from '../../../shared/read-value.ts'
import { isNotFound, type Kubectl, type KubeResult } from '../kubernetes/kubectl.ts'
import { DONE, done, failed, type Result } from '../result.ts'

/** The object by which a server hands its new token to the others. Everybody who reads it sees who takes part, and nothing else. */
const NAME = 'muster-next-token'
const SECRETS = '/api/v1/namespaces/kube-system/secrets'
const PATH = `${SECRETS}/${NAME}`
const TYPE = 'muster/next-token'
const ID = 'muster/rotation'
const SERVER = 'muster/server'
const UNTIL = 'muster/until'
const CANCELLED = 'muster/cancelled'

/** What a server says in an offer; each with the offer's id, but for its key. */
type Word = 'key' | 'kept' | 'taken'

export interface TokenOffer {
  readonly uid: string
  readonly id: string
  /** The node of who makes it, for people. */
  readonly server: string
  readonly untilMs: number
  /** It will not be asked for any more. */
  readonly cancelled: boolean
  /** What a machine says; undefined: nothing. */
  said(word: Word, machine: string): string | undefined
  /** What is sealed to a machine. */
  sealedFor(machine: string): Uint8Array | undefined
}

/** Longer than an id may be in the name of an annotation; so much of it is not another machine's. */
const shortId = (machine: string): string => machine.slice(0, 40)
const wordOf = (word: Word, machine: string): string => `${word}.muster/${shortId(machine)}`

/** done with undefined: the cluster has none. */
export async function readOffer(
  kubectl: Kubectl,
  signal: AbortSignal | undefined,
): Promise<Result<TokenOffer | undefined>> {
  const got = await kubectl.get(PATH, signal)
  if (got.kind === 'failed') return isNotFound(got) ? done(undefined) : got
  const offer = parseOffer(got.value)
  return offer ? done(offer) : failed('unreadable', `Secret kube-system/${NAME}: is none of ours`)
}

export function parseOffer(object: JsonObject): TokenOffer | undefined {
  const annotation = (name: string) => textAt(object, 'metadata', 'annotations', name)
  const [uid, id, untilMs] = [
    textAt(object, 'metadata', 'uid'),
    annotation(ID),
    timeAt(object, 'metadata', 'annotations', UNTIL),
  ]
  if (textAt(object, 'type') !== TYPE || uid === undefined || id === undefined || untilMs === undefined)
    return undefined
  return {
    uid,
    id,
    untilMs,
    server: annotation(SERVER) ?? '',
    cancelled: annotation(CANCELLED) === id,
    said: (word, machine) => annotation(wordOf(word, machine)),
    sealedFor: machine => {
      const text = textAt(object, 'data', shortId(machine))
      return text === undefined ? undefined : Buffer.from(text, 'base64')
    },
  }
}

/** Fails where there is one. */
export async function makeOffer(
  kubectl: Kubectl,
  offer: Pick<TokenOffer, 'id' | 'server' | 'untilMs'>,
  signal: AbortSignal | undefined,
): Promise<Result<void>> {
  const annotations = {
    [ID]: offer.id,
    [SERVER]: offer.server,
    [UNTIL]: new Date(offer.untilMs).toISOString(),
  }
  const metadata = { name: NAME, namespace: 'kube-system', labels: { [TYPE]: '' }, annotations }
  const object = { apiVersion: 'v1', kind: 'Secret', type: TYPE, metadata }
  return withoutValue(await kubectl.create(SECRETS, object, signal))
}

export async function sayIn(
  kubectl: Kubectl,
  word: Word,
  machine: string,
  text: string,
  signal: AbortSignal | undefined,
): Promise<Result<void>> {
  const patch = { metadata: { annotations: { [wordOf(word, machine)]: text } } }
  return withoutValue(await kubectl.patchSecret(NAME, patch, signal))
}

export async function putSealed(
  kubectl: Kubectl,
  machine: string,
  sealed: Uint8Array,
  signal: AbortSignal | undefined,
): Promise<Result<void>> {
  const patch = { data: { [shortId(machine)]: Buffer.from(sealed).toString('base64') } }
  return withoutValue(await kubectl.patchSecret(NAME, patch, signal))
}

export async function cancelOffer(
  kubectl: Kubectl,
  { id }: Pick<TokenOffer, 'id'>,
  signal: AbortSignal | undefined,
): Promise<Result<void>> {
  const patch = { metadata: { annotations: { [CANCELLED]: id } } }
  return withoutValue(await kubectl.patchSecret(NAME, patch, signal))
}

/** That very one; it may be gone already. */
export async function withdrawOffer(
  kubectl: Kubectl,
  { uid }: Pick<TokenOffer, 'uid'>,
  signal: AbortSignal | undefined,
): Promise<Result<void>> {
  const removed = await kubectl.remove(PATH, uid, signal)
  return removed.kind === 'failed' && !isNotFound(removed) ? removed : DONE
}

const withoutValue = (result: KubeResult<unknown>): Result<void> => (result.kind === 'failed' ? result : DONE)
