import { toBinary } from '@bufbuild/protobuf'
import { durationMs } from '@bufbuild/protobuf/wkt'
import {
  DrainNodeSchema,
  type StartClusterActRequest,
  StartClusterActRequestSchema,
} from '../../../shared/gen/muster/v1/cluster_pb.ts'
import type { Envelope } from '../../../shared/gen/muster/v1/envelope_pb.ts'
import { parseHostPort } from '../../../shared/host-port.ts'
import { sha256Hex } from '../../../shared/ids.ts'
import { isSnapshotName, SNAPSHOT_NAME_RULE } from '../../../shared/kubernetes/snapshot-name.ts'
import { KEEP_SNAPSHOTS, SIGNED_ACTS, type SignedAct } from '../../../shared/operator-order/operator-order.ts'
import { isHostName } from '../../../shared/revision/host-name.ts'
import { invalid } from '../../../shared/rpc/rpc-error.ts'
import { ACT_WORDS, type AskedWord } from './cluster-act.ts'

/** What an operator asks for, in plain types and within its bounds. */
export interface ActAsk {
  /** Asked again with the same one it is the same act. */
  readonly requestId: string
  readonly intent: string
  /** Empty: that of the host. */
  readonly cluster: string
  readonly act: AskedWord
  /** Empty: none, or the planner's choice of a server. */
  readonly host: string
  readonly parameter: string
  readonly dead: boolean
  readonly allowEmpty: boolean
  readonly drain: DrainWish
  readonly serverAddress: string
  readonly signed: Envelope | undefined
}

export interface DrainWish {
  readonly limitMs: number
  readonly deleteEmptyDir: boolean
  readonly deleteUnmanaged: boolean
}

const DAY_MS = 86_400_000
const DRAIN_LIMIT_MS = 600_000
const NEED_HOST: readonly AskedWord[] = ['drain', 'cordon', 'uncordon', 'leave', 'return', 'restore', 'wipe']

/** Which acts are an operator's own order, which the node verifies. */
export function signedAct(act: AskedWord): SignedAct | undefined {
  return SIGNED_ACTS.find(each => each === act)
}

/** Reads a request. Throws INVALID_ARGUMENT with the field that is wrong. */
export function readAsk(request: StartClusterActRequest, now: Date): ActAsk {
  const { requestId, cluster, host, dead, allowEmpty, signedOrder, serverAddress } = request
  if (requestId === '' || requestId.length > 64) throw invalid('request_id: must be 1 to 64 characters')
  const act = ACT_WORDS.find(word => word === request.act)
  if (act === undefined) throw invalid(`act: must be one of ${ACT_WORDS.join(', ')}`)
  if (cluster !== '' && !isHostName(cluster)) throw invalid('cluster: is no cluster’s name')
  if (host !== '' && !isHostName(host)) throw invalid('host: is no host’s name')
  if (cluster === '' && host === '') throw invalid('cluster, host: name one of the two')
  if (host === '' && NEED_HOST.includes(act)) throw invalid(`host: ${act} needs one`)
  if (dead && act !== 'leave') throw invalid('dead: belongs to leave')
  if (signedAct(act) && !signedOrder) {
    throw invalid(`signed_order: ${act} destroys or exposes, so the node wants an operator’s signature`)
  }
  if (!signedAct(act) && signedOrder) throw invalid(`signed_order: ${act} takes none`)
  if (serverAddress !== '' && (serverAddress.length > 260 || !parseHostPort(serverAddress))) {
    throw invalid('server_address: must be host:port')
  }
  const parameter = readParameter(act, request, now)
  if (act === 'rotate' && parameter === 'certificates' && host === '') {
    throw invalid('host: certificates are made anew on one host at a time; name it')
  }
  return {
    requestId,
    intent: intentOf(request),
    cluster,
    act,
    host,
    parameter,
    dead,
    allowEmpty,
    serverAddress,
    drain: readDrain(request),
    signed: signedOrder,
  }
}

function readParameter(act: AskedWord, { parameter }: StartClusterActRequest, now: Date): string {
  if (act === 'snapshot' || act === 'restore') {
    if (act === 'snapshot' && parameter === '') return `by-hand-${stampOf(now)}`
    if (isSnapshotName(parameter)) return parameter
    throw invalid(`parameter: ${SNAPSHOT_NAME_RULE}`)
  }
  if (act === 'rotate') {
    if (parameter === 'tokens' || parameter === 'certificates') return parameter
    throw invalid('parameter: rotate takes "tokens" or "certificates"')
  }
  if (act === 'wipe') {
    if (parameter === '' || parameter === KEEP_SNAPSHOTS) return parameter
    throw invalid(`parameter: wipe takes "${KEEP_SNAPSHOTS}" or nothing`)
  }
  if (parameter !== '') throw invalid(`parameter: ${act} takes none`)
  return ''
}

/** 20270301-120000, in UTC. */
function stampOf(now: Date): string {
  return now
    .toISOString()
    .replaceAll(/[-:]|\.\d+Z/g, '')
    .replace('T', '-')
}

function readDrain({ act, drain }: StartClusterActRequest): DrainWish {
  const isDrain = act === 'drain'
  if (!isDrain && drain) throw invalid('drain: belongs to the act drain')
  const limitMs = drain?.limit ? durationMs(drain.limit) : DRAIN_LIMIT_MS
  if (limitMs < 1_000 || limitMs > DAY_MS) throw invalid('drain.limit: must be a second to a day')
  const { deleteEmptyDir = false, deleteUnmanaged = false } = drain ?? {}
  return { limitMs, deleteEmptyDir, deleteUnmanaged }
}

/** What was asked for, whoever signed it: an order that is signed anew is the same wish. */
function intentOf(request: StartClusterActRequest): string {
  const { drain, ...rest } = request
  const { cluster, act, host, parameter, dead, allowEmpty, serverAddress } = rest
  const drained = drain ? Buffer.from(toBinary(DrainNodeSchema, drain)).toString('hex') : ''
  return sha256Hex(
    JSON.stringify([
      StartClusterActRequestSchema.typeName,
      cluster,
      act,
      host,
      parameter,
      dead,
      allowEmpty,
      serverAddress,
      drained,
    ]),
  )
}
