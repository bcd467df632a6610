import { at, isObject, type JsonObject, textAt } from '../read-value.ts'
import { isHostName } from '../revision/host-name.ts'
import { MAX_GATE_JOB_BYTES } from '../revision/safety-bounds.ts'
import { parseDocuments } from './parse-documents.ts'

export type GateJobReading =
  | { readonly kind: 'ok'; readonly job: JsonObject }
  /** The reason names the file and what would be right. */
  | { readonly kind: 'refused'; readonly reason: string }

/**
 * The Job that a gate's file holds, and nothing else: what it needs beside itself is no part of the question, and is brought
 * with the cluster's manifests. Whether all of it is right says only the API server.
 */
export function readGateJob(path: string, text: string): GateJobReading {
  if (Buffer.byteLength(text) > MAX_GATE_JOB_BYTES)
    return refused(
      `${path}: longer than ${MAX_GATE_JOB_BYTES} bytes; leave out of it what is no part of the Job`,
    )
  const documents = parseDocuments(text)
  if (typeof documents === 'string') return refused(`${path}: ${documents}`)
  const [document] = documents
  if (!document || documents.length > 1)
    return refused(
      `${path}: holds ${document ? `${documents.length} objects` : 'no object'}; write exactly one Job, and bring what it needs with the manifests of the cluster`,
    )
  const { value, line } = document
  const problem = whyNoJob(value)
  return problem !== undefined || !isObject(value)
    ? refused(`${path}, line ${line}: ${problem ?? 'is no object'}`)
    : { kind: 'ok', job: value }
}

const LABEL = '1 to 63 of a-z, 0-9 and -, neither first nor last a -'

function whyNoJob(value: unknown): string | undefined {
  const [version, kind] = [textAt(value, 'apiVersion'), textAt(value, 'kind')]
  if (version !== 'batch/v1' || kind !== 'Job')
    return `apiVersion and kind must be batch/v1 and Job, not ${JSON.stringify(version ?? '')} and ${JSON.stringify(kind ?? '')}`
  const name = textAt(value, 'metadata', 'name')
  if (name === undefined) return 'metadata.name is missing; a name of its own for each run is made from it'
  // Both become part of a path, and pods are named after the Job.
  if (!isHostName(name)) return `metadata.name: write ${LABEL}`
  const namespace = at(value, 'metadata', 'namespace')
  if (namespace !== undefined && (typeof namespace !== 'string' || !isHostName(namespace)))
    return `metadata.namespace: write ${LABEL}, or leave it out for default`
  return isObject(at(value, 'spec', 'template'))
    ? undefined
    : 'spec.template is missing; write the pod that the Job runs'
}

const refused = (reason: string): GateJobReading => ({ kind: 'refused', reason })
