import { describe, expect, it } from 'vitest'
import { OutcomeClass, Phase } from './gen/muster/v1/operation_pb.ts'
import { outcomeName, phaseName } from './operation-names.ts'
import { reachedSystem, systemChange } from './system-change.ts'

const {
  SUCCEEDED,
  DEGRADED,
  ACTIVATION_FAILED,
  ROLLED_BACK,
  UNCONFIRMED,
  ROLLBACK_FAILED,
  UNKNOWN,
  REFUSED,
  BUSY,
} = OutcomeClass

describe('what an operation did to the system of its machine', () => {
  it.each([
    [SUCCEEDED, Phase.DONE, 'made', true],
    // The furthest phase stands behind the one that ends it.
    [SUCCEEDED, Phase.PROMOTE, 'made', true],
    [DEGRADED, Phase.KUBERNETES, 'made', true],
    [SUCCEEDED, Phase.PLAN, 'none', true],
    [SUCCEEDED, Phase.UNSPECIFIED, 'unknown', true],
    [ACTIVATION_FAILED, Phase.KUBERNETES, 'made', true],
    [ACTIVATION_FAILED, Phase.ACTIVATE, 'none', false],
    [ROLLED_BACK, Phase.RETURN, 'none', false],
    [UNCONFIRMED, Phase.RETURN, 'none', false],
    [ROLLBACK_FAILED, Phase.RETURN, 'unknown', false],
    [UNKNOWN, Phase.UNSPECIFIED, 'unknown', false],
    [REFUSED, Phase.PLAN, 'none', false],
    [BUSY, Phase.ACTIVATE, 'none', false],
  ] as const)('%i at %i is %s', (outcomeClass, phase, change, reached) => {
    const words = `${outcomeName(outcomeClass)} at ${phaseName(phase)}`
    for (const action of ['apply', 'rollback']) {
      expect(systemChange({ action, outcomeClass, phase }), words).toBe(change)
      expect(reachedSystem({ action, outcomeClass, phase }), words).toBe(reached)
    }
    for (const action of ['plan', 'upgrade', 'reboot', 'hold']) {
      expect(systemChange({ action, outcomeClass, phase }), words).toBe('none')
      expect(reachedSystem({ action, outcomeClass, phase }), words).toBe(false)
    }
  })
})
