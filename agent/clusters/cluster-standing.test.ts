import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { systemClock } from '../../shared/clock.ts'
import type { DriverReading } from '../drivers/create-driver.ts'
import { ClusterStanding } from './cluster-standing.ts'

/** A machine without a part in a cluster, whose first readings never end. */
function standingThatHangs(times: number) {
  let readings = 0
  const openDriver = async (): Promise<DriverReading> => {
    readings += 1
    return readings <= times ? await new Promise<never>(() => {}) : { kind: 'none' }
  }
  const stop = new AbortController()
  const deps = {
    openDriver,
    readDisk: async () => ({ kind: 'none' }) as const,
    clock: systemClock,
    readingMs: 50,
  }
  return { standing: new ClusterStanding(deps, stop.signal), stop, readings: () => readings }
}

it('a reading that never ends costs its own answers, and none that is asked for afterwards', async () => {
  const { standing, stop } = standingThatHangs(2)
  const asked = ['q1', 'q2'].map(async id => await standing.read(id, stop.signal))
  const ends = await Promise.allSettled(asked)
  expect(ends.map(({ status }) => status)).toEqual(['rejected', 'rejected'])
  expect(await standing.read('q3', stop.signal)).toMatchObject({ requestId: 'q3', data: { case: 'none' } })
  await standing.idle()
})

it('questions that come while one is read are answered by one more reading, which began after them', async () => {
  const { standing, stop, readings } = standingThatHangs(0)
  const asked = ['q1', 'q2', 'q3', 'q4'].map(async id => await standing.read(id, stop.signal))
  expect((await Promise.all(asked)).map(({ requestId }) => requestId)).toEqual(['q1', 'q2', 'q3', 'q4'])
  expect(readings()).toBe(2)
})

it('ends with its agent, whatever hangs', async () => {
  const { standing, stop } = standingThatHangs(1)
  const asked = standing.read('q1', new AbortController().signal)
  asked.catch(() => {})
  stop.abort(new Error('the agent stops'))
  await expect(asked).rejects.toThrow()
  await standing.idle()
})

it('what was begun has come to rest when its agent has ended', async () => {
  let isOver = false
  const openDriver = async (): Promise<DriverReading> => {
    await sleep(100)
    isOver = true
    return { kind: 'none' }
  }
  const stop = new AbortController()
  const readDisk = async () => ({ kind: 'none' }) as const
  const standing = new ClusterStanding({ openDriver, readDisk, clock: systemClock }, stop.signal)
  const asked = standing.read('q1', new AbortController().signal)
  asked.catch(() => {})
  stop.abort(new Error('the agent stops'))
  await standing.idle()
  expect(isOver).toBe(true)
})
