import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import {
  type ClusterOrder,
  ClusterOrderSchema,
  type ClusterReport,
  ClusterReportSchema,
} from '../../shared/gen/muster/v1/cluster_pb.ts'
import { sha256Hex } from '../../shared/ids.ts'

/** What an operation about a cluster does; the words of `ClusterOrder`. */
export type ClusterAction = Exclude<ClusterOrder['action']['case'], undefined>

export type ResultKind = Exclude<ClusterReport['result']['case'], undefined>

/** What the coordinator is told until it has it. */
export interface OwedReport {
  readonly report: ClusterReport
  /** SHA-256 (hex) of the serialised report. */
  readonly digest: string
  readonly acknowledged: boolean
}

/**
 * An operation about a cluster as this node remembers it. INVARIANTS: `begun` is on disk before anything is done; an operation
 * that was `ended` does nothing more; one whose token was asked to be deleted never mints.
 */
export interface ClusterOperation {
  readonly id: string
  readonly cluster: string
  /** As it was first ordered. An operation that was first heard of when it was to be taken back has this word of its own. */
  readonly action: ClusterAction
  /** The order as it came first; taken out when nothing of it is needed any more. */
  readonly order: ClusterOrder | undefined
  readonly stage: 'accepted' | 'begun' | 'ended'
  /** Milliseconds since 1970, by this node's clock. */
  readonly acceptedMs: number
  readonly begunMs: number | undefined
  readonly endedMs: number | undefined
  /** The token of this operation is to be gone, or is. */
  readonly token: 'kept' | 'to-delete' | 'deleted'
  /** By which what was minted here is deleted. */
  readonly tokenId: string | undefined
  /** With a join: the secret, sealed to this node's own key. */
  readonly secret: Uint8Array | undefined
  /** With a join: the secret's digest and end, by which it counts as spent. */
  readonly spent: { readonly digest: string; readonly expiresMs: number } | undefined
  /** The operator's order that is obeyed with it. */
  readonly operatorOrder: { readonly id: string; readonly expiresMs: number } | undefined
  /** At most one of a kind. */
  readonly reports: readonly OwedReport[]
}

export function newOperation(order: ClusterOrder, action: ClusterAction, nowMs: number): ClusterOperation {
  return {
    id: order.operationId,
    cluster: order.cluster,
    action,
    order,
    stage: 'accepted',
    acceptedMs: nowMs,
    begunMs: undefined,
    endedMs: undefined,
    token: 'kept',
    tokenId: undefined,
    secret: undefined,
    spent: undefined,
    operatorOrder: undefined,
    reports: [],
  }
}

/** The operation with a result to report, in the place of another one of its kind. */
export function owe(operation: ClusterOperation, result: ClusterReport['result']): ClusterOperation {
  const report = create(ClusterReportSchema, {
    operationId: operation.id,
    cluster: operation.cluster,
    result,
  })
  const digest = sha256Hex(toBinary(ClusterReportSchema, report))
  const others = operation.reports.filter(owed => owed.report.result.case !== result.case)
  return { ...operation, reports: [...others, { report, digest, acknowledged: false }] }
}

/** The operation after the coordinator has written down what a report says. */
export function acknowledge(operation: ClusterOperation, digest: string): ClusterOperation {
  const reports = operation.reports.map(owed =>
    // A secret that the joiner has is of no more use to anybody.
    owed.digest === digest ? { ...owed, report: withoutSecrets(owed.report), acknowledged: true } : owed,
  )
  return { ...operation, reports }
}

function withoutSecrets(report: ClusterReport): ClusterReport {
  const { operationId, cluster, result } = report
  if (result.case === 'minted') {
    const bare = { case: 'minted', value: { tokenId: result.value.tokenId } } as const
    return create(ClusterReportSchema, { operationId, cluster, result: bare })
  }
  if (result.case === 'ended' && result.value.value.case === 'kubeconfig') {
    const value = { ...result.value, value: { case: undefined } }
    return create(ClusterReportSchema, { operationId, cluster, result: { case: 'ended', value } })
  }
  return report
}

/** The operation at its end: nothing but its reports is needed any more. */
export function endOperation(operation: ClusterOperation, nowMs: number): ClusterOperation {
  return { ...operation, stage: 'ended', endedMs: nowMs, order: undefined, secret: undefined }
}

/** Whether anything is still to be done or told for it. */
export function isOpen({ stage, token, reports }: ClusterOperation): boolean {
  return stage !== 'ended' || token === 'to-delete' || reports.some(owed => !owed.acknowledged)
}

const VERSION = 1

export function writeOperation(operation: ClusterOperation): string {
  const { order, secret, reports, ...plain } = operation
  return `${JSON.stringify({
    v: VERSION,
    ...plain,
    order: order && base64(toBinary(ClusterOrderSchema, order)),
    secret: secret && base64(secret),
    reports: reports.map(({ report, acknowledged }) => ({
      report: base64(toBinary(ClusterReportSchema, report)),
      acknowledged,
    })),
  })}\n`
}

/** Reads what `writeOperation` wrote. Throws for anything else: a record that is damaged is never taken for none. */
export function readOperation(text: string): ClusterOperation {
  const value: unknown = JSON.parse(text)
  if (typeof value !== 'object' || value === null) throw new Error('is no object')
  const fields = new Map<string, unknown>(Object.entries(value))
  if (fields.get('v') !== VERSION) throw new Error(`v: this program knows ${VERSION}`)
  const text_ = (name: string) => {
    const field = fields.get(name)
    if (typeof field !== 'string') throw new Error(`${name}: is no text`)
    return field
  }
  const optional = <T>(name: string, read: (name: string) => T) => (fields.has(name) ? read(name) : undefined)
  const number = (name: string) => {
    const field = fields.get(name)
    if (typeof field !== 'number') throw new Error(`${name}: is no number`)
    return field
  }
  const word = <T extends string>(name: string, words: readonly T[]): T => {
    const found = words.find(each => each === fields.get(name))
    if (found === undefined) throw new Error(`${name}: is none of ${words.join(', ')}`)
    return found
  }
  const reports = fields.get('reports')
  if (!Array.isArray(reports)) throw new Error('reports: is no list')
  return {
    id: text_('id'),
    cluster: text_('cluster'),
    action: word('action', ACTIONS),
    order: optional('order', name => fromBinary(ClusterOrderSchema, Buffer.from(text_(name), 'base64'))),
    stage: word('stage', ['accepted', 'begun', 'ended']),
    acceptedMs: number('acceptedMs'),
    begunMs: optional('begunMs', number),
    endedMs: optional('endedMs', number),
    token: word('token', ['kept', 'to-delete', 'deleted']),
    tokenId: optional('tokenId', text_),
    secret: optional('secret', name => Buffer.from(text_(name), 'base64')),
    spent: optional('spent', name => readSpentOf(fields.get(name))),
    operatorOrder: optional('operatorOrder', name => readNamed(fields.get(name))),
    reports: reports.map(readOwed),
  }
}

function readSpentOf(value: unknown): { readonly digest: string; readonly expiresMs: number } {
  if (typeof value === 'object' && value !== null && 'digest' in value && 'expiresMs' in value) {
    const { digest, expiresMs } = value
    if (typeof digest === 'string' && typeof expiresMs === 'number') return { digest, expiresMs }
  }
  throw new Error('spent: is no digest with its end')
}

function readNamed(value: unknown): { readonly id: string; readonly expiresMs: number } {
  if (typeof value === 'object' && value !== null && 'id' in value && 'expiresMs' in value) {
    const { id, expiresMs } = value
    if (typeof id === 'string' && typeof expiresMs === 'number') return { id, expiresMs }
  }
  throw new Error('operatorOrder: is no id with its end')
}

function readOwed(value: unknown): OwedReport {
  if (typeof value === 'object' && value !== null && 'report' in value && 'acknowledged' in value) {
    const { report: text, acknowledged } = value
    if (typeof text === 'string' && typeof acknowledged === 'boolean') {
      const bytes = Buffer.from(text, 'base64')
      const report = fromBinary(ClusterReportSchema, bytes)
      return { report, digest: sha256Hex(toBinary(ClusterReportSchema, report)), acknowledged }
    }
  }
  throw new Error('reports: one of them is none')
}

/** By name, so that the compiler misses none: an agent that cannot read its own record does not start. */
const BY_NAME: Readonly<Record<ClusterAction, true>> = {
  ...({ found: true, mint: true, join: true, deleteSecret: true, clearNode: true, leave: true } as const),
  ...({ stop: true, drain: true, uncordon: true, snapshot: true, restore: true, rotate: true } as const),
  ...({ kubeconfig: true, certificates: true, adopt: true, manifests: true, snapshots: true } as const),
  ...({ wipe: true, standDown: true } as const),
}

// A cast: the keys are those of the type.
export const ACTIONS = Object.keys(BY_NAME) as readonly ClusterAction[]

const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64')
