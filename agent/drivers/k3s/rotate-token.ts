import { randomBytes } from 'node:crypto'
import { randomId } from '../../../shared/ids.ts'
import { pause } from '../../../shared/lifecycle.ts'
import type { Handover } from '../driver.ts'
import type { Distributed } from '../driver-base.ts'
import { deleteBootstrapToken, listBootstrapTokens } from '../kubernetes/bootstrap-tokens.ts'
import type { WaitOptions } from '../kubernetes/wait-options.ts'
import { DONE, done, type Failure, failed, type Result } from '../result.ts'
import { isMadeWith } from './agent-token.ts'
import { nextRotationStep, type RotationStep } from './decide-rotation.ts'
import { serverTokenOf } from './follow-token.ts'
import { K3S_TLS } from './k3s-places.ts'
import { nodeOf, type SeenServer, seeOthers, stateOf } from './other-servers.ts'
import { PUT_MS, type PutToken } from './put-token.ts'
import {
  agentsWithOld,
  exchangeTokens,
  forgetPair,
  isTaken,
  isTokenRefused,
  type SeenTokens,
  seeTokens,
  startWith,
} from './server-token.ts'
import {
  cancelOffer,
  makeOffer,
  putSealed,
  readOffer,
  type TokenOffer,
  withdrawOffer,
} from './token-offer.ts'
import { keyOfToken, passwordOf, type TokenPair, writePair } from './token-pair.ts'

export interface RotationDeps {
  readonly of: Distributed
  readonly putToken: PutToken
  readonly handover: Handover
  readonly operation: string
}

/** So long the others have to say that they keep the new token, and then that it is theirs. */
const KEEP_MS = 5 * 60_000
const TAKE_MS = 90_000
/** So long they have to see that it was given up. */
const SEE_MS = 10_000
/** After that nothing of what was asked for without an answer is under way any more. */
const QUIET_MS = 2 * PUT_MS
const EVERY_MS = 2_000

/**
 * Makes the token of servers anew while the others run. May be killed anywhere and is called again for the same operation: it goes on
 * from what the datastore, the offer in the cluster and the pair on the disk say.
 */
export async function rotateServerToken(deps: RotationDeps, options: WaitOptions): Promise<Result<string>> {
  const { of, operation } = deps
  const { files } = of.deps
  const begunMs = performance.now()
  const run = new Run(deps, options, begunMs)
  for (;;) {
    if ((await files.readMark('rotated')) === operation) return await run.describeEnd()
    const end = await run.step()
    if (end) return end
    if (options.signal?.aborted)
      return failed('cancelled', 'no longer rotated: it goes on when the agent runs')
    if (performance.now() - begunMs >= options.deadlineMs) return run.lateEnd()
  }
}

interface Seen {
  readonly tokens: SeenTokens
  readonly pair: TokenPair | undefined
  readonly offer: TokenOffer | undefined
  readonly others: readonly SeenServer[]
  readonly step: RotationStep
}

/** What one call has seen and asked for; all else is on the disk and in the cluster. */
class Run {
  readonly #deps: RotationDeps
  readonly #options: WaitOptions
  readonly #begunMs: number
  /** When k3s was asked last and did not answer; at first: before this call, maybe. */
  #unansweredMs: number | undefined
  /** Since when the others have only to see what came of it. */
  #waitingMs: number | undefined
  #why = ''
  /** What k3s said when it was asked last and did not do it. */
  #refusal = ''
  /** Who has not said that it keeps the new token. */
  #missing: readonly string[] = []

  constructor(deps: RotationDeps, options: WaitOptions, begunMs: number) {
    this.#deps = deps
    this.#options = options
    this.#begunMs = begunMs
    this.#unansweredMs = begunMs
  }

  /** Does the next thing; undefined: it is not over. */
  async step(): Promise<Result<string> | undefined> {
    const { of } = this.#deps
    const { files } = of.deps
    const { signal } = this.#options
    const seen = await this.#look()
    if (seen.kind === 'failed') {
      this.#why = seen.reason
      return await this.#pause()
    }
    const { pair, offer, others, step, tokens } = seen.value
    switch (step) {
      case 'wait':
        if (tokens.why !== '') this.#why = tokens.why
        if (pair && tokens.under === undefined && (await isTokenRefused(of, signal)))
          this.#note(await exchangeTokens(of, pair, tokens.which, signal))
        return await this.#pause()
      case 'busy':
        return failed(
          'precondition',
          offer
            ? `another rotation of the servers' token by ${offer.server} is not over`
            : 'this server keeps the token of another rotation, of which it does not know that it was given up',
        )
      case 'unknown-token':
        return failed(
          'precondition',
          'the datastore is under another token than this server keeps: it was changed by hand; adopt the cluster anew, or write that token to the agents',
        )
      case 'choose':
        return await this.#choose(seen.value)
      case 'offer':
        if (!pair) return undefined
        return await this.#did(
          await makeOffer(
            of.kubectl,
            { id: pair.id, untilMs: pair.untilMs, server: of.deps.nodeName },
            signal,
          ),
        )
      case 'seal':
        return await this.#did(pair && offer ? await this.#seal(pair, offer, others) : DONE)
      case 'ask':
        return await this.#did(pair ? await this.#ask(pair) : DONE)
      case 'take':
      case 'give-back':
        if (pair) await startWith(files, pair, step === 'take' ? 'next' : 'old')
        return undefined
      case 'drop-old-key':
        return await this.#did(pair ? await of.etcd().removeKey(keyOfToken(pair.old), signal) : DONE)
      case 'cancel':
        return await this.#did(offer ? await cancelOffer(of.kubectl, offer, signal) : DONE)
      case 'withdraw':
        return await this.#did(offer ? await withdrawOffer(of.kubectl, offer, signal) : DONE)
      case 'forget':
        return pair ? await this.#forget(pair, tokens, offer) : undefined
    }
  }

  /** For people: what is to be done after it. */
  async describeEnd(): Promise<Result<string>> {
    const { of } = this.#deps
    const { files, nodeName } = of.deps
    const members = await of.etcd().members(this.#options.signal)
    const others = members.kind === 'done' ? members.value.map(nodeOf).filter(node => node !== nodeName) : []
    // Who made the change last: by the others a server can be joined before.
    const servers = [...others, nodeName]
    const commands = servers.map(node => `muster restart ${node}`).join(', then ')
    const made = isMadeWith({ token: await files.get('token'), agents: await files.get('agent-token') })
    const agents = made
      ? 'and agents with one'
      : '(what agents join with is said by a file of your own: change it there, on every server)'
    return done(
      `servers join with a new token from now on, ${agents}; ${servers.join(' and ')} ${servers.length === 1 ? 'takes' : 'take'} the old ones until Kubernetes restarts there: ${commands}; a snapshot of before is restored with the token that lies beside it`,
    )
  }

  lateEnd(): Failure {
    return failed(
      'timed-out',
      `the rotation is not over within ${this.#options.deadlineMs / 1_000} s${this.#reason()}; each server that keeps two tokens starts with either`,
    )
  }

  #reason(): string {
    const missing =
      this.#missing.length === 0 ? '' : `: ${this.#missing.join(', ')} did not say to keep the new token`
    const why = this.#refusal === '' ? this.#why : this.#refusal
    return `${missing}${why === '' ? '' : `: ${why}`}`
  }

  #note(ended: Result<unknown>): void {
    this.#why = ended.kind === 'failed' ? ended.reason : ''
  }

  async #did(ended: Result<void>): Promise<undefined> {
    this.#note(ended)
    return ended.kind === 'failed' ? await this.#pause() : undefined
  }

  async #pause(): Promise<undefined> {
    await pause(this.#options.everyMs ?? EVERY_MS, this.#options.signal)
    return undefined
  }

  async #look(): Promise<Result<Seen>> {
    const { of, handover } = this.#deps
    const { signal, deadlineMs } = this.#options
    const tokens = await seeTokens(of, signal)
    const { pair, under, which } = tokens
    const members = under === undefined ? undefined : await of.etcd().members(signal)
    if (members?.kind === 'failed') return members
    const servers = await handover.servers()
    // Without them nobody keeps anything, as far as is known here; what was done goes on.
    if (servers.kind === 'failed') this.#why = servers.reason
    const known = servers.kind === 'done' ? servers.value : new Map<string, string>()
    const read = under === undefined ? undefined : await readOffer(of.kubectl, signal)
    const offer = read?.kind === 'done' ? read.value : undefined
    if (read?.kind === 'failed') this.#why = read.reason
    const others = seeOthers(members?.value ?? [], known, of.deps.nodeName, pair, offer)
    const nowMs = of.deps.clock.now().getTime()
    const passedMs = performance.now() - this.#begunMs
    const kept = pair === undefined ? 'none' : pair.operation === '' ? 'other' : 'own'
    this.#missing = pair && under === 'old' ? others.filter(each => !each.kept).map(({ node }) => node) : []
    const step = nextRotationStep({
      pair: kept,
      token: which,
      under,
      others,
      offer: read?.kind === 'done' ? stateOf(offer, pair, nowMs) : undefined,
      mayAsk: pair !== undefined && nowMs < pair.untilMs && passedMs < Math.min(KEEP_MS, deadlineMs / 2),
      quiet: this.#isQuiet(pair),
      waited: this.#hasWaited(under === 'next' ? TAKE_MS : SEE_MS),
    })
    if (under === 'next' || offer?.cancelled) this.#waitingMs ??= performance.now()
    return done({ tokens, pair, offer, others, step })
  }

  #hasWaited(ms: number): boolean {
    if (this.#waitingMs === undefined) return false
    return performance.now() - this.#waitingMs > Math.min(ms, this.#options.deadlineMs / 4)
  }

  #isQuiet(pair: TokenPair | undefined): boolean {
    if (!pair?.asked || this.#unansweredMs === undefined) return true
    return performance.now() - this.#unansweredMs > QUIET_MS
  }

  async #choose({ tokens, others }: Seen): Promise<Result<string> | undefined> {
    const { of, operation } = this.#deps
    const { files, clock, nodeName } = of.deps
    const { signal, deadlineMs } = this.#options
    const unfit = others.flatMap(each => each.unfit ?? [])
    if (unfit.length > 0)
      return failed('precondition', `not every server can be given a new token: ${unfit.join('; ')}`)
    if (tokens.token === undefined)
      return failed('precondition', 'no token is kept for this server: adopt it')
    const taken = await isTaken(of, tokens.token, signal)
    if (taken.kind === 'failed') return taken
    if (!taken.value)
      return failed(
        'precondition',
        `k3s on ${nodeName} takes the token of before until it restarts, and is asked for another one by that alone: muster restart ${nodeName}`,
      )
    const listed = await listBootstrapTokens(of.kubectl, signal)
    if (listed.kind === 'failed') return listed
    for (const { id, expiresMs } of listed.value) {
      // One that never ends was not minted for a join of ours.
      if (expiresMs === undefined) continue
      const deleted = await deleteBootstrapToken(of.kubectl, id, signal)
      if (deleted.kind === 'failed') return deleted
    }
    const next = await serverTokenOf(of, randomBytes(32).toString('hex'))
    if (next.kind === 'failed') return next
    const untilMs = clock.now().getTime() + Math.min(KEEP_MS, deadlineMs)
    const agents = await agentsWithOld(files, tokens.token)
    const pair = {
      id: randomId(),
      operation,
      old: tokens.token,
      next: next.value,
      agents,
      untilMs,
      asked: false,
    }
    await files.put('next-token', writePair(pair))
    this.#waitingMs = undefined
    return undefined
  }

  async #seal(pair: TokenPair, offer: TokenOffer, others: Seen['others']): Promise<Result<void>> {
    const { of, handover } = this.#deps
    for (const { node, machine, shown, sealed } of others) {
      if (!shown || sealed) continue
      const key = Buffer.from(offer.said('key', machine) ?? '', 'base64')
      const made = await handover.seal({
        id: pair.id,
        node,
        key,
        expiresMs: pair.untilMs,
        text: passwordOf(pair.next),
      })
      if (made.kind === 'failed') return made
      const put = await putSealed(of.kubectl, machine, made.value, this.#options.signal)
      if (put.kind === 'failed') return put
    }
    return DONE
  }

  /** That it was asked is on disk first: from then on the datastore may be under either, until it says. */
  async #ask(pair: TokenPair): Promise<Result<void>> {
    const { of, putToken } = this.#deps
    const { files, facts } = of.deps
    const ca = await files.read(`${K3S_TLS}/server-ca.crt`)
    if (!ca) return failed('precondition', `no ${K3S_TLS}/server-ca.crt: this machine is no server`)
    if (!pair.asked) await files.put('next-token', writePair({ ...pair, asked: true }))
    const request = { url: `https://127.0.0.1:${facts.apiPort}`, ca, next: passwordOf(pair.next) }
    let ended: Result<void> = DONE
    // An attempt that broke off may have left k3s with the new one.
    for (const password of [passwordOf(pair.old), passwordOf(pair.next)]) {
      this.#unansweredMs = performance.now()
      ended = await putToken({ ...request, password, signal: this.#options.signal })
      const answered = ended.kind === 'done' || ended.class === 'command' || ended.class === 'token-refused'
      if (answered) this.#unansweredMs = undefined
      if (ended.kind === 'done' || ended.class !== 'token-refused') break
    }
    this.#refusal = ended.kind === 'failed' ? ended.reason : ''
    return ended
  }

  async #forget(
    pair: TokenPair,
    { under, which }: SeenTokens,
    offer: TokenOffer | undefined,
  ): Promise<Result<string> | undefined> {
    const { of, operation } = this.#deps
    const { files } = of.deps
    const over = under === 'next'
    // Said first: who is called again after it makes no other one.
    if (over) await files.mark('rotated', operation)
    await forgetPair(files, pair, which)
    if (over || pair.operation !== operation) return undefined
    return offer && offer.id !== pair.id
      ? failed('precondition', `${offer.server} makes the servers' token anew just now`)
      : failed('timed-out', `the token of servers is as it was${this.#reason()}`)
  }
}
