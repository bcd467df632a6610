import { fromBinary, toJsonString } from '@bufbuild/protobuf'
import { reasonOf } from '../../shared/errors.ts'
import type { Probe } from '../../shared/gen/muster/v1/agent_pb.ts'
import { FactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import { DeadlineError, withDeadline } from '../../shared/lifecycle.ts'
import { msFromDuration } from '../../shared/time.ts'
import type { SerialisedFacts } from './facts-keeper.ts'

const DEFAULT_DEADLINE_MS = 10_000
const MOST_DEADLINE_MS = 60_000
const MAX_ANSWER_CHARS = 256 * 1024

export interface ProbeAnswerParts {
  readonly probeId: string
  readonly json: string
  readonly error: string
}

/** Answers a question asked live; what cannot be answered says why. */
export async function answerProbe(
  refresh: () => Promise<SerialisedFacts>,
  probe: Probe,
  signal: AbortSignal,
): Promise<ProbeAnswerParts> {
  const { probeId, kind, deadline } = probe
  const refuse = (error: string) => ({ probeId, json: '', error })
  if (kind !== 'facts')
    return refuse(`this agent does not know the question ${JSON.stringify(kind.slice(0, 64))}`)
  const ms = Math.min(deadline ? msFromDuration(deadline) : DEFAULT_DEADLINE_MS, MOST_DEADLINE_MS)
  try {
    const { bytes } = await withDeadline(ms, signal, refresh)
    const json = toJsonString(FactsSchema, fromBinary(FactsSchema, bytes))
    if (json.length > MAX_ANSWER_CHARS)
      return refuse(`the facts take ${json.length} characters, too many to send`)
    return { probeId, json, error: '' }
  } catch (error) {
    return refuse(error instanceof DeadlineError ? `facts were not read within ${ms} ms` : reasonOf(error))
  }
}
