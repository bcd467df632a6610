import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type FleetLife, HEALTH_CLASSES, judgeFleet, type MachineLife } from './judge-fleet.ts'

const NOW = Date.UTC(2026, 10, 20, 12)
const MINUTE = 60_000
const HOUR = 60 * MINUTE

const machine = (change: Partial<MachineLife> = {}): MachineLife => ({
  id: 'm1',
  host: 'olaf',
  state: 'active',
  online: true,
  lastMessageMs: NOW - 1_000,
  sessionStartsMs: [NOW - HOUR],
  admittedAtMs: NOW - 24 * HOUR,
  certificateNotAfterMs: NOW + 20 * 24 * HOUR,
  ...change,
})
const life = (change: Partial<FleetLife> = {}): FleetLife => ({
  machines: [machine()],
  ended: [],
  open: [],
  cordons: [],
  lost: [],
  clusterNodes: [],
  untrusted: undefined,
  goneAuthorities: [],
  halted: undefined,
  heartbeatMs: 10_000,
  stuckAfterMs: 10 * MINUTE,
  certificateWarnMs: 5 * 24 * HOUR,
  ...change,
})
const classes = (change: Partial<FleetLife>) => judgeFleet(life(change), NOW).map(({ class: kind }) => kind)
const failed = (minutesAgo: number) => ({ endedMs: NOW - minutesAgo * MINUTE, succeeded: false })
const untrusted = { number: 7, trustNumber: 2, reason: '0 good ones', sinceMs: NOW - HOUR }
const gone = { pin: 'a'.repeat(64), trustNumber: 3, sinceMs: NOW - HOUR }
const work = { id: 'op-1', machine: 'm1', host: 'olaf', what: 'apply' }

describe('the invariants of a fleet', () => {
  it.each<[string, Partial<FleetLife>, Partial<FleetLife>]>([
    [
      'nothing-succeeds',
      { ended: [failed(5), failed(60), failed(100)] },
      { ended: [failed(5), failed(60), { ...failed(100), succeeded: true }] },
    ],
    [
      'silent',
      { machines: [machine({ lastMessageMs: NOW - 46_000 })] },
      { machines: [machine({ lastMessageMs: NOW - 44_000 })] },
    ],
    [
      'flapping',
      { machines: [machine({ sessionStartsMs: [1, 2, 3, 4, 5, 6].map(n => NOW - n * MINUTE) })] },
      { machines: [machine({ sessionStartsMs: [1, 2, 3, 4, 5, 61].map(n => NOW - n * MINUTE) })] },
    ],
    [
      'certificate',
      { machines: [machine({ certificateNotAfterMs: NOW + 4 * 24 * HOUR })] },
      { machines: [machine({ certificateNotAfterMs: NOW + 6 * 24 * HOUR })] },
    ],
    [
      'never-active',
      {
        machines: [
          machine({
            state: 'enrolled',
            online: false,
            lastMessageMs: undefined,
            admittedAtMs: NOW - 11 * MINUTE,
          }),
        ],
      },
      {
        machines: [
          machine({
            state: 'enrolled',
            online: false,
            lastMessageMs: undefined,
            admittedAtMs: NOW - 9 * MINUTE,
          }),
        ],
      },
    ],
    [
      'stale-cordon',
      { cordons: [{ cluster: 'home', host: 'olaf', sinceMs: NOW - 2 * HOUR, inUse: false }] },
      { cordons: [{ cluster: 'home', host: 'olaf', sinceMs: NOW - 2 * HOUR, inUse: true }] },
    ],
    [
      'no-outcome',
      { open: [{ ...work, toldMs: NOW - 3 * HOUR, newestMs: NOW - 3 * HOUR }] },
      { open: [{ ...work, toldMs: NOW - 3 * HOUR, newestMs: NOW - HOUR }] },
    ],
    ['revision-untrusted', { untrusted }, { untrusted: undefined }],
    ['authority-gone', { goneAuthorities: [gone] }, { goneAuthorities: [] }],
  ])('T54: name %s, and only then', (kind, broken, kept) => {
    expect(classes(broken)).toEqual([kind])
    expect(classes(kept)).toEqual([])
  })

  it('are all of them held to, and every problem has a reason, a time and a remedy', () => {
    const all = judgeFleet(
      life({
        machines: [
          machine({
            lastMessageMs: NOW - HOUR,
            sessionStartsMs: Array.from({ length: 9 }, (_, n) => NOW - n * 1_000),
            certificateNotAfterMs: NOW - 1,
          }),
          machine({ id: 'm2', state: 'enrolled', online: false, admittedAtMs: 0 }),
        ],
        ended: [failed(1), failed(2), failed(3)],
        open: [{ ...work, toldMs: 0, newestMs: 0 }],
        cordons: [{ cluster: 'home', host: 'olaf', sinceMs: 0, inUse: false }],
        lost: [{ what: 'rollout r1 is not in the store: olaf had orders of it', sinceMs: 0 }],
        clusterNodes: [
          {
            machine: 'm1',
            host: 'olaf',
            cluster: 'home',
            distribution: 'k3s',
            server: true,
            certificates: { kind: 'unreadable', reason: 'x.crt: holds no certificate' },
          },
        ],
        untrusted,
        goneAuthorities: [gone],
        halted: {
          reason: 'this store is older than what nodes report: olaf accepted revision 7',
          sinceMs: NOW - HOUR,
        },
      }),
      NOW,
    )
    expect(new Set(all.map(({ class: kind }) => kind))).toEqual(new Set(HEALTH_CLASSES))
    for (const one of all) {
      expect(one.reason).not.toBe('')
      expect(one.remedy).not.toBe('')
      expect(one.sinceMs).toBeLessThanOrEqual(NOW)
    }
  })

  it('say nothing of work that its machine was not told of, nor of changes that ended long ago', () => {
    expect(classes({ open: [{ ...work, toldMs: undefined, newestMs: 0 }] })).toEqual([])
    expect(classes({ ended: [failed(400), failed(401), failed(402)] })).toEqual([])
  })

  it('never get better by waiting, while nothing happens', () => {
    fc.assert(
      fc.property(fc.nat(10 * HOUR), fc.nat(10 * HOUR), (first, more) => {
        const state = life({
          machines: [machine({ lastMessageMs: NOW, sessionStartsMs: [] })],
          open: [{ ...work, toldMs: NOW, newestMs: NOW }],
          cordons: [{ cluster: 'home', host: 'olaf', sinceMs: NOW, inUse: false }],
        })
        const before = judgeFleet(state, NOW + first).map(({ class: kind }) => kind)
        const after = judgeFleet(state, NOW + first + more).map(({ class: kind }) => kind)
        for (const kind of before) expect(after).toContain(kind)
      }),
    )
  })
})
