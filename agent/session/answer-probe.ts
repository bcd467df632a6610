import {
  create,
  type DescMessage,
  fromBinary,
  fromJsonString,
  type MessageShape,
  toJsonString,
} from '@bufbuild/protobuf'
import type { ChainHead } from '../../shared/audit/event-chain.ts'
import { signHead } from '../../shared/audit/signed-head.ts'
import { reasonOf } from '../../shared/errors.ts'
import { type Probe, SignedAuditHeadSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { FactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import {
  DisksAnswerSchema,
  DisksProbeSchema,
  GatesAnswerSchema,
  type JobsProbe,
  JobsProbeSchema,
  JournalAnswerSchema,
  JournalProbeSchema,
  PortsAnswerSchema,
  UnitsAnswerSchema,
  UnitsProbeSchema,
} from '../../shared/gen/muster/v1/probe_pb.ts'
import { DeadlineError, withDeadline } from '../../shared/lifecycle.ts'
import { msFromDuration } from '../../shared/time.ts'
import type { JobGateAnswer } from '../clusters/run-job-gates.ts'
import type { GateAnswer } from '../gates/gate-answer.ts'
import { readDisks } from '../probes/read-disks.ts'
import { readJournal } from '../probes/read-journal.ts'
import { readPorts } from '../probes/read-ports.ts'
import { readUnits } from '../probes/read-units.ts'
import type { System } from '../system/system.ts'
import type { SerialisedFacts } from './facts-keeper.ts'

const DEFAULT_DEADLINE_MS = 10_000
const MOST_DEADLINE_MS = 60_000
/** Far above what Jobs may take together with the fetching of their tree: they run at the same time, each within its own limit. */
const MOST_JOBS_DEADLINE_MS = 11 * 60_000
const MAX_ANSWER_CHARS = 256 * 1024
const MAX_PARAMETER_CHARS = 4 * 1024
const MAX_NONCE_CHARS = 64

export interface ProbeAnswerParts {
  readonly probeId: string
  readonly json: string
  readonly error: string
}

/** What questions are answered from. */
export interface ProbeSources {
  readonly facts: () => Promise<SerialisedFacts>
  readonly auditHeads: () => readonly ChainHead[]
  /** Asks the gates of the fleet directory by which this node is proved. */
  readonly gates: (signal: AbortSignal) => Promise<readonly GateAnswer[]>
  /** Runs the Jobs that are gates of this server's cluster. */
  readonly jobs: (asked: JobsProbe, signal: AbortSignal) => Promise<readonly JobGateAnswer[]>
  /** The machine that is asked about: made up where the agent's is. */
  readonly system: System
  /** What the node may be asked to do; logs are shown with "logs" alone. */
  readonly allow: readonly string[]
  readonly nowMs: () => number
  readonly key: { readonly privateKeyPem: string; readonly publicKeyDer: Uint8Array }
}

/** Answers a question asked live; what cannot be answered says why. */
export async function answerProbe(
  sources: ProbeSources,
  probe: Probe,
  signal: AbortSignal,
): Promise<ProbeAnswerParts> {
  const { probeId, kind, deadline } = probe
  const mostMs = kind === 'jobs' ? MOST_JOBS_DEADLINE_MS : MOST_DEADLINE_MS
  const ms = Math.min(deadline ? msFromDuration(deadline) : DEFAULT_DEADLINE_MS, mostMs)
  try {
    const json = await withDeadline(ms, signal, inner => answer(sources, probe, ms, inner))
    if (json.length > MAX_ANSWER_CHARS)
      throw new Error(`the answer takes ${json.length} characters, too many to send`)
    return { probeId, json, error: '' }
  } catch (error) {
    const reason = error instanceof DeadlineError ? `${kind} was not read within ${ms} ms` : reasonOf(error)
    return { probeId, json: '', error: reason }
  }
}

async function answer(
  sources: ProbeSources,
  { kind, parameters }: Probe,
  ms: number,
  signal: AbortSignal,
): Promise<string> {
  const { system } = sources
  switch (kind) {
    case 'units': {
      const asked = readParameters(UnitsProbeSchema, parameters)
      return toJsonString(UnitsAnswerSchema, await readUnits(system, asked, ms, signal))
    }
    case 'disks': {
      const asked = readParameters(DisksProbeSchema, parameters)
      return toJsonString(DisksAnswerSchema, await readDisks(system, asked, ms, signal))
    }
    case 'ports':
      return toJsonString(PortsAnswerSchema, await readPorts(system))
    case 'journal': {
      if (!sources.allow.includes('logs')) {
        throw new Error('this node does not show its logs: its agent’s `allow` has no "logs"')
      }
      const asked = readParameters(JournalProbeSchema, parameters)
      return toJsonString(JournalAnswerSchema, await readJournal(system, asked, sources.nowMs(), ms, signal))
    }
    case 'gates': {
      const gates = await sources.gates(signal)
      const answers = gates.map(({ gate, verdict, reason }) => ({ name: gate, verdict, reason }))
      return toJsonString(GatesAnswerSchema, create(GatesAnswerSchema, { gates: answers }))
    }
    case 'jobs': {
      const gates = await sources.jobs(readParameters(JobsProbeSchema, parameters), signal)
      return toJsonString(GatesAnswerSchema, create(GatesAnswerSchema, { gates: [...gates] }))
    }
    case 'facts':
      return toJsonString(FactsSchema, fromBinary(FactsSchema, (await sources.facts()).bytes))
    case 'audit-head':
      return toJsonString(
        SignedAuditHeadSchema,
        signHead(sources.key, readNonce(parameters), sources.auditHeads()),
      )
    default:
      throw new Error(`this agent does not know the question ${JSON.stringify(kind.slice(0, 64))}`)
  }
}

/** Whatever does not know a field of the question must not answer it as if it were not there. */
function readParameters<D extends DescMessage>(schema: D, parameters: string): MessageShape<D> {
  if (parameters.length > MAX_PARAMETER_CHARS) {
    throw new Error(`parameters: at most ${MAX_PARAMETER_CHARS} characters`)
  }
  return fromJsonString(schema, parameters === '' ? '{}' : parameters)
}

function readNonce(parameters: string): string {
  const value: unknown = parameters.length > MAX_PARAMETER_CHARS ? undefined : JSON.parse(parameters)
  const nonce = typeof value === 'object' && value !== null && 'nonce' in value ? value.nonce : undefined
  if (typeof nonce !== 'string' || nonce === '' || nonce.length > MAX_NONCE_CHARS) {
    throw new Error(`parameters: nonce must be 1 to ${MAX_NONCE_CHARS} characters`)
  }
  return nonce
}
