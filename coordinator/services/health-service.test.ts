import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { HealthCheckResponse_ServingStatus as Serving } from '../../shared/gen/grpc/health/v1/health_pb.ts'
import { type SampleFleet, sampleFleet } from '../revisions/testing/sample-fleet.ts'
import { healthService } from './health-service.ts'

let fleet: SampleFleet
beforeEach(async () => {
  fleet = await sampleFleet()
})
afterEach(() => fleet[Symbol.asyncDispose]())

interface Parts {
  readonly transact?: () => Promise<never>
  readonly roundTrip?: () => Promise<void>
  readonly standstill?: string
}

/** What a probe is told; the store is a real one unless a part of it is made up. */
async function asked({ transact, roundTrip = async () => {}, standstill }: Parts = {}) {
  const service = healthService({
    store: transact ? { transact } : fleet.store,
    registry: { roundTrip },
    runner: { standstill: () => standstill },
  })
  const request = { $typeName: 'grpc.health.v1.HealthCheckRequest', service: '' } as const
  const context: Parameters<typeof service.check>[1] = {
    signal: new AbortController().signal,
    peer: { address: '127.0.0.1', certificate: undefined },
  }
  return (await service.check(request, context)).status
}

describe('health', () => {
  it('T53: is not green while nothing can be written; one work that waits for ever is ended and stops nobody', async () => {
    expect(await asked()).toBe(Serving.SERVING)
    const stuck = fleet.store.transact(async () => await new Promise<void>(() => {}))
    const ended = expect(stuck).rejects.toThrow('store used inside its own transaction')
    expect(await asked()).toBe(Serving.SERVING)
    await ended
    expect(await asked({ transact: () => new Promise(() => {}) })).toBe(Serving.NOT_SERVING)
    expect(await asked({ transact: () => Promise.reject(new Error('the disk is full')) })).toBe(
      Serving.NOT_SERVING,
    )
  })

  it('T53: is not green while sessions do not answer, or stop', async () => {
    expect(await asked({ roundTrip: () => new Promise(() => {}) })).toBe(Serving.NOT_SERVING)
    expect(await asked({ roundTrip: () => Promise.reject(new Error('it stops')) })).toBe(Serving.NOT_SERVING)
  })

  it('T53: is not green while nobody looks at rollouts', async () => {
    expect(await asked({ standstill: 'rollouts stand still' })).toBe(Serving.NOT_SERVING)
  })
})
