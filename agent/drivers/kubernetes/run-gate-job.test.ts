import { describe, expect, it } from 'vitest'
import { isObject, type JsonObject, textAt } from '../../../shared/read-value.ts'
import { DONE, done, type Failure, failed } from '../result.ts'
import type { Kubectl } from './kubectl.ts'
import { runGateJob } from './run-gate-job.ts'

const NOT_FOUND = { ...failed('not-found', 'jobs.batch not found'), status: 'NotFound' }
const JOB: JsonObject = {
  apiVersion: 'batch/v1',
  kind: 'Job',
  metadata: { name: 'ask', namespace: 'checks' },
  spec: { template: { spec: { restartPolicy: 'Never' } } },
}
const JOBS = '/apis/batch/v1/namespaces/checks/jobs'

/** An API server with Jobs and their pods: a fake of `Kubectl`. What a Job comes to says the test. */
class MadeUpApi {
  readonly jobs = new Map<string, JsonObject>()
  /** "create PATH", "remove PATH UID", in their order. */
  readonly did: string[] = []
  /** Of the Job at each look, counted from 1. */
  status: (look: number) => JsonObject | undefined = () => undefined
  /** Before each look is answered. */
  onLook: (look: number) => void = () => {}
  pods: readonly JsonObject[] | undefined
  log: string | undefined
  fails: Partial<Record<'list' | 'create' | 'get' | 'remove', Failure & { readonly status?: string }>> = {}
  asked: string[] = []
  looks = 0

  put(namespace: string, name: string, metadata: JsonObject): void {
    const path = `/apis/batch/v1/namespaces/${namespace}/jobs/${name}`
    this.jobs.set(path, { metadata: { namespace, name, uid: `uid-${name}`, ...metadata } })
  }

  readonly kubectl: Kubectl = {
    list: async path => {
      this.asked.push(path)
      const label = decodeURIComponent(/labelSelector=muster%2Fgate%3D(.*)$/.exec(path)?.[1] ?? '')
      const found = [...this.jobs.values()].filter(
        each => textAt(each, 'metadata', 'labels', 'muster/gate') === label,
      )
      return this.fails.list ?? done(found)
    },
    create: async (path, object) => {
      this.did.push(`create ${path}`)
      if (this.fails.create) return this.fails.create
      const metadata = isObject(object.metadata) ? object.metadata : {}
      const live = { ...object, metadata: { ...metadata, uid: 'uid-new' } }
      this.jobs.set(`${path}/${textAt(object, 'metadata', 'name') ?? ''}`, live)
      return done(live)
    },
    get: async (path, signal) => {
      this.asked.push(path)
      if (signal?.aborted) return failed('cancelled', 'kubectl was stopped')
      if (path.includes('/pods?'))
        return this.pods === undefined ? failed('command', 'no') : done({ items: this.pods })
      this.looks += 1
      this.onLook(this.looks)
      if (this.fails.get) return this.fails.get
      const found = this.jobs.get(path)
      return found ? done({ ...found, status: this.status(this.looks) }) : NOT_FOUND
    },
    getText: async path => {
      this.asked.push(path)
      return this.log === undefined ? failed('command', 'no log') : done(this.log)
    },
    remove: async (path, uid, signal) => {
      this.did.push(`remove ${path} ${uid ?? ''}`.trim())
      if (signal?.aborted) return failed('cancelled', 'kubectl was stopped')
      if (this.fails.remove) return this.fails.remove
      const found = this.jobs.get(path)
      if (!found) return NOT_FOUND
      if (uid !== undefined && textAt(found, 'metadata', 'uid') !== uid)
        return { ...failed('command', 'another uid'), status: 'Conflict' }
      this.jobs.delete(path)
      return DONE
    },
    patchNode: async () => failed('unsupported', 'made up'),
    patchSecret: async () => failed('unsupported', 'made up'),
    apply: async () => failed('unsupported', 'made up'),
  }

  async run(change: { readonly deadlineMs?: number; readonly signal?: AbortSignal } = {}) {
    const gate = { name: 'smoke', deadlineMs: change.deadlineMs ?? 60_000 }
    return await runGateJob(this.kubectl, gate, JOB, { signal: change.signal, everyMs: 1 })
  }
}

const holds = (type: string, more: JsonObject = {}): JsonObject => ({
  conditions: [{ type, status: 'True', ...more }],
})
const pod = (name: string, at: number, status: JsonObject = {}): JsonObject => ({
  metadata: { name, creationTimestamp: new Date(at * 1000).toISOString() },
  spec: { containers: [{ name: 'ask' }] },
  status,
})

describe('the Job of a gate', () => {
  it('is healthy when it has completed, looked at until then, and taken away afterwards', async () => {
    const api = new MadeUpApi()
    api.status = look => (look < 4 ? { active: 1 } : holds('Complete'))
    expect(await api.run()).toEqual({ verdict: 'healthy', reason: 'Job checks/ask completed' })
    expect(api.looks).toBe(4)
    expect(api.jobs.size).toBe(0)
    expect(api.did).toEqual([`create ${JOBS}`, expect.stringMatching(/^remove .*\/jobs\/ask-[0-9a-f]{8}$/)])
  })

  it('has another name each time', async () => {
    const api = new MadeUpApi()
    api.status = () => holds('Complete')
    await api.run()
    await api.run()
    const [first, second] = api.did.filter(each => each.startsWith('remove'))
    expect(second).not.toBe(first)
  })

  it('is unhealthy when it failed, by its reason and the last line of its newest pod', async () => {
    const api = new MadeUpApi()
    api.status = () => holds('Failed', { reason: 'BackoffLimitExceeded', message: 'reached its limit' })
    api.pods = [pod('ask-old', 1), pod('ask-new', 2)]
    api.log = 'the database is\u001b[31m not there; token=abc\n'
    expect(await api.run()).toEqual({
      verdict: 'unhealthy',
      reason:
        'Job checks/ask failed: BackoffLimitExceeded: reached its limit; its log ends with: the database is\\u001b[31m not there; token=[secret]',
    })
    const name = /ask-[0-9a-f]{8}/.exec(api.did[1] ?? '')?.[0]
    expect(api.asked).toContain(
      `/api/v1/namespaces/checks/pods?labelSelector=${encodeURIComponent(`job-name=${name}`)}&limit=50`,
    )
    expect(api.asked).toContain(
      '/api/v1/namespaces/checks/pods/ask-new/log?tailLines=1&limitBytes=2048&container=ask',
    )
    expect(api.jobs.size).toBe(0)
  })

  it('is unhealthy without its log where there is none, and never says more than 500 characters', async () => {
    const api = new MadeUpApi()
    api.status = () => holds('Failed', { reason: 'X' })
    expect(await api.run()).toEqual({ verdict: 'unhealthy', reason: 'Job checks/ask failed: X' })
    api.pods = [pod('ask-1', 1)]
    expect(await api.run()).toEqual({ verdict: 'unhealthy', reason: 'Job checks/ask failed: X' })
    api.status = () => holds('Failed', { reason: '\u0000'.repeat(400), message: 'm'.repeat(400) })
    expect((await api.run()).reason).toHaveLength(500)
  })

  it('is unhealthy when it did not complete in time, by what its pod waits for', async () => {
    const api = new MadeUpApi()
    const waiting = { reason: 'ImagePullBackOff', message: 'Back-off pulling image "x"' }
    api.pods = [pod('ask-1', 1, { containerStatuses: [{ name: 'ask', state: { waiting } }] })]
    expect(await api.run({ deadlineMs: 60 })).toEqual({
      verdict: 'unhealthy',
      reason:
        'Job checks/ask did not complete within 0.06 s: container ask waits: ImagePullBackOff: Back-off pulling image "x"',
    })
    expect(api.looks).toBeGreaterThan(1)
    expect(api.jobs.size).toBe(0)
    api.pods = []
    expect((await api.run({ deadlineMs: 5 })).reason).toMatch(/within 0.005 s: no pod of it was made$/)
    api.pods = undefined
    expect((await api.run({ deadlineMs: 5 })).reason).toMatch(/within 0.005 s$/)
  })

  it('is unhealthy when Kubernetes ended it for its time, by what its pod waited for before that', async () => {
    const api = new MadeUpApi()
    api.pods = [pod('ask-1', 1, { phase: 'Pending' })]
    api.onLook = look => {
      if (look === 3) api.pods = []
    }
    api.status = look => (look < 3 ? { active: 1 } : holds('Failed', { reason: 'DeadlineExceeded' }))
    expect(await api.run({ deadlineMs: 2_400 })).toEqual({
      verdict: 'unhealthy',
      reason: 'Job checks/ask did not complete within 2.4 s: its pod is Pending',
    })
  })

  it('had a pod that Kubernetes has just taken away, whatever can be seen at that moment', async () => {
    const api = new MadeUpApi()
    const unplaced = { type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message: '0/2 nodes' }
    api.pods = [pod('ask-1', 1, { conditions: [unplaced] })]
    api.onLook = look => {
      if (look === 3) api.pods = []
    }
    // What it counts is behind: first the pods go, then it says so, then that it failed.
    api.status = look => (look < 5 ? { active: 1 } : holds('FailureTarget', { reason: 'DeadlineExceeded' }))
    expect(await api.run({ deadlineMs: 2_400 })).toEqual({
      verdict: 'unhealthy',
      reason: 'Job checks/ask did not complete within 2.4 s: its pod has no node: Unschedulable: 0/2 nodes',
    })
    expect(api.looks).toBe(5)
  })

  it('is told by what its pod waited for before that was taken away', async () => {
    const api = new MadeUpApi()
    const waits = (reason: string) => ({
      containerStatuses: [{ name: 'ask', state: { waiting: { reason } } }],
    })
    api.pods = [pod('ask-1', 1, waits('ErrImageNeverPull'))]
    api.onLook = look => {
      if (look < 3) return
      const { metadata, ...others } = pod('ask-1', 1, waits('ContainerCreating'))
      const going = { ...(isObject(metadata) ? metadata : {}), deletionTimestamp: 'x' }
      api.pods = [{ metadata: going, ...others }]
    }
    api.status = look => (look < 5 ? { active: 1 } : holds('FailureTarget', { reason: 'DeadlineExceeded' }))
    expect(await api.run({ deadlineMs: 2_400 })).toMatchObject({
      reason: 'Job checks/ask did not complete within 2.4 s: container ask waits: ErrImageNeverPull',
    })
  })

  it('is unavailable where the API server does not take it, by its reason; it is deleted all the same', async () => {
    const api = new MadeUpApi()
    api.fails = {
      create: { ...failed('command', 'jobs.batch is forbidden: exceeded quota'), status: 'Forbidden' },
    }
    expect(await api.run()).toEqual({
      verdict: 'unavailable',
      reason: 'Job checks/ask could not be made: jobs.batch is forbidden: exceeded quota',
    })
    expect(api.looks).toBe(0)
    expect(api.did.at(-1)).toMatch(/^remove .*\/jobs\/ask-[0-9a-f]{8}$/)
  })

  it('bears an API server that does not answer for a moment, and is unavailable when it stays away', async () => {
    const api = new MadeUpApi()
    const away = failed('command', 'connection refused')
    api.onLook = look => {
      api.fails = look % 5 === 0 ? {} : { get: away }
    }
    api.status = look => (look === 15 ? holds('Complete') : {})
    expect(await api.run()).toMatchObject({ verdict: 'healthy' })
    expect(api.looks).toBe(15)
    api.looks = 0
    api.onLook = () => {
      api.fails = { get: away }
    }
    expect(await api.run()).toEqual({
      verdict: 'unavailable',
      reason: 'Job checks/ask could not be looked at: connection refused',
    })
    expect(api.looks).toBe(5)
  })

  it.each<[string, (api: MadeUpApi) => void]>([
    ['is gone', api => api.jobs.clear()],
    [
      'is on its way',
      api => {
        for (const [path, each] of api.jobs)
          api.jobs.set(path, {
            metadata: { ...(isObject(each.metadata) ? each.metadata : {}), deletionTimestamp: 'x' },
          })
      },
    ],
    [
      'was made anew',
      api => {
        for (const path of api.jobs.keys()) api.jobs.set(path, { metadata: { uid: 'another' } })
        api.status = () => holds('Complete')
      },
    ],
  ])('is unavailable when somebody took it away: it %s', async (_, takeAway) => {
    const api = new MadeUpApi()
    api.onLook = look => {
      if (look === 2) takeAway(api)
    }
    expect(await api.run()).toEqual({
      verdict: 'unavailable',
      reason: 'Job checks/ask was taken away by somebody before it was over',
    })
  })

  it.each([1, 3])('is taken away when nobody asks any more, in the middle of look %i', async at => {
    const api = new MadeUpApi()
    const controller = new AbortController()
    api.onLook = look => {
      if (look === at) controller.abort()
    }
    expect(await api.run({ signal: controller.signal })).toMatchObject({
      verdict: 'unavailable',
      reason: 'it was no longer asked for',
    })
    expect(api.looks).toBe(at)
    expect(api.did).toHaveLength(2)
    expect(api.jobs.size).toBe(0)
  })

  it('is taken away when nobody asks any more while it is being made: that is not broken off', async () => {
    const api = new MadeUpApi()
    const controller = new AbortController()
    const kubectl: Kubectl = {
      ...api.kubectl,
      create: async (path, object, signal) => {
        controller.abort()
        return signal?.aborted
          ? failed('cancelled', 'it may come all the same')
          : await api.kubectl.create(path, object)
      },
    }
    const gate = { name: 'smoke', deadlineMs: 60_000 }
    expect(await runGateJob(kubectl, gate, JOB, { signal: controller.signal, everyMs: 1 })).toEqual({
      verdict: 'unavailable',
      reason: 'it was no longer asked for',
    })
    expect(api.did.map(each => each.split(' ')[0])).toEqual(['create', 'remove'])
    expect(api.jobs.size).toBe(0)
  })

  it('is not even made when nobody asks any more', async () => {
    const api = new MadeUpApi()
    expect(await api.run({ signal: AbortSignal.abort() })).toMatchObject({ verdict: 'unavailable' })
    expect(api.did).toEqual([])
  })

  it('answers all the same where it cannot be taken away', async () => {
    const api = new MadeUpApi()
    api.status = () => holds('Complete')
    api.fails = { remove: failed('command', 'connection refused') }
    expect(await api.run()).toMatchObject({ verdict: 'healthy' })
  })
})

describe('what an agent that was killed left', () => {
  const label = { labels: { 'muster/gate': 'smoke' } }

  it('of the same gate is deleted first, wherever it is, by its uid; of another gate it stays', async () => {
    const api = new MadeUpApi()
    api.put('checks', 'ask-1', label)
    api.put('elsewhere', 'was-2', label)
    api.put('checks', 'going-3', { ...label, deletionTimestamp: 'x' })
    api.put('checks', 'other-4', { labels: { 'muster/gate': 'other' } })
    api.put('checks', 'bare-5', {})
    api.status = () => holds('Complete')
    expect(await api.run()).toMatchObject({ verdict: 'healthy' })
    expect(api.did.slice(0, 3)).toEqual([
      `remove ${JOBS}/ask-1 uid-ask-1`,
      'remove /apis/batch/v1/namespaces/elsewhere/jobs/was-2 uid-was-2',
      `create ${JOBS}`,
    ])
    expect([...api.jobs.keys()]).toEqual([`${JOBS}/going-3`, `${JOBS}/other-4`, `${JOBS}/bare-5`])
    expect(api.asked[0]).toBe('/apis/batch/v1/jobs?labelSelector=muster%2Fgate%3Dsmoke')
  })

  it('may be another one by now, or gone', async () => {
    const api = new MadeUpApi()
    api.put('checks', 'ask-1', label)
    api.status = () => holds('Complete')
    const { list } = api.kubectl
    const anew = {
      ...api.kubectl,
      list: async (path: string, most: number) => {
        const listed = await list(path, most)
        api.put('checks', 'ask-1', { uid: 'another' })
        return listed
      },
    }
    const gate = { name: 'smoke', deadlineMs: 60_000 }
    expect(await runGateJob(anew, gate, JOB, { everyMs: 1 })).toMatchObject({ verdict: 'healthy' })
    expect([...api.jobs.keys()]).toEqual([`${JOBS}/ask-1`])
  })

  it.each(['list', 'remove'] as const)(
    'that cannot be cleared away (%s) is unavailable, and no Job is made',
    async what => {
      const api = new MadeUpApi()
      api.put('checks', 'ask-1', label)
      api.fails = { [what]: failed('command', 'connection refused') }
      expect(await api.run()).toEqual({
        verdict: 'unavailable',
        reason: 'what an earlier asking may have left could not be cleared away: connection refused',
      })
      expect(api.did.some(each => each.startsWith('create'))).toBe(false)
    },
  )
})
