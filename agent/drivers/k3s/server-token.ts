import type { Distributed } from '../driver-base.ts'
import type { ClusterFiles } from '../node/cluster-files.ts'
import { readUnit, startUnits } from '../node/services.ts'
import { done, type Failure, failed, type Result } from '../result.ts'
import { agentsWith, isSomebodyElses, type SeenAgents, writesToStartWith } from './agent-token.ts'
import { isBetween, whyNoJoiners } from './decide-joiners.ts'
import { AGENT_TOKEN, K3S_TLS, SERVER_TOKEN } from './k3s-places.ts'
import {
  isOver,
  isSameToken,
  KEYS_BELOW,
  keyOfToken,
  passwordOf,
  readPair,
  type TokenPair,
  type Under,
  underWhich,
  type Which,
} from './token-pair.ts'

/** What this server keeps of tokens, and what its datastore says. */
export interface SeenTokens {
  readonly pair: TokenPair | undefined
  /** With which it starts; undefined: it has none. */
  readonly token: string | undefined
  readonly which: Which
  /** Without a pair "old" is the token that this server starts with. undefined: the datastore does not answer. */
  readonly under: Under | undefined
  /** Why it does not answer; "": it does. */
  readonly why: string
}

export async function seeTokens(of: Distributed, signal: AbortSignal | undefined): Promise<SeenTokens> {
  const { files } = of.deps
  const pair = await keptPair(files)
  const token = await files.get('token')
  const keys = await of.etcd().keys(KEYS_BELOW, signal)
  const both = pair ?? { old: token ?? '', next: token ?? '' }
  const found = keys.kind === 'done' ? underWhich(both, keys.value) : undefined
  return {
    pair,
    token,
    which: pair && token !== undefined && isSameToken(token, pair.next) ? 'next' : 'old',
    // Of one token both are the same.
    under: found === 'both' && !pair ? 'old' : found,
    why: keys.kind === 'failed' ? keys.reason : '',
  }
}

export const keptPair = async (files: ClusterFiles): Promise<TokenPair | undefined> =>
  readPair(await files.get('next-token'))

/** Which of a pair k3s starts with from the next time on. */
export async function startWith(files: ClusterFiles, pair: TokenPair, which: Which): Promise<void> {
  const now = { token: await files.get('token'), agents: await files.get('agent-token') }
  for (const { name, text } of writesToStartWith(pair, which, now)) await files.put(name, text)
}

/** It is known for good which of a pair counts. Said once more of both files: whoever wrote them may have been killed in between. */
export async function forgetPair(files: ClusterFiles, pair: TokenPair, which: Which): Promise<void> {
  await startWith(files, pair, which)
  await files.drop('next-token')
}

async function seeAgents(files: ClusterFiles): Promise<SeenAgents> {
  const [token, agents] = [await files.get('token'), await files.get('agent-token')]
  return { token, agents, printed: (await files.read(AGENT_TOKEN))?.toString('utf8') }
}

/** What agents use with a token of servers that is kept from now on as the old one of a pair; "": it is not ours to say. */
export async function agentsWithOld(files: ClusterFiles, old: string): Promise<string> {
  const seen = await seeAgents(files)
  if (isSomebodyElses(seen)) return ''
  // Where none is given, agents use the servers'.
  return seen.agents ? seen.agents : old
}

/** Whether k3s on this server lets in who shows a token of servers. */
export async function isTaken(
  { deps }: Distributed,
  token: string,
  signal?: AbortSignal,
): Promise<Result<boolean>> {
  const ca = await deps.files.read(`${K3S_TLS}/server-ca.crt`)
  if (!ca) return failed('precondition', `no ${K3S_TLS}/server-ca.crt: this machine is no server`)
  const url = `https://127.0.0.1:${deps.facts.apiPort}`
  return await deps.takesToken({ url, ca, password: passwordOf(token), signal })
}

const REFUSED = /bootstrap data already found and encrypted with different token/
const CALL_MS = 20_000

/** Whether k3s did not come up when it was last started, for the datastore is under another token. */
export async function isTokenRefused({ deps }: Distributed, signal?: AbortSignal): Promise<boolean> {
  const { system, facts, files } = deps
  const [unit = ''] = facts.units
  if ((await files.readMark('hold')) !== undefined) return false
  const state = await readUnit(system, unit, signal)
  if (state.kind === 'failed' || state.value.active === 'active') return false
  const properties = '--property=InvocationID,ExecMainStartTimestampMonotonic'
  const shown = await system.run('systemctl', ['show', properties, unit], { deadlineMs: CALL_MS, signal })
  const id = /^InvocationID=([0-9a-f]{32})$/m.exec(shown.stdout)?.[1]
  const startedUs = Number(/^ExecMainStartTimestampMonotonic=(\d+)$/m.exec(shown.stdout)?.[1] ?? '0')
  // Of its last start alone, and of one with the token that is there: what it said before was of the other one.
  if (id === undefined || startedUs <= files.lastPutUs('token')) return false
  const args = [`_SYSTEMD_INVOCATION_ID=${id}`, '--no-pager', '--output=cat', '--lines=200']
  const said = await system.run('journalctl', args, { deadlineMs: CALL_MS, signal })
  return REFUSED.test(said.stdout)
}

/** Starts k3s with the other one of a pair. */
export async function exchangeTokens(
  { deps }: Distributed,
  pair: TokenPair,
  which: Which,
  signal?: AbortSignal,
): Promise<Result<void>> {
  await startWith(deps.files, pair, which === 'old' ? 'next' : 'old')
  return await startUnits(deps.system, deps.facts.units, signal)
}

export interface JoinersTokens {
  readonly token: string
  readonly agentToken: string | undefined
}

/** What this server's k3s takes from a joining server, where one that joins and starts with it comes up. */
export async function tokensForJoiners(
  of: Distributed,
  signal?: AbortSignal,
): Promise<Result<JoinersTokens>> {
  const { files, nodeName, clock } = of.deps
  const printed = (await files.read(SERVER_TOKEN))?.toString('utf8')
  if (printed === undefined) return failed('precondition', `no ${SERVER_TOKEN}: this machine is no server`)
  const pair = await keptPair(files)
  const keys = await of.etcd().keys(KEYS_BELOW, signal)
  if (keys.kind === 'failed') return keys
  const taken = await isTaken(of, printed, signal)
  if (taken.kind === 'failed') return taken
  const agents = await seeAgents(files)
  const why = whyNoJoiners({
    ...agents,
    between: isBetween(pair, agents, pair !== undefined && isOver(pair.untilMs, clock.now().getTime())),
    current: keys.value.length === 0 || keys.value.includes(keyOfToken(printed)),
    taken: taken.value,
  })
  switch (why) {
    case undefined:
      return done({ token: printed, agentToken: agents.agents })
    case 'between':
      return failed(
        'precondition',
        'the token of servers is being made anew: a server joins when that is over',
      )
    case 'restart':
      return failed(
        'precondition',
        `${nodeName} takes the tokens of before until its k3s restarts: restart Kubernetes on it (muster restart ${nodeName}), or let another server be joined`,
      )
  }
}

/**
 * Why k3s would make no snapshot. Its program asks the server for one and shows the token that the server has written down; who made the
 * tokens anew has written down the new one, and takes the old one until its k3s restarts.
 */
export async function whyNoSnapshot(of: Distributed, signal?: AbortSignal): Promise<Failure | undefined> {
  const { files, nodeName } = of.deps
  const printed = (await files.read(SERVER_TOKEN))?.toString('utf8')
  if (printed === undefined) return failed('precondition', `no ${SERVER_TOKEN}: this machine is no server`)
  const taken = await isTaken(of, printed, signal)
  if (taken.kind === 'failed') return taken
  if (taken.value) return undefined
  return failed(
    'precondition',
    `k3s on ${nodeName} takes the token of before until it restarts, and makes a snapshot only for who shows the one that it has written down: restart Kubernetes on it (muster restart ${nodeName}), or take the snapshot on another server`,
  )
}

/** The token that the datastore is under now, as far as this server has it, and what agents use with it. */
export async function tokensOfDatastore(
  of: Distributed,
  signal?: AbortSignal,
): Promise<Result<JoinersTokens>> {
  const { files } = of.deps
  const printed = (await files.read(SERVER_TOKEN))?.toString('utf8')
  if (printed === undefined) return failed('precondition', `no ${SERVER_TOKEN}: this machine is no server`)
  const keys = await of.etcd().keys(KEYS_BELOW, signal)
  if (keys.kind === 'failed') return keys
  const pair = await keptPair(files)
  const kept = await files.get('token')
  const known = [kept, printed, pair?.next, pair?.old]
  const found = known.find(token => token !== undefined && keys.value.includes(keyOfToken(token)))
  if (found === undefined)
    return failed('precondition', 'this server keeps no token that opens what is in the datastore now')
  const which = pair && (isSameToken(found, pair.next) ? 'next' : 'old')
  const agentToken = pair && which && agentsWith(pair, which)
  return done({ token: found, agentToken: agentToken ?? (await files.get('agent-token')) })
}
