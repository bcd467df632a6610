import { expect } from 'vitest'
import { ClusterRole } from '../../../shared/gen/muster/v1/cluster_pb.ts'
import { durationFromMs } from '../../../shared/time.ts'

export const poll = (look: () => unknown) => expect.poll(look, { timeout: 5_000, interval: 5 })

/** What a coordinator orders of a node in its cluster. */
export const found = { case: 'found', value: {} } as const
export const mintFor = (
  host: string,
  key: { publicKeyDer: Uint8Array },
  role: ClusterRole = ClusterRole.WORKER,
  ms = 600_000,
) =>
  ({
    case: 'mint',
    value: { host, role, joinerKey: key.publicKeyDer, lifetime: durationFromMs(ms) },
  }) as const
export const deletion = { case: 'deleteSecret', value: {} } as const
export const stop = { case: 'stop', value: {} } as const
