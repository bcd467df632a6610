import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type AdmissionInput, decideAdmission } from './admission.ts'
import type { Assignment } from './assign.ts'

const now = 1_000_000
const machineId = 'ab'.repeat(32)
const rule: Assignment = { kind: 'host', host: 'edge-1', group: 'edge', boundBy: 'rule' }
const none: Assignment = { kind: 'none', reason: 'no host of the fleet file is this machine' }
const stranger: AdmissionInput = {
  machineId,
  machine: undefined,
  token: { kind: 'none' },
  assignment: none,
  assignmentIsServer: false,
  hostTakenBy: undefined,
  dispute: undefined,
  admittedByRule: 0,
  maxByRule: 5,
  pending: 0,
  maxPending: 10,
}
const good = {
  kind: 'known',
  id: 't1',
  createdMs: now - 100,
  expiresMs: now + 100,
  uses: 2,
  used: 1,
  revoked: false,
  labels: {},
  host: '',
  hostTakenBy: undefined,
} as const
const inState = (state: NonNullable<AdmissionInput['machine']>['state'], evictedAtMs?: number) => ({
  machine: { state, evictedAtMs },
})

describe('decideAdmission', () => {
  const table: readonly (readonly [string, Partial<AdmissionInput>, object])[] = [
    ['a stranger waits', {}, { kind: 'wait' }],
    ['a good token admits', { token: good }, { kind: 'admit', by: 'token', admittedBy: 'token t1' }],
    [
      'a wrong token does not fall back to waiting',
      { token: { kind: 'unknown' } },
      { class: 'token-unknown' },
    ],
    [
      'a wrong token does not fall back to a rule',
      { token: { kind: 'unknown' }, assignment: rule },
      { class: 'token-unknown' },
    ],
    ['a revoked token', { token: { ...good, revoked: true } }, { class: 'token-revoked' }],
    ['a token in the moment it ends', { token: { ...good, expiresMs: now } }, { class: 'token-expired' }],
    ['a token whose uses are taken', { token: { ...good, used: 2 } }, { class: 'token-used-up' }],
    [
      'a token for a host that another machine has',
      { token: { ...good, host: 'a', hostTakenBy: 'cd' } },
      { class: 'conflict' },
    ],
    ['a rule admits', { assignment: rule }, { kind: 'admit', by: 'rule', admittedBy: 'rule edge' }],
    ['a rule admits no server', { assignment: rule, assignmentIsServer: true }, { kind: 'wait' }],
    ['a rule gives no host twice', { assignment: rule, hostTakenBy: 'cd' }, { kind: 'wait' }],
    [
      'hardware in the file admits nobody',
      { assignment: { ...rule, boundBy: 'hardware' } },
      { kind: 'wait' },
    ],
    ['a machine that is known', inState('active'), { kind: 'admit', by: 'known' }],
    [
      'a machine that is known and shows a token that ended',
      { ...inState('enrolled'), token: { ...good, used: 2 } },
      { kind: 'admit', by: 'known' },
    ],
    [
      'a known machine in dispute',
      { ...inState('active'), dispute: 'clone' },
      { class: 'conflict', retry: true },
    ],
    ['a token in dispute', { token: good, dispute: 'collision' }, { class: 'conflict' }],
    ['an evicted machine', inState('evicted', now - 200), { class: 'evicted', retry: false }],
    [
      'an evicted machine with a later token',
      { ...inState('evicted', now - 200), token: good },
      { kind: 'admit', by: 'token' },
    ],
    [
      'an evicted machine with an earlier token',
      { ...inState('evicted', now - 50), token: good },
      { class: 'evicted' },
    ],
    [
      'an evicted machine that a rule would admit',
      { ...inState('evicted', now - 50), assignment: rule },
      { class: 'evicted' },
    ],
    ['a rejected machine', { ...inState('rejected'), token: good }, { class: 'rejected', retry: true }],
    [
      'a banned machine with a token',
      { ...inState('banned', now - 200), token: good },
      { class: 'banned', retry: false },
    ],
    ['a stranger when too many wait', { pending: 10 }, { class: 'full', retry: true }],
    ['a waiting machine when too many wait', { ...inState('pending'), pending: 10 }, { kind: 'wait' }],
    ['a token when too many wait', { token: good, pending: 10 }, { kind: 'admit' }],
  ]
  it.each(table)('%s', (_, change, expected) => {
    expect(decideAdmission({ ...stranger, ...change }, now)).toMatchObject(expected)
  })

  const input: fc.Arbitrary<AdmissionInput> = fc.record({
    machineId: fc.constant(machineId),
    machine: fc.option(
      fc.record({
        state: fc.constantFrom('pending', 'enrolled', 'active', 'rejected', 'evicted', 'banned'),
        evictedAtMs: fc.option(fc.integer({ min: now - 10, max: now }), { nil: undefined }),
      }),
      { nil: undefined },
    ),
    token: fc.oneof(
      fc.constant({ kind: 'none' } as const),
      fc.constant({ kind: 'unknown' } as const),
      fc.record({
        kind: fc.constant('known' as const),
        id: fc.constant('t1'),
        createdMs: fc.integer({ min: now - 10, max: now }),
        expiresMs: fc.integer({ min: now - 5, max: now + 5 }),
        uses: fc.integer({ min: 1, max: 2 }),
        used: fc.integer({ min: 0, max: 2 }),
        revoked: fc.boolean(),
        labels: fc.constant({}),
        host: fc.constantFrom('', 'a'),
        hostTakenBy: fc.constantFrom(undefined, 'cd'),
      }),
    ),
    assignment: fc.oneof(
      fc.constant(none),
      fc.constant({ kind: 'conflict', reason: 'two rules' } as const),
      fc.record({
        kind: fc.constant('host' as const),
        host: fc.constant('edge-1'),
        group: fc.constant('edge'),
        boundBy: fc.constantFrom('key', 'hardware', 'rule', 'hand'),
      }),
    ),
    assignmentIsServer: fc.boolean(),
    hostTakenBy: fc.constantFrom(undefined, 'cd'),
    dispute: fc.constantFrom(undefined, 'clone'),
    pending: fc.integer({ min: 0, max: 12 }),
    maxPending: fc.constant(10),
    admittedByRule: fc.nat(6),
    maxByRule: fc.constant(5),
  })

  it('never admits whom a person sent away or has to look at, and nobody without one of the three ways', () => {
    fc.assert(
      fc.property(input, input => {
        const { machine, token, assignment } = input
        const admission = decideAdmission(input, now)
        if (admission.kind !== 'admit') return
        expect(input.dispute).toBeUndefined()
        expect(['banned', 'rejected']).not.toContain(machine?.state)
        switch (admission.by) {
          case 'known':
            expect(['enrolled', 'active']).toContain(machine?.state)
            return
          case 'token':
            if (token.kind !== 'known') throw new Error('admitted by a token that nobody knows')
            expect(token.revoked).toBe(false)
            expect(token.expiresMs).toBeGreaterThan(now)
            expect(token.used).toBeLessThan(token.uses)
            expect(token.hostTakenBy).toBeUndefined()
            if (machine?.state === 'evicted') {
              expect(token.createdMs).toBeGreaterThan(machine.evictedAtMs ?? Number.POSITIVE_INFINITY)
            }
            return
          case 'rule':
            expect(token.kind).toBe('none')
            expect(assignment).toMatchObject({ kind: 'host', boundBy: 'rule' })
            expect(input.assignmentIsServer).toBe(false)
            expect(input.hostTakenBy).toBeUndefined()
            expect(['pending', undefined]).toContain(machine?.state)
        }
      }),
      { numRuns: 2_000 },
    )
  })

  it('takes no new machine down once as many wait as may', () => {
    fc.assert(
      fc.property(input, input => {
        const admission = decideAdmission({ ...input, machine: undefined, pending: 10 }, now)
        expect(admission.kind).not.toBe('wait')
      }),
    )
  })
})
