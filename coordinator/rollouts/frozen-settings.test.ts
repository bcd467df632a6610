import { create } from '@bufbuild/protobuf'
import { describe, expect, it } from 'vitest'
import { RolloutSettingsSchema } from '../../shared/gen/muster/v1/rollout_pb.ts'
import { DEFAULT_POLICY } from '../../shared/rollout/rollout-policy.ts'
import { freezeSettings } from './frozen-settings.ts'
import { ROLLOUT_ACTIONS, type RolloutAction } from './plan/rollout-record.ts'

const HOW = { direct: false, prefetch: true, awayMs: 600_000 }
const others = ROLLOUT_ACTIONS.filter((action): action is RolloutAction => action !== 'apply')

describe('taking back what was done when a host fails (T43)', () => {
  const reverting = { ...DEFAULT_POLICY, onFailure: 'revert' } as const
  const asked = (onFailure: string) => create(RolloutSettingsSchema, { onFailure })

  it('is for an apply', () => {
    for (const [policy, settings] of [
      [reverting, undefined],
      [DEFAULT_POLICY, asked('revert')],
    ] as const) {
      const { frozen, remark } = freezeSettings(policy, settings, 'apply', HOW)
      expect([frozen.onFailure, remark]).toEqual(['revert', undefined])
    }
  })

  it.each(others)('is refused for %s, and where the policy says it nothing more is begun instead', action => {
    expect(() => freezeSettings(DEFAULT_POLICY, asked('revert'), action, HOW)).toThrow(
      `settings.on_failure: ${action} cannot be taken back`,
    )
    const { frozen, remark } = freezeSettings(reverting, undefined, action, HOW)
    expect([frozen.onFailure, remark]).toEqual([
      'stop',
      `on-failure is stop, since ${action} cannot be taken back`,
    ])
    expect(freezeSettings(reverting, asked('continue'), action, HOW)).toMatchObject({
      frozen: { onFailure: 'continue' },
      remark: undefined,
    })
  })
})
