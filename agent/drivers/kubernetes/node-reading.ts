import { at, isObject, type JsonObject, listAt, textAt, timeAt } from '../../../shared/read-value.ts'

/** What says that a cordon is ours: the operation that set it. */
export const CORDON_MARK = 'muster/cordoned-by'

/** A Node object as decisions need it. */
export interface NodeReading {
  readonly name: string
  readonly uid: string
  readonly resourceVersion: string
  readonly unschedulable: boolean
  /** The operation of ours that set the cordon; undefined: none did. */
  readonly cordonedBy: string | undefined
  readonly ready: NodeCondition | undefined
  /** As the kubelet says it, such as "v1.34.3+k3s1". */
  readonly kubeletVersion: string
  readonly bootId: string
  readonly machineId: string
  /** Addresses within the cluster. */
  readonly addresses: readonly string[]
  readonly deleting: boolean
}

export interface NodeCondition {
  readonly status: 'True' | 'False' | 'Unknown'
  readonly heartbeatMs: number
  readonly reason: string
  readonly message: string
}

/** undefined: it is no Node, or one without what every Node has. */
export function readNode(value: JsonObject): NodeReading | undefined {
  const name = textAt(value, 'metadata', 'name')
  const uid = textAt(value, 'metadata', 'uid')
  const resourceVersion = textAt(value, 'metadata', 'resourceVersion')
  const info = at(value, 'status', 'nodeInfo')
  if (name === undefined || uid === undefined || resourceVersion === undefined || !isObject(info))
    return undefined
  const addresses = (listAt(value, 'status', 'addresses') ?? []).flatMap(each =>
    textAt(each, 'type') === 'InternalIP' ? [textAt(each, 'address') ?? ''] : [],
  )
  const ready = (listAt(value, 'status', 'conditions') ?? []).find(each => textAt(each, 'type') === 'Ready')
  return {
    name,
    uid,
    resourceVersion,
    unschedulable: at(value, 'spec', 'unschedulable') === true,
    cordonedBy: textAt(value, 'metadata', 'annotations', CORDON_MARK),
    ready: readCondition(ready),
    kubeletVersion: textAt(info, 'kubeletVersion') ?? '',
    bootId: textAt(info, 'bootID') ?? '',
    machineId: textAt(info, 'machineID') ?? '',
    addresses,
    deleting: textAt(value, 'metadata', 'deletionTimestamp') !== undefined,
  }
}

function readCondition(value: unknown): NodeCondition | undefined {
  const status = STATUSES.find(each => each === textAt(value, 'status'))
  const heartbeatMs = timeAt(value, 'lastHeartbeatTime')
  if (!status || heartbeatMs === undefined) return undefined
  return {
    status,
    heartbeatMs,
    reason: textAt(value, 'reason') ?? '',
    message: textAt(value, 'message') ?? '',
  }
}

const STATUSES = ['True', 'False', 'Unknown'] as const

export const nodePath = (name: string): string => `/api/v1/nodes/${encodeURIComponent(name)}`
export const leasePath = (name: string): string =>
  `/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/${encodeURIComponent(name)}`
