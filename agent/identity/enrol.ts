import { status } from '@grpc/grpc-js'
import type { Clock } from '../../shared/clock.ts'
import { reasonOf } from '../../shared/errors.ts'
import {
  type BeginResponse,
  EnrolmentService,
  type EnrolResponse,
} from '../../shared/gen/muster/v1/enrolment_pb.ts'
import { DeadlineError } from '../../shared/lifecycle.ts'
import { createClient, type RpcClient } from '../../shared/rpc/client.ts'
import { RpcError } from '../../shared/rpc/rpc-error.ts'
import { commonProtocol, PROTOCOL_MAX, PROTOCOL_MIN } from '../../shared/version.ts'
import { createClientCredentials } from '../../shared/x509/client-credentials.ts'
import { enrolmentProofText, signProof } from '../../shared/x509/proof.ts'
import { proveWritable, type StateDirectory } from '../state/state-directory.ts'
import { type TrustStore, trustedPins } from '../trust/trust-store.ts'
import type { CertificateStore } from './certificate-store.ts'
import { CHANNEL_OPTIONS } from './channel-options.ts'
import type { EnrolmentOutcome } from './enrolment-outcome.ts'
import { proveCoordinator } from './prove-coordinator.ts'
import type { EnrolmentToken, Pins } from './token.ts'

export interface EnrolDeps {
  readonly coordinator: string
  readonly directory: StateDirectory
  readonly certificates: CertificateStore
  readonly trust: TrustStore
  readonly pins: Pins
  readonly clock: Clock
  /** A serialised Facts of at most 64 KiB. */
  readonly facts: (signal: AbortSignal) => Promise<Uint8Array>
  /** SMBIOS serial for failure reports; empty when unknown. */
  readonly serial: () => string
  readonly connectMs: number
  /** Whether this was not reported last; the coordinator need not hear the same at every attempt. */
  readonly isNews: (text: string) => boolean
}

/** The address is written down as it comes. */
const MAX_ADDRESS_CHARS = 300

const failed = (name: string, reason: string): EnrolmentOutcome => ({ kind: 'failed', class: name, reason })

/**
 * One attempt to get a certificate. The server's chain is proved against the pin on a connection of its own before
 * anything is sent; the connection that follows trusts that one authority only.
 */
export async function enrolOnce(
  deps: EnrolDeps,
  token: EnrolmentToken | undefined,
  signal: AbortSignal,
): Promise<EnrolmentOutcome> {
  const { coordinator, connectMs, clock, trust, pins } = deps
  const proof = await proveCoordinator(
    {
      address: coordinator,
      pins: trustedPins(trust.current, pins.caPin),
      now: clock.now(),
      timeoutMs: connectMs,
    },
    signal,
  )
  if (!proof.ok) {
    return proof.fault === 'unreachable'
      ? { kind: 'away', reason: proof.reason }
      : failed(proof.fault, proof.reason)
  }
  using client = createClient(
    EnrolmentService,
    coordinator,
    createClientCredentials({ caPem: [proof.caPem] }),
    CHANNEL_OPTIONS,
  )
  const outcome = await ask(deps, client, proof, token, signal)
  if ((outcome.kind === 'failed' || outcome.kind === 'refused') && !BUSY.has(outcome.class)) {
    await report(deps, client, outcome, signal)
  }
  return outcome
}

async function ask(
  deps: EnrolDeps,
  client: RpcClient<typeof EnrolmentService>,
  proved: { readonly caPem: string; readonly pin: string },
  token: EnrolmentToken | undefined,
  signal: AbortSignal,
): Promise<EnrolmentOutcome> {
  const { directory, trust, pins, connectMs } = deps
  const { identity } = directory
  const call = { signal, deadlineMs: connectMs }
  try {
    const begin = await client.begin({ protocolMin: PROTOCOL_MIN, protocolMax: PROTOCOL_MAX }, call)
    if (commonProtocol(begin.protocol, begin.protocol) === undefined) {
      return failed(
        'protocol',
        `the coordinator speaks protocol ${begin.protocol}, this agent ${PROTOCOL_MIN} to ${PROTOCOL_MAX}`,
      )
    }
    const offered = considerTrust(deps, begin, proved.pin)
    if (offered.kind === 'refused') return failed('trust', offered.reason)
    await proveWritable(directory.path)
    const facts = await deps.facts(signal)
    const tokenId = token?.id ?? ''
    const text = enrolmentProofText({
      nonce: begin.nonce,
      caId: proved.pin,
      publicKey: identity.publicKeyDer,
      facts,
      tokenId,
    })
    const { answer } = await client.enrol(
      {
        nonce: begin.nonce,
        publicKey: identity.publicKeyDer,
        facts,
        tokenId,
        tokenSecret: token?.secret ?? '',
        proof: signProof(identity.privateKeyPem, text),
      },
      call,
    )
    if (answer.case !== 'certificate') return readNo(answer)
    const { chainPem, fleetAddress } = answer.value
    if (fleetAddress.length > MAX_ADDRESS_CHARS) {
      return failed('protocol', 'the coordinator told an address that is none')
    }
    await directory.state.update(state => ({
      ...state,
      caPin: pins.caPin,
      trustPin: pins.trustPin,
      fleetAddress: fleetAddress === '' ? deps.coordinator : fleetAddress,
      authorities: [...state.authorities.filter(pem => pem !== proved.caPem), proved.caPem],
    }))
    if (offered.walk) await trust.take(offered.walk)
    // Last: a machine that has a certificate has all the rest.
    await deps.certificates.keep(chainPem, deps.clock.now())
    return { kind: 'admitted' }
  } catch (error) {
    return fromError(error, deps.coordinator)
  }
}

type Offered =
  | {
      readonly kind: 'ok'
      readonly walk: Extract<ReturnType<TrustStore['consider']>, { kind: 'ok' }> | undefined
    }
  | { readonly kind: 'refused'; readonly reason: string }

function considerTrust({ trust, pins }: EnrolDeps, begin: BeginResponse, provedPin: string): Offered {
  const envelopes = begin.trust?.envelopes ?? []
  // A fleet may have no trust set yet. Without a pin there is nothing to miss; the first one counts when it comes.
  if (envelopes.length === 0 && !trust.current && pins.trustPin === undefined) {
    return { kind: 'ok', walk: undefined }
  }
  const walk = trust.consider(envelopes, pins.trustPin)
  if (walk.kind === 'refused') return { kind: 'refused', reason: `${walk.class}: ${walk.reason}` }
  if (!trustedPins(walk.trust, pins.caPin).includes(provedPin)) {
    return {
      kind: 'refused',
      reason: `trust set ${walk.trust.number} does not list the authority ${provedPin} that this coordinator shows`,
    }
  }
  return { kind: 'ok', walk }
}

function readNo(answer: Exclude<EnrolResponse['answer'], { case: 'certificate' }>): EnrolmentOutcome {
  switch (answer.case) {
    case 'waiting':
      return {
        kind: 'waiting',
        reason: answer.value.reason,
        command: answer.value.command,
        retryAfterMs: answer.value.retryAfterSeconds * 1000,
      }
    case 'refusal':
      return {
        kind: 'refused',
        class: answer.value.class,
        reason: answer.value.reason,
        command: answer.value.command,
        retry: answer.value.retry,
        retryAfterMs: answer.value.retryAfterSeconds * 1000,
      }
    case undefined:
      return failed('protocol', 'the coordinator gave an answer that this agent does not know')
  }
}

function fromError(error: unknown, coordinator: string): EnrolmentOutcome {
  if (error instanceof RpcError && WANTS_CERTIFICATE.test(error.message)) {
    const reason = `${coordinator} wants a certificate of its callers, as the fleet listener does: give the address where machines enrol, which \`muster status\` shows`
    return { kind: 'away', reason }
  }
  if (error instanceof DeadlineError) return { kind: 'away', reason: error.message }
  if (!(error instanceof RpcError)) return failed('local', reasonOf(error))
  return MAY_PASS.has(error.code) ? { kind: 'away', reason: error.message } : failed('call', error.message)
}

/** What TLS says of a listener that only those reach who have enrolled. */
const WANTS_CERTIFICATE = /alert certificate required/

/** What a coordinator answers while it starts, is busy, or is cut off. */
const MAY_PASS: ReadonlySet<status> = new Set([
  status.UNAVAILABLE,
  status.RESOURCE_EXHAUSTED,
  status.DEADLINE_EXCEEDED,
  status.CANCELLED,
  status.ABORTED,
  status.INTERNAL,
  status.UNKNOWN,
])

/** Refusals that only ask to come back later; a report on top would be one more stranger's call. */
const BUSY: ReadonlySet<string> = new Set(['full', 'nonce'])

/** Tells the coordinator why. Its answer changes nothing: the next attempt comes anyway. */
async function report(
  { directory, serial, connectMs, isNews }: EnrolDeps,
  client: RpcClient<typeof EnrolmentService>,
  outcome: { readonly class: string; readonly reason: string },
  signal: AbortSignal,
): Promise<void> {
  if (!isNews(`${outcome.class}: ${outcome.reason}`)) return
  try {
    const reason = outcome.reason.slice(0, 1024)
    const machine = directory.identity.id
    await client.reportFailure(
      { machine, class: outcome.class.slice(0, 64), reason, serial: serial().slice(0, 256) },
      { signal, deadlineMs: connectMs },
    )
  } catch {
    // A coordinator that cannot take the report shows nothing worse than the machine's own console does.
  }
}
