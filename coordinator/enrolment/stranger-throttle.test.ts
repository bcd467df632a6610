import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { originOf, StrangerThrottle } from './stranger-throttle.ts'

describe('the throttle of strangers', () => {
  it('lets no origin use what is left for others, and all together no more than the rate', () => {
    const asks = fc.array(fc.record({ origin: fc.nat(3), stepMs: fc.nat(400) }), { maxLength: 300 })
    fc.assert(
      fc.property(asks, steps => {
        const throttle = new StrangerThrottle(10, 20)
        const passed = [0, 0, 0, 0]
        let nowMs = 0
        for (const { origin, stepMs } of steps) {
          nowMs += stepMs
          if (throttle.take(`192.0.2.${origin}`, nowMs) === 0) passed[origin]!++
        }
        const seconds = nowMs / 1000
        for (const count of passed) expect(count).toBeLessThanOrEqual(10 + seconds * 5 + 1e-6)
        expect(passed.reduce((sum, count) => sum + count, 0)).toBeLessThanOrEqual(20 + seconds * 10 + 1e-6)
      }),
    )
  })

  it('serves others while one floods it', () => {
    const throttle = new StrangerThrottle(10, 20)
    let served = 0
    for (let ms = 0; ms < 60_000; ms += 10) {
      throttle.take('192.0.2.1', ms)
      if (ms % 1000 === 0 && throttle.take('198.51.100.7', ms) === 0) served++
    }
    expect(served).toBe(60)
  })

  it('remembers a bounded number of origins', () => {
    const throttle = new StrangerThrottle(10, 20)
    for (let i = 0; i < 10_000; i++) throttle.take(`10.0.${i >> 8}.${i & 255}`, 0)
    expect(throttle.origins).toBe(4_096)
  })

  it('spreads machines that wait behind one address so that they stay within its share', () => {
    const throttle = new StrangerThrottle(10, 20)
    const seconds = throttle.spreadSeconds(500)
    let refused = 0
    for (let i = 0; i < 500; i++) {
      if (throttle.take('192.0.2.1', 1e9 + (i * seconds * 1000) / 500) > 0) refused++
    }
    expect(refused).toBe(0)
  })
})

describe('the origin of a caller', () => {
  it.each([
    ['192.0.2.7', '192.0.2.7'],
    ['::ffff:192.0.2.7', '192.0.2.7'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:0DB8:1:2::1', '2001:db8:1:2::/64'],
    ['2001:db8::1', '2001:db8:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['64:ff9b::192.0.2.1', '64:ff9b:0:0::/64'],
    ['::1', '0:0:0:0::/64'],
    ['', ''],
  ])('of %s is %s', (address, origin) => {
    expect(originOf(address)).toBe(origin)
  })
})
