import { expect, it } from 'vitest'
import { OPENABLE_GATES } from '../../shared/rollout/openable-gates.ts'
import { OVERRIDABLE } from './plan/decision.ts'

it('the gates that the command completes are those that can be opened', () => {
  expect(OPENABLE_GATES).toEqual(OVERRIDABLE)
})
