import type { EnrolRequest } from '../../shared/gen/muster/v1/enrolment_pb.ts'
import { keyId } from '../../shared/x509/key-id.ts'
import { enrolmentProofText, verifyProof } from '../../shared/x509/proof.ts'
import { readRsaPublicKey } from '../../shared/x509/public-key.ts'
import type { Authorities } from '../authority/authorities.ts'
import type { MachineDirectory } from '../machines/directory.ts'
import { MAX_STRANGER_FACTS_BYTES, type ReadFacts, readFacts } from '../machines/read-facts.ts'
import type { Store } from '../store/store.ts'
import { judgeToken, type Refuse, refuse, retryLater, type ShownToken } from './admission.ts'
import type { NonceState, Nonces } from './nonces.ts'
import { readShownToken } from './shown-token.ts'
import type { StrangerThrottle } from './stranger-throttle.ts'

export interface ProveDeps {
  readonly store: Store
  readonly directory: MachineDirectory
  readonly authorities: Pick<Authorities, 'list'>
  readonly nonces: Nonces
  /** For everybody who shows neither a valid token nor the key of a machine that was let in. */
  readonly strangers: StrangerThrottle
}

/** A request whose key was proved and whose facts were read. */
export interface Proved {
  readonly kind: 'proved'
  readonly machineId: string
  readonly publicKey: Uint8Array
  readonly facts: ReadFacts
  readonly token: ShownToken
}

/** Checks what needs no transaction, cheapest first, so that a stranger costs little. */
export async function proveRequest(
  deps: ProveDeps,
  request: EnrolRequest,
  address: string,
  nowMs: number,
): Promise<Proved | Refuse> {
  const { directory, authorities, nonces, strangers } = deps
  const { publicKey, nonce } = request
  if (request.facts.length > MAX_STRANGER_FACTS_BYTES) {
    return refuse('malformed', `facts: ${request.facts.length} bytes, at most ${MAX_STRANGER_FACTS_BYTES}`)
  }
  if (request.tokenId.length > 64 || request.tokenSecret.length > 128) {
    return refuse('malformed', 'token_id or token_secret: longer than any token')
  }
  const machineId = keyId(publicKey)
  const isKnown = directory.isAllowed(machineId)
  const token = await readShownToken(deps.store.db, request, machineId)
  const isGood = token.kind === 'known' && judgeToken(token, nowMs).kind === 'admit'
  const turnAway = () => {
    const seconds = strangers.take(address, nowMs)
    if (seconds === 0) return undefined
    const wait = Math.max(seconds, strangers.spreadSeconds(directory.count('pending')))
    return retryLater('full', 'too many machines without a valid token ask at once', wait)
  }
  const turnedAway = isGood || isKnown ? undefined : turnAway()
  if (turnedAway) return turnedAway
  const nonceState = nonces.judge(nonce)
  if (nonceState !== 'good') return badNonce(nonceState)
  const isProved = authorities.list().some(({ pin }) => {
    const text = enrolmentProofText({
      nonce,
      caId: pin,
      publicKey,
      facts: request.facts,
      tokenId: request.tokenId,
    })
    return verifyProof(publicKey, text, request.proof)
  })
  if (!isProved) {
    // Knowing the key of a machine that was let in spares nobody the throttle, holding it does.
    const charged = isKnown && !isGood ? turnAway() : undefined
    if (charged) return charged
    const key = readRsaPublicKey(publicKey)
    return key.ok
      ? refuse('proof', 'the proof is no signature of this very request by this key')
      : refuse('malformed', `public_key: ${key.reason}`)
  }
  // Only whoever holds the key uses a nonce up, so nobody else can fill what is remembered of them.
  const taken = nonces.take(nonce)
  if (taken !== 'good') return badNonce(taken)
  const facts = readFacts(request.facts, MAX_STRANGER_FACTS_BYTES)
  if (facts.kind === 'refused') return refuse('malformed', facts.reason)
  return { kind: 'proved', machineId, publicKey, facts, token }
}

/** No agent asks twice with one nonce: who does sends what was recorded, which operators see. */
function badNonce(state: Exclude<NonceState, 'good'>): Refuse {
  return state === 'used'
    ? retryLater('replay', 'the nonce served before: the request was recorded and sent again; begin again', 1)
    : retryLater('nonce', 'the nonce is unknown or too old; begin again', 1)
}
