import { create } from '@bufbuild/protobuf'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { ProbeSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { durationFromMs } from '../../shared/time.ts'
import { createMadeUpSystem } from '../system/made-up-system.ts'
import { answerProbe, type ProbeSources } from './answer-probe.ts'

const never = new AbortController().signal
const PARAMETERS = JSON.stringify({ cluster: 'home', revision: '7', manifestDigest: 'a'.repeat(64) })

const sources = (
  jobs: ProbeSources['jobs'],
  gates: ProbeSources['gates'] = async () => [],
): ProbeSources => ({
  jobs,
  gates,
  allow: [],
  auditHeads: () => [],
  nowMs: () => 0,
  facts: async () => {
    throw new Error('not asked')
  },
  system: createMadeUpSystem('/nowhere'),
  key: { privateKeyPem: '', publicKeyDer: new Uint8Array() },
})
const probe = (kind: string, parameters: string, ms?: number) =>
  create(ProbeSchema, {
    probeId: 'p1',
    kind,
    parameters,
    ...(ms === undefined ? {} : { deadline: durationFromMs(ms) }),
  })

describe('a question for the Jobs that are gates', () => {
  it('is answered in the order of their names', async () => {
    const asked: unknown[] = []
    const { json, error } = await answerProbe(
      sources(async ({ cluster, revision, manifestDigest }) => {
        asked.push([cluster, revision, manifestDigest])
        return [
          { name: 'backup', verdict: 'unavailable', reason: 'no answer' },
          { name: 'smoke', verdict: 'healthy', reason: 'completed' },
        ]
      }),
      probe('jobs', PARAMETERS),
      never,
    )
    expect(error).toBe('')
    expect(JSON.parse(json)).toEqual({
      gates: [
        { name: 'backup', verdict: 'unavailable', reason: 'no answer' },
        { name: 'smoke', verdict: 'healthy', reason: 'completed' },
      ],
    })
    expect(asked).toEqual([['home', 7n, 'a'.repeat(64)]])
  })

  it('says why it is not answered', async () => {
    const jobs = async () => {
      throw new Error('only a server can')
    }
    expect(await answerProbe(sources(jobs), probe('jobs', PARAMETERS), never)).toEqual({
      probeId: 'p1',
      json: '',
      error: 'only a server can',
    })
  })

  it('is refused with a field that this agent does not know, and runs nothing then', async () => {
    const jobs = vi.fn(async () => [])
    const parameters = JSON.stringify({ cluster: 'home', only: 'smoke' })
    const answer = await answerProbe(sources(jobs), probe('jobs', parameters), never)
    expect(answer).toMatchObject({ json: '', error: expect.stringContaining('only') })
    expect(jobs).not.toHaveBeenCalled()
  })
})

describe('the time that a question has', () => {
  beforeEach(() => {
    vi.useFakeTimers()
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  it.each([
    ['jobs', 600_000, 600_000],
    ['jobs', 3_600_000, 660_000],
    ['gates', 600_000, 60_000],
    ['jobs', undefined, 10_000],
  ] as const)('%s: of %i ms that are asked for it has %i', async (kind, asked, given) => {
    let signal: AbortSignal | undefined
    const hang = async (inner: AbortSignal) => {
      signal = inner
      return await new Promise<never>(() => {})
    }
    const answer = answerProbe(
      sources((_, inner) => hang(inner), hang),
      probe(kind, kind === 'jobs' ? PARAMETERS : '', asked),
      never,
    )
    await vi.advanceTimersByTimeAsync(given - 1)
    expect(signal?.aborted).toBe(false)
    await vi.advanceTimersByTimeAsync(1)
    expect(await answer).toMatchObject({ json: '', error: `${kind} was not read within ${given} ms` })
    expect(signal?.aborted).toBe(true)
  })
})
