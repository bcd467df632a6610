import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { PlanMode } from '../../shared/gen/muster/v1/plan_pb.ts'
import type { RebootReason } from '../plan/reboot-reasons.ts'
import type { TrialAnswer } from '../safety/can-try.ts'
import { chooseMode, type ModeQuestion } from './choose-mode.ts'

type Reason = Pick<RebootReason, 'kind' | 'required'>
const kernel: Reason = { kind: 'kernel', required: false }
const interfaces: Reason = { kind: 'init-interface', required: true }
const systemd: Reason = { kind: 'systemd', required: false }

const CAN: TrialAnswer = { kind: 'can' }
const CANNOT: TrialAnswer = { kind: 'cannot', why: 'it has no boot loader' }

const question = (change: Partial<ModeQuestion> = {}): ModeQuestion => ({
  reached: false,
  reasons: [],
  safety: { reboot: 'required', trial: 'auto' },
  trial: CAN,
  mayReboot: true,
  ...change,
})

describe('how a system is reached', () => {
  it.each<[string, Partial<ModeQuestion>, PlanMode]>([
    ['one that runs already is not', { reached: true, reasons: [interfaces] }, PlanMode.NOTHING],
    ['by a switch where nothing needs more', {}, PlanMode.SWITCH],
    ['by a switch where a kernel may wait for the next boot', { reasons: [kernel] }, PlanMode.SWITCH],
    ['by a trial boot where only a boot reaches it', { reasons: [interfaces] }, PlanMode.TRIAL_BOOT],
    [
      'by a trial boot where every new kernel is to be booted',
      { reasons: [kernel], safety: { reboot: 'whenever-changed', trial: 'auto' } },
      PlanMode.TRIAL_BOOT,
    ],
    [
      'by a switch where only systemd is new, which a switch puts in place',
      { reasons: [systemd], safety: { reboot: 'whenever-changed', trial: 'auto' } },
      PlanMode.SWITCH,
    ],
    [
      'not at all where the fleet file allows no reboot',
      { reasons: [interfaces], safety: { reboot: 'never', trial: 'auto' } },
      PlanMode.REBOOT_REQUIRED,
    ],
    [
      'not at all where the node allows none',
      { reasons: [interfaces], mayReboot: false },
      PlanMode.REBOOT_REQUIRED,
    ],
    [
      'not at all where a boot cannot be tried',
      { reasons: [interfaces], trial: CANNOT },
      PlanMode.REBOOT_REQUIRED,
    ],
    [
      'by a plain reboot where the fleet file says so and no trial can be',
      { reasons: [interfaces], trial: CANNOT, safety: { reboot: 'required', trial: 'none' } },
      PlanMode.REBOOT,
    ],
    [
      'by a trial all the same where one can be',
      { reasons: [interfaces], safety: { reboot: 'required', trial: 'none' } },
      PlanMode.TRIAL_BOOT,
    ],
    [
      'by a switch where the wish for a boot cannot be met and it needs none',
      { reasons: [kernel], trial: CANNOT, safety: { reboot: 'whenever-changed', trial: 'auto' } },
      PlanMode.SWITCH,
    ],
  ])('%s', (_, change, mode) => {
    const choice = chooseMode(question(change))
    expect(choice.mode).toBe(mode)
    expect(choice.reason !== '').toBe(mode === PlanMode.REBOOT_REQUIRED)
  })

  it('is said with why a boot cannot be tried', () => {
    expect(chooseMode(question({ reasons: [interfaces], trial: CANNOT })).reason).toContain(
      'it has no boot loader, and the fleet file does not say `trial = "none"`',
    )
  })

  it('T51: is never a reboot that fleet file or node forbid, nor an untried one unless it is said, nor a switch that cannot reach it', () => {
    const reason = fc.record<Reason>({
      kind: fc.constantFrom('kernel', 'initrd', 'init-interface', 'systemd', 'kernel-params'),
      required: fc.boolean(),
    } as { kind: fc.Arbitrary<Reason['kind']>; required: fc.Arbitrary<boolean> })
    const arbitrary = fc.record<ModeQuestion>({
      reached: fc.boolean(),
      reasons: fc.array(reason, { maxLength: 4 }),
      safety: fc.record({
        reboot: fc.constantFrom('never', 'required', 'whenever-changed'),
        trial: fc.constantFrom('auto', 'none'),
      }),
      trial: fc.constantFrom(CAN, CANNOT),
      mayReboot: fc.boolean(),
    })
    fc.assert(
      fc.property(arbitrary, given => {
        const { mode, reason: why } = chooseMode(given)
        const boots = mode === PlanMode.TRIAL_BOOT || mode === PlanMode.REBOOT
        const required = given.reasons.some(one => one.required)
        if (boots) {
          expect(given.safety.reboot).not.toBe('never')
          expect(given.mayReboot).toBe(true)
          expect(given.reasons.length).toBeGreaterThan(0)
          if (given.safety.reboot === 'required') expect(required).toBe(true)
        }
        if (mode === PlanMode.REBOOT) expect([given.safety.trial, given.trial]).toEqual(['none', CANNOT])
        if (mode === PlanMode.TRIAL_BOOT) expect(given.trial).toBe(CAN)
        if (mode === PlanMode.SWITCH) expect(required).toBe(false)
        if (mode === PlanMode.REBOOT_REQUIRED) expect([required, why.length > 0]).toEqual([true, true])
        expect(mode === PlanMode.NOTHING).toBe(given.reached)
      }),
      { numRuns: 3_000 },
    )
  })
})
