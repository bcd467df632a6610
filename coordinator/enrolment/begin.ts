import type { MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import type { Clock } from '../../shared/clock.ts'
import type { BeginRequest, BeginResponseSchema } from '../../shared/gen/muster/v1/enrolment_pb.ts'
import type { Envelope } from '../../shared/gen/muster/v1/envelope_pb.ts'
import { precondition } from '../../shared/rpc/rpc-error.ts'
import { commonProtocol, PROTOCOL_MAX, PROTOCOL_MIN } from '../../shared/version.ts'
import type { Authorities } from '../authority/authorities.ts'
import type { Nonces } from './nonces.ts'

export interface BeginDeps {
  readonly nonces: Nonces
  readonly authorities: Pick<Authorities, 'shownPin'>
  /** All trust sets, kept in memory: a stranger's call costs no query. */
  readonly trustChain: () => readonly Envelope[]
  readonly clock: Clock
}

/** Gives a nonce for one proof. It carries nothing that could be charged to a caller, so it must cost next to nothing. */
export function begin({ nonces, authorities, trustChain, clock }: BeginDeps) {
  return async (request: BeginRequest): Promise<MessageInitShape<typeof BeginResponseSchema>> => {
    const protocol = commonProtocol(request.protocolMin, request.protocolMax)
    if (protocol === undefined) {
      throw precondition(
        `protocol: this coordinator speaks ${PROTOCOL_MIN} to ${PROTOCOL_MAX}, the machine ${request.protocolMin} to ${request.protocolMax}`,
      )
    }
    const now = clock.now()
    return {
      nonce: nonces.issue(),
      caId: authorities.shownPin,
      trust: { envelopes: [...trustChain()] },
      now: timestampFromDate(now),
      protocol,
    }
  }
}
