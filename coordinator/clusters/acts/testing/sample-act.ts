import type { MessageInitShape } from '@bufbuild/protobuf'
import { create } from '@bufbuild/protobuf'
import {
  type StartClusterActRequest,
  StartClusterActRequestSchema,
} from '../../../../shared/gen/muster/v1/cluster_pb.ts'
import { NOW } from '../../testing/sample-snapshot.ts'
import type { ClusterAct } from '../cluster-act.ts'
import { type ActAsk, readAsk } from '../read-ask.ts'

/** A request as an operator's command would send it. */
export function request(
  act: string,
  host = '',
  more: MessageInitShape<typeof StartClusterActRequestSchema> = {},
): StartClusterActRequest {
  return create(StartClusterActRequestSchema, { requestId: 'r', cluster: 'home', act, host, ...more })
}

export function askFor(...asked: Parameters<typeof request>): ActAsk {
  return readAsk(request(...asked), new Date(NOW))
}

/** An act under way that an operator asked for. */
export function openAct(change: Partial<ClusterAct> = {}): ClusterAct {
  return {
    id: 'act-1',
    request: 'operator r1',
    intent: '',
    cluster: 'home',
    act: 'drain',
    host: 'd',
    machine: 'm-d',
    executor: 'm-a',
    executorHost: 'a',
    operation: 'act-1',
    parameter: '',
    askedBy: 'anna',
    askedMs: NOW - 1000,
    expiresMs: NOW + 60_000,
    order: undefined,
    attempts: 0,
    notBeforeMs: 0,
    endedMs: undefined,
    done: false,
    class: '',
    reason: '',
    result: undefined,
    ...change,
  }
}
