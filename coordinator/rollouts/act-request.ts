import { create } from '@bufbuild/protobuf'
import {
  type DrainNode,
  DrainNodeSchema,
  type StartClusterActRequest,
  StartClusterActRequestSchema,
} from '../../shared/gen/muster/v1/cluster_pb.ts'
import type { StartRolloutRequest } from '../../shared/gen/muster/v1/rollout_pb.ts'
import { nameForChange } from '../../shared/kubernetes/snapshot-name.ts'
import { durationFromMs } from '../../shared/time.ts'
import type { WantedAct } from './cluster-source.ts'

/** The act that a step asks of its cluster, as an operator would ask for it. */
export function actRequest(wanted: Omit<WantedAct, 'rollout' | 'actor'>): StartClusterActRequest {
  const { id, cluster, host, step, action, asked = create(StartClusterActRequestSchema) } = wanted
  const act = step === 'act' ? action : step
  // Tokens are the cluster's: whichever server was asked for them makes them anew.
  const about = act === 'rotate' && asked.parameter === 'tokens' ? asked.host : host
  return {
    ...asked,
    requestId: id,
    cluster,
    act,
    host: about,
    ...(step === 'snapshot' && { parameter: nameForChange('rollout', id) }),
    ...(act === 'drain' && { drain: drainOf(wanted, asked.drain) }),
  }
}

/** A drain that is a step on the way to something else comes back; one that was asked for takes only what was said. */
function drainOf(
  { step, drainLimitMs }: Pick<WantedAct, 'step' | 'drainLimitMs'>,
  asked?: DrainNode,
): DrainNode {
  const limit = asked?.limit ?? durationFromMs(drainLimitMs)
  return asked ? { ...asked, limit } : create(DrainNodeSchema, { limit, deleteEmptyDir: step === 'drain' })
}

/** The act of one host of a rollout: with the order that an operator signed for that very host, where each has its own. */
export function askedOfHost(
  { act, signedOrders }: StartRolloutRequest,
  host: string,
): StartClusterActRequest | undefined {
  const signedOrder = signedOrders[host]
  return act && signedOrder ? { ...act, signedOrder } : act
}
