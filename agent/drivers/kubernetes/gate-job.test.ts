import { describe, expect, it } from 'vitest'
import type { JsonObject } from '../../../shared/read-value.ts'
import { containerToBlame, gateRun, hasMadeNoPod, judgeJob, newestPod, whatPodWaitsFor } from './gate-job.ts'

const SUFFIX = '0123abcd'
const gate = { name: 'smoke', deadlineMs: 90_500 }
const job = (spec: JsonObject = {}, metadata: JsonObject = {}): JsonObject => ({
  apiVersion: 'batch/v1',
  kind: 'Job',
  metadata: { name: 'ask', ...metadata },
  spec: { template: { spec: { restartPolicy: 'Never' } }, ...spec },
})

describe('the Job that is made for one asking', () => {
  it('has a name of its own, our label, one try, an end, and is else as it is written', () => {
    const written = job(
      { completions: 2, template: { metadata: { labels: { app: 'x' } }, spec: { restartPolicy: 'Never' } } },
      { namespace: 'checks', labels: { team: 'a' }, annotations: { why: 'b' } },
    )
    expect(gateRun(written, gate, SUFFIX)).toEqual({
      namespace: 'checks',
      name: 'ask-0123abcd',
      shown: 'Job checks/ask',
      limitMs: 90_500,
      object: {
        apiVersion: 'batch/v1',
        kind: 'Job',
        metadata: {
          name: 'ask-0123abcd',
          namespace: 'checks',
          annotations: { why: 'b' },
          labels: { team: 'a', 'muster/gate': 'smoke' },
        },
        spec: {
          completions: 2,
          backoffLimit: 0,
          activeDeadlineSeconds: 91,
          ttlSecondsAfterFinished: 600,
          template: {
            metadata: { labels: { app: 'x', 'muster/gate': 'smoke' } },
            spec: { restartPolicy: 'Never' },
          },
        },
      },
    })
    expect(written).toMatchObject({ metadata: { name: 'ask' } })
  })

  it('is in the namespace default where it names none', () => {
    expect(gateRun(job(), gate, SUFFIX)).toMatchObject({
      namespace: 'default',
      shown: 'Job default/ask',
      object: { metadata: { namespace: 'default' } },
    })
  })

  it('keeps how often it is tried, and the shorter of both ends', () => {
    const shorter = gateRun(job({ backoffLimit: 3, activeDeadlineSeconds: 20 }), gate, SUFFIX)
    expect(shorter).toMatchObject({
      limitMs: 20_000,
      object: { spec: { backoffLimit: 3, activeDeadlineSeconds: 20 } },
    })
    const longer = gateRun(job({ activeDeadlineSeconds: 3_600 }), gate, SUFFIX)
    expect(longer).toMatchObject({ limitMs: 90_500, object: { spec: { activeDeadlineSeconds: 91 } } })
    const kept = gateRun(job({ ttlSecondsAfterFinished: 86_400 }), gate, SUFFIX)
    expect(kept).toMatchObject({ object: { spec: { ttlSecondsAfterFinished: 600 } } })
  })

  it.each([
    ['a'.repeat(63), `${'a'.repeat(54)}-${SUFFIX}`],
    [`${'a'.repeat(53)}-${'b'.repeat(9)}`, `${'a'.repeat(53)}-${SUFFIX}`],
    ['a'.repeat(54), `${'a'.repeat(54)}-${SUFFIX}`],
  ])('has a name that is a label, cut where it has to be: %s', (name, cut) => {
    const made = gateRun(job({}, { name }), gate, SUFFIX)
    expect(made.name).toBe(cut)
    expect(made.name).toMatch(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/)
  })
})

const standing = (type: string, more: JsonObject = {}, metadata: JsonObject = {}): JsonObject => ({
  metadata,
  status: {
    conditions: [
      { type: 'Suspended', status: 'False' },
      { type, status: 'True', ...more },
    ],
  },
})

describe('how a Job stands', () => {
  it.each<[string, JsonObject, unknown]>([
    ['runs before there is any status', { metadata: {} }, { kind: 'running' }],
    ['has completed', standing('Complete'), { kind: 'completed' }],
    [
      'has completed, though somebody takes it away',
      standing('Complete', {}, { deletionTimestamp: '2026-03-01T12:00:00Z' }),
      { kind: 'completed' },
    ],
    [
      'runs while it is only about to fail, and its pods say why',
      standing('FailureTarget', { reason: 'BackoffLimitExceeded' }),
      { kind: 'running' },
    ],
    [
      'took too long, and its pods are being taken away',
      standing('FailureTarget', { reason: 'DeadlineExceeded' }),
      { kind: 'late' },
    ],
    [
      'runs while it does not hold that it failed',
      standing('Failed', { status: 'False' }),
      { kind: 'running' },
    ],
    [
      'failed',
      standing('Failed', { reason: 'BackoffLimitExceeded', message: 'Job has reached its limit' }),
      { kind: 'failed', reason: 'BackoffLimitExceeded: Job has reached its limit' },
    ],
    ['failed and says nothing', standing('Failed'), { kind: 'failed', reason: 'without a reason' }],
    ['took too long', standing('Failed', { reason: 'DeadlineExceeded' }), { kind: 'late' }],
    ['is taken away', { metadata: { deletionTimestamp: '2026-03-01T12:00:00Z' } }, { kind: 'going' }],
  ])('%s', (_, object, wanted) => expect(judgeJob(object)).toEqual(wanted))
})

it.each<[JsonObject, boolean]>([
  [{}, true],
  [{ active: 0, ready: 0, terminating: 0 }, true],
  [{ active: 1 }, false],
  [{ terminating: 1 }, false],
  [{ failed: 1 }, false],
  [{ succeeded: 1 }, false],
])('a Job that says %j of itself has made no pod: %s', (status, wanted) =>
  expect(hasMadeNoPod({ status })).toBe(wanted),
)

describe('its pods', () => {
  const pod = (name: string, at: string) => ({ metadata: { name, creationTimestamp: at } })

  it('are judged by the newest', () => {
    const pods = [pod('a', '2026-03-01T12:00:00Z'), pod('b', '2026-03-01T12:00:09Z'), pod('c', '')]
    expect(newestPod(pods)).toMatchObject({ metadata: { name: 'b' } })
    expect(newestPod([])).toBeUndefined()
  })

  it.each<[JsonObject, string]>([
    [
      {
        initContainerStatuses: [{ name: 'first', state: { waiting: { reason: 'ErrImagePull' } } }],
        containerStatuses: [{ name: 'ask', state: { waiting: { reason: 'PodInitializing' } } }],
      },
      'container first waits: ErrImagePull',
    ],
    [
      {
        containerStatuses: [
          { name: 'side', state: { running: {} } },
          { name: 'ask', state: { waiting: { reason: 'ImagePullBackOff', message: 'Back-off pulling' } } },
        ],
      },
      'container ask waits: ImagePullBackOff: Back-off pulling',
    ],
    [
      {
        phase: 'Pending',
        conditions: [
          { type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message: '0/3 nodes: too small' },
        ],
      },
      'its pod has no node: Unschedulable: 0/3 nodes: too small',
    ],
    [{ phase: 'Running', conditions: [{ type: 'PodScheduled', status: 'True' }] }, 'its pod is Running'],
  ])('wait for something: %j', (status, wanted) => expect(whatPodWaitsFor({ status })).toBe(wanted))

  it('say why by the container that failed, else by the first', () => {
    const spec = { containers: [{ name: 'side' }, { name: 'ask' }] }
    const ended = (name: string, exitCode: number) => ({ name, state: { terminated: { exitCode } } })
    const blame = (status: JsonObject) => containerToBlame({ spec, status })
    expect(blame({ containerStatuses: [ended('side', 0), ended('ask', 1)] })).toBe('ask')
    expect(blame({ initContainerStatuses: [ended('first', 2)], containerStatuses: [] })).toBe('first')
    const again = { name: 'ask', state: { waiting: {} }, lastState: { terminated: { exitCode: 1 } } }
    expect(blame({ containerStatuses: [ended('side', 0), again] })).toBe('ask')
    expect(blame({})).toBe('side')
    expect(containerToBlame({})).toBeUndefined()
  })
})
