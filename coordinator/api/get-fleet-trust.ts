import type { MessageInitShape } from '@bufbuild/protobuf'
import type {
  GetFleetTrustRequest,
  GetFleetTrustResponseSchema,
} from '../../shared/gen/muster/v1/fleet_trust_pb.ts'
import type { Authorities } from '../authority/authorities.ts'
import type { FleetTrust } from '../machines/fleet-trust.ts'
import type { Caller } from './caller.ts'
import { describeAuthorities } from './describe-authorities.ts'

export interface GetFleetTrustDeps {
  readonly trust: FleetTrust
  readonly authorities: Pick<Authorities, 'list'>
}

/** Whom the fleet's machines trust: all trust sets, and the coordinator's authorities. */
export function getFleetTrust({ trust, authorities }: GetFleetTrustDeps) {
  return async (
    _request: GetFleetTrustRequest,
    _caller: Caller,
  ): Promise<MessageInitShape<typeof GetFleetTrustResponseSchema>> => ({
    trust: { envelopes: [...trust.chain()] },
    authorities: describeAuthorities(authorities),
  })
}
