import type { MessageInitShape } from '@bufbuild/protobuf'
import type { CreateTokenRequest, CreateTokenResponseSchema } from '../../shared/gen/muster/v1/token_pb.ts'
import { exists, invalid } from '../../shared/rpc/rpc-error.ts'
import { msFromDuration } from '../../shared/time.ts'
import type { Authorities } from '../authority/authorities.ts'
import { makeToken, tokenText } from '../enrolment/token-secret.ts'
import { checkHostName } from '../machines/bind-by-hand.ts'
import type { ChangeStateDeps } from '../machines/change-state.ts'
import type { FleetTrust } from '../machines/fleet-trust.ts'
import { bindingOfHost } from '../store/bindings.ts'
import { recordEvent } from '../store/events.ts'
import { insertToken } from '../store/tokens.ts'
import { actorOf, type Caller } from './caller.ts'
import { describeToken } from './describe-token.ts'
import { readLabelInput } from './read-labels.ts'

export interface CreateTokenDeps extends Pick<ChangeStateDeps, 'store' | 'directory' | 'clock'> {
  readonly authorities: Pick<Authorities, 'shownPin'>
  readonly trust: FleetTrust
}

const MAX_LIFETIME_MS = 366 * 86_400_000
const MAX_USES = 10_000

/** Makes a token. Its text is told once; what is kept cannot give it again. */
export function createToken({ store, directory, clock, authorities, trust }: CreateTokenDeps) {
  return async (
    request: CreateTokenRequest,
    caller: Caller,
  ): Promise<MessageInitShape<typeof CreateTokenResponseSchema>> => {
    const lifetimeMs = request.lifetime ? msFromDuration(request.lifetime) : 0
    if (!(lifetimeMs >= 1 && lifetimeMs <= MAX_LIFETIME_MS)) {
      throw invalid('lifetime: is required, more than nothing and at most 366 days')
    }
    const { uses, host } = request
    if (uses < 1 || uses > MAX_USES) throw invalid(`uses: must be 1 to ${MAX_USES}`)
    if (host !== '') {
      if (uses !== 1) throw invalid('host: a token for one host has one use')
      checkHostName(directory, host)
    }
    const now = clock.now()
    const token = makeToken()
    const row = {
      id: token.id,
      secret_hash: token.secretHash,
      uses,
      used: 0,
      expires: now.getTime() + lifetimeMs,
      created: now.getTime(),
      created_by: actorOf(caller),
      labels: JSON.stringify(readLabelInput(request.labels)),
      host,
      revoked: 0,
    }
    await store.transact(async tx => {
      const bound = host === '' ? undefined : await bindingOfHost(tx, host)
      const taken = bound?.machine ?? (host === '' ? undefined : directory.claimants(host)[0])
      if (taken) throw exists(`host: ${host} is machine ${taken.slice(0, 12)} already`)
      await insertToken(tx, row)
      const reason = `token ${row.id} for ${uses} ${uses === 1 ? 'machine' : 'machines'}, until ${new Date(row.expires).toISOString()}`
      await recordEvent(tx, { at: now, class: 'token-created', host, reason, actor: actorOf(caller) })
    })
    return {
      token: tokenText(token, authorities.shownPin, trust.newest?.digest ?? ''),
      info: describeToken(row, []),
    }
  }
}
