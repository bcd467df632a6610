import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'
import type { Ending } from '../system/system.ts'
import { type ActivationFacts, judgeActivation } from './judge-activation.ts'
import { compareVersions } from './phases/preflight.ts'

const facts = (exitCode: number, over: Partial<ActivationFacts> = {}): ActivationFacts => ({
  ending: { kind: 'exited', exitCode },
  activating: true,
  lockHeld: false,
  currentBefore: '/nix/store/old',
  currentAfter: '/nix/store/new',
  target: '/nix/store/new',
  ...over,
})

describe('the outcome of a switch', () => {
  it.each([
    [0, {}, OutcomeClass.SUCCEEDED],
    [0, { currentAfter: '/nix/store/old' }, OutcomeClass.ACTIVATION_FAILED],
    [0, { currentAfter: undefined }, OutcomeClass.ACTIVATION_FAILED],
    [1, { activating: false, currentAfter: '/nix/store/old' }, OutcomeClass.ACTIVATION_FAILED],
    [1, {}, OutcomeClass.ACTIVATION_FAILED],
    [2, {}, OutcomeClass.ACTIVATION_FAILED],
    [4, {}, OutcomeClass.ACTIVATION_FAILED],
    [11, { activating: false, lockHeld: true }, OutcomeClass.BUSY],
    [11, { activating: true }, OutcomeClass.ACTIVATION_FAILED],
    [100, { activating: false }, OutcomeClass.REBOOT_REQUIRED],
    [101, {}, OutcomeClass.UNKNOWN],
    [143, {}, OutcomeClass.UNKNOWN],
  ] as const)('exit %i with %j is class %i', (code, over, expected) => {
    expect(judgeActivation(facts(code, over)).class).toBe(expected)
  })

  it('tells exit 1 before anything was touched from exit 1 in the middle', () => {
    expect(judgeActivation(facts(1, { activating: false })).reason).toContain('nothing was touched')
    expect(judgeActivation(facts(1)).reason).toContain('in the middle')
  })

  it('is success only with exit 0 and the current system at the target, whatever else was seen (T27, N2, N36)', () => {
    const ending: fc.Arbitrary<Ending> = fc.oneof(
      fc.integer({ min: 0, max: 255 }).map(exitCode => ({ kind: 'exited' as const, exitCode })),
      fc.constantFrom<Ending>(
        { kind: 'signalled', signal: 'SIGKILL' },
        { kind: 'timed-out', deadlineMs: 1 },
        { kind: 'cancelled' },
        { kind: 'not-found', command: 'x' },
      ),
    )
    const path = fc.constantFrom('/nix/store/old', '/nix/store/new', undefined)
    fc.assert(
      fc.property(
        ending,
        fc.boolean(),
        fc.boolean(),
        path,
        path,
        (how, activating, lockHeld, before, after) => {
          const verdict = judgeActivation({
            ending: how,
            activating,
            lockHeld,
            currentBefore: before,
            currentAfter: after,
            target: '/nix/store/new',
          })
          const good = how.kind === 'exited' && how.exitCode === 0 && after === '/nix/store/new'
          expect(verdict.class === OutcomeClass.SUCCEEDED).toBe(good)
        },
      ),
    )
  })
})

describe('versions of Nix', () => {
  it('compare by their numbers', () => {
    expect(compareVersions('2.8', '2.18')).toBeLessThan(0)
    expect(compareVersions('2.18.1', '2.18')).toBeGreaterThan(0)
    expect(compareVersions('2.26.0pre20240101', '2.26')).toBe(0)
  })
})
