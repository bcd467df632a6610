import type { Following, Handover } from '../driver.ts'
import type { Distributed } from '../driver-base.ts'
import { done, failed, type Result } from '../result.ts'
import { agentsWith } from './agent-token.ts'
import { nextFollowStep } from './decide-follow.ts'
import { K3S_TLS } from './k3s-places.ts'
import { pinned, writeK3sToken } from './k3s-token.ts'
import {
  agentsWithOld,
  exchangeTokens,
  forgetPair,
  isTokenRefused,
  type SeenTokens,
  seeTokens,
  startWith,
} from './server-token.ts'
import { readOffer, sayIn, type TokenOffer, withdrawOffer } from './token-offer.ts'
import { isOver, isSameToken, keyOfToken, type TokenPair, writePair } from './token-pair.ts'

/** What another server offered is kept for longer than it can be asked for: it costs nothing. */
const FORGET_MS = 60 * 60_000

/** 32 bytes in hexadecimal: nothing else is taken for a token. */
export const isNewPassword = (text: string): boolean => /^[0-9a-f]{64}$/.test(text)

/** A password of servers in the form in which k3s reads it, with the authority that this server knows. */
export async function serverTokenOf(of: Distributed, password: string): Promise<Result<string>> {
  const authority = await of.deps.files.read(`${K3S_TLS}/server-ca.crt`)
  return authority
    ? done(writeK3sToken(pinned(`server:${password}`, authority)))
    : failed('precondition', `no ${K3S_TLS}/server-ca.crt: this machine is no server`)
}

/** Does the next thing that is to be done here about a token that another server makes anew. */
export async function followToken(
  of: Distributed,
  handover: Handover,
  signal: AbortSignal | undefined,
): Promise<Following> {
  const { files, clock } = of.deps
  const seen = await seeTokens(of, signal)
  const { pair, under, which } = seen
  const read = under === undefined ? undefined : await readOffer(of.kubectl, signal)
  const offer = read?.kind === 'done' ? read.value : undefined
  const nowMs = clock.now().getTime()
  const live = stateOf(offer, nowMs) === 'live'
  const step = nextFollowStep({
    pair: pair && {
      own: pair.operation !== '',
      offered: offer?.id === pair.id,
      over: pair.operation === '' ? nowMs > pair.untilMs + FORGET_MS : isOver(pair.untilMs, nowMs),
    },
    token: which,
    under,
    offer: read?.kind !== 'done' ? undefined : stateOf(offer, nowMs),
    mine: offer ? whatIsMine(offer, handover) : 'nothing',
    said: offer ? whatWasSaid(offer, pair ?? offer, handover) : 'nothing',
    refused: pair !== undefined && under === undefined && (await isTokenRefused(of, signal)),
  })
  const soon = { kind: 'soon', step } as const
  switch (step) {
    case 'rest':
      return { kind: 'rest' }
    case 'wait':
      return live ? soon : { kind: 'later', step }
    case 'show-key':
      return after(await sayIn(of.kubectl, 'key', handover.machine, base64(handover.publicKey), signal), step)
    case 'keep':
      return after(offer ? await keepOffered(of, handover, seen, offer) : GONE, step)
    case 'say-kept':
    case 'say-taken': {
      const word = step === 'say-kept' ? 'kept' : 'taken'
      return after(await sayIn(of.kubectl, word, handover.machine, pair?.id ?? '', signal), step)
    }
    case 'take':
    case 'give-back':
      if (pair) await startWith(files, pair, step === 'take' ? 'next' : 'old')
      return soon
    case 'exchange':
      return after(pair ? await exchangeTokens(of, pair, which, signal) : GONE, step)
    case 'drop-old-key':
      return after(pair ? await of.etcd().removeKey(keyOfToken(pair.old), signal) : GONE, step)
    case 'withdraw':
      return after(offer ? await withdrawOffer(of.kubectl, offer, signal) : GONE, step)
    case 'forget':
      if (pair) await forgetPair(files, pair, which)
      return soon
  }
}

function stateOf(offer: TokenOffer | undefined, nowMs: number): 'none' | 'live' | 'cancelled' | 'over' {
  if (!offer) return 'none'
  if (offer.cancelled) return 'cancelled'
  return isOver(offer.untilMs, nowMs) ? 'over' : 'live'
}

const GONE = failed('not-found', 'it is gone')
const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64')

function after(ended: Result<void>, step: string): Following {
  return ended.kind === 'failed'
    ? { kind: 'later', step, reason: `${ended.class}: ${ended.reason}` }
    : { kind: 'soon', step }
}

function whatIsMine(offer: TokenOffer, { machine, publicKey }: Handover): 'nothing' | 'key' | 'token' {
  if (offer.sealedFor(machine)) return 'token'
  return offer.said('key', machine) === base64(publicKey) ? 'key' : 'nothing'
}

function whatWasSaid(
  offer: TokenOffer,
  { id }: Pick<TokenPair, 'id'>,
  { machine }: Handover,
): 'nothing' | 'kept' | 'taken' {
  if (offer.said('taken', machine) === id) return 'taken'
  return offer.said('kept', machine) === id ? 'kept' : 'nothing'
}

/** On disk before anybody is told; the same offer is opened once, unless the agent is killed in between. */
async function keepOffered(
  of: Distributed,
  handover: Handover,
  { token, pair, which }: SeenTokens,
  offer: TokenOffer,
): Promise<Result<void>> {
  const sealed = offer.sealedFor(handover.machine)
  const old = pair ? pair[which] : token
  if (!sealed || old === undefined) return GONE
  const opened = await handover.open(offer.id, sealed)
  if (opened.kind === 'failed') return opened
  const { text, expiresMs, spend } = opened.value
  if (!isNewPassword(text)) return failed('unreadable', 'what is offered is no token of servers')
  const next = await serverTokenOf(of, text)
  if (next.kind === 'failed') return next
  // One and the same would be taken away from the datastore as the old one.
  if (isSameToken(next.value, old)) return failed('unreadable', 'what is offered is the token that is kept')
  // Of a pair that is not forgotten yet it is what goes with the one that counts.
  const agents = pair ? (agentsWith(pair, which) ?? '') : await agentsWithOld(of.deps.files, old)
  const times = { untilMs: expiresMs, asked: false }
  const kept = { id: offer.id, operation: '', old, next: next.value, agents, ...times }
  await of.deps.files.put('next-token', writePair(kept))
  return await spend()
}
