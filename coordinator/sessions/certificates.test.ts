import { status } from '@grpc/grpc-js'
import { afterEach, describe, expect, it } from 'vitest'
import { connect, makeRegistry, stopRegistries } from './testing/registry-under-test.ts'

afterEach(stopRegistries)

describe('the certificate of a session', () => {
  it('T19: ends the session when its authority is dropped, and no session of another authority', async () => {
    const { registry } = makeRegistry()
    const old = connect(registry, 'm1', 'a', { issuer: 'old' })
    const kept = connect(registry, 'm2', 'a', { issuer: 'new' })
    await expect.poll(() => [registry.online('m1'), registry.online('m2')]).toEqual([true, true])
    registry.endIssuedBy(pin => ['old', 'new'].includes(pin))
    kept.say({ message: { case: 'heartbeat', value: {} } })
    await expect.poll(() => kept.cases()).toContain('heartbeatAck')
    expect(old.end.done).toBe(false)
    registry.endIssuedBy(pin => pin === 'new')
    await expect
      .poll(() => old.end.error)
      .toMatchObject({
        code: status.UNAUTHENTICATED,
        message: 'the authority of this certificate was dropped; enrol anew',
      })
    expect([registry.online('m1'), registry.online('m2')]).toEqual([false, true])
    expect(kept.end.done).toBe(false)
  })

  it('ends the second holder of a key as well when the authority of both is dropped', async () => {
    const { registry, clones } = makeRegistry()
    const holders = [connect(registry, 'm1', 'a', { issuer: 'old' })]
    await expect.poll(() => registry.online('m1')).toBe(true)
    holders.push(connect(registry, 'm1', 'b', { issuer: 'old' }))
    await expect.poll(() => clones).toEqual(['m1'])
    registry.endIssuedBy(() => false)
    for (const { end } of holders) {
      await expect.poll(() => end.error).toMatchObject({ code: status.UNAUTHENTICATED })
    }
    expect(registry.online('m1')).toBe(false)
  })

  it('ends the session at its own end, which TLS looks at only when a connection begins', async () => {
    let nowMs = Date.parse('2027-03-01T12:00:00Z')
    const notAfter = new Date(nowMs + 60_000)
    const { registry, stop } = makeRegistry({
      heartbeatMs: 20,
      // Nobody is silent here: time stands still until it is moved.
      clock: { now: () => new Date(nowMs) },
    })
    const running = registry.run()
    const ending = connect(registry, 'm1', 'a', { notAfter })
    const lasting = connect(registry, 'm2', 'a')
    await expect.poll(() => [registry.online('m1'), registry.online('m2')]).toEqual([true, true])
    nowMs = notAfter.getTime() - 1
    for (const agent of [ending, lasting]) agent.say({ message: { case: 'heartbeat', value: {} } })
    for (const agent of [ending, lasting]) await expect.poll(() => agent.cases()).toContain('heartbeatAck')
    expect(ending.end.done).toBe(false)
    nowMs = notAfter.getTime()
    await expect
      .poll(() => ending.end.error)
      .toMatchObject({
        code: status.UNAUTHENTICATED,
        message: 'the certificate has ended; renew it and connect anew',
      })
    expect([registry.online('m1'), registry.online('m2')]).toEqual([false, true])
    stop.abort()
    await running
    expect(lasting.end.error).toMatchObject({ code: status.UNAVAILABLE })
  })
})
