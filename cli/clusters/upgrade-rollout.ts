import type { MessageInitShape } from '@bufbuild/protobuf'
import {
  type Rollout,
  RolloutService,
  type StartRolloutRequestSchema,
  type StartRolloutResponse,
} from '../../shared/gen/muster/v1/rollout_pb.ts'
import type { Cli } from '../cli.ts'
import type { Connection } from '../connect.ts'
import { tryAgain } from '../orders/try-again.ts'
import { reasonsApart } from './run-act.ts'

/** So many of the rollouts that are under way are looked through. */
const OPEN_READ = 1_000

export async function startRollout(
  cli: Cli,
  connection: Connection,
  request: MessageInitShape<typeof StartRolloutRequestSchema>,
): Promise<StartRolloutResponse> {
  const service = connection.service(RolloutService)
  return tryAgain(cli.signal, () => service.startRollout(request, connection.call)).catch(
    (error: unknown) => {
      throw reasonsApart(error)
    },
  )
}

/** A rollout that does this to hosts of the cluster already; whoever asks again follows it. */
export async function findOpenRollout(
  connection: Connection,
  cluster: string,
  action: string,
  revision: bigint,
): Promise<Rollout | undefined> {
  const service = connection.service(RolloutService)
  const { rollouts } = await service.listRollouts({ open: true, limit: OPEN_READ }, connection.call)
  for (const { id, action: other, revision: at } of rollouts) {
    if (other !== action || at !== revision) continue
    const { rollout } = await service.getRollout({ id }, connection.call)
    if (rollout?.hosts.some(host => host.cluster === cluster)) return rollout
  }
  return undefined
}
