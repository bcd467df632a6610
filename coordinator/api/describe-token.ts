import type { MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import type { TokenSchema } from '../../shared/gen/muster/v1/token_pb.ts'
import { readLabels } from '../store/json.ts'
import type { TokenRow } from '../store/tokens.ts'

/** A token as operators are shown it: never its secret, which nobody has. */
export function describeToken(
  row: TokenRow,
  machines: readonly string[],
): MessageInitShape<typeof TokenSchema> {
  return {
    id: row.id,
    uses: row.uses,
    used: row.used,
    expires: timestampFromMs(row.expires),
    created: timestampFromMs(row.created),
    createdBy: row.created_by,
    labels: readLabels(row.labels),
    host: row.host,
    revoked: row.revoked === 1,
    machines: [...machines],
  }
}
