import type { Hello } from '../../shared/gen/muster/v1/agent_pb.ts'
import { isDigest } from '../../shared/ids.ts'
import { millisOf } from '../../shared/time.ts'
import type { SaidAtDoor } from './restore-signs.ts'

/** Reads of a greeting what may show that the store was set back. Agents of before say less, of which nothing follows. */
export function saidAtDoor({ highestRevision, acknowledged, auditHead, untold }: Hello): SaidAtDoor {
  const isHead = auditHead !== undefined && auditHead.id > 0n && isDigest(auditHead.hash)
  return {
    highestRevision: Number(highestRevision),
    acknowledged: Number(acknowledged),
    head: isHead ? { id: Number(auditHead.id), hash: auditHead.hash } : undefined,
    untold: untold.map(({ operationId: id, accepted }) => ({ id, acceptedMs: millisOf(accepted) ?? 0 })),
  }
}
