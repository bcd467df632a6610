import type { MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import type { AuthorityInfoSchema } from '../../shared/gen/muster/v1/fleet_trust_pb.ts'
import type { Authorities } from '../authority/authorities.ts'

export function describeAuthorities(
  authorities: Pick<Authorities, 'list'>,
): MessageInitShape<typeof AuthorityInfoSchema>[] {
  return authorities.list().map(({ pin, issuing, notAfter, certificatePem }) => ({
    pin,
    current: issuing,
    notAfter: timestampFromDate(notAfter),
    certificatePem,
  }))
}
