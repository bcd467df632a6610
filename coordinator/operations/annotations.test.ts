import { create, fromBinary } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import { describe, expect, it } from 'vitest'
import { Phase, PhaseRecordSchema } from '../../shared/gen/muster/v1/operation_pb.ts'
import { PlanSchema } from '../../shared/gen/muster/v1/plan_pb.ts'
import { annotations, isActivating } from './annotations.ts'

const phases = (...told: readonly (readonly [Phase, 'runs' | 'over'])[]) =>
  told.map(([phase, state], at) =>
    create(PhaseRecordSchema, {
      sequence: BigInt(at + 1),
      phase,
      ...(state === 'over' && { ended: timestampFromMs(5) }),
    }),
  )

describe('which agent activates', () => {
  it.each([
    [phases([Phase.PLAN, 'runs']), false],
    [phases([Phase.ARM, 'runs']), true],
    [phases([Phase.ARM, 'over'], [Phase.ACTIVATE, 'runs']), true],
    // Over: it may be the next process that tells of it.
    [phases([Phase.ARM, 'over'], [Phase.ACTIVATE, 'over']), false],
    [phases([Phase.ACTIVATE, 'runs'], [Phase.PROVE, 'runs']), false],
  ])('is told by the phases that run', (told, expected) => {
    expect(isActivating(told)).toBe(expected)
  })

  it('stays the first that was seen', () => {
    const arming = phases([Phase.ARM, 'runs'])
    const none = { plan: null, activated_by: '' }
    expect(annotations(none, {}, arming, 'first')).toEqual({ activated_by: 'first' })
    expect(annotations({ ...none, activated_by: 'first' }, {}, arming, 'second')).toEqual({})
    expect(annotations(none, {}, arming, '')).toEqual({})
  })
})

describe('a reported plan', () => {
  it('N33: is written when it is new, and not again when it is told again', () => {
    const plan = create(PlanSchema, { to: '/nix/store/new', restarts: ['sshd.service'] })
    const written = annotations({ plan: null, activated_by: '' }, { plan }, [], '')
    expect(fromBinary(PlanSchema, written.plan ?? new Uint8Array())).toEqual(plan)
    const row = { plan: Buffer.from(written.plan ?? []), activated_by: '' }
    expect(annotations(row, { plan }, [], '')).toEqual({})
  })

  it('is cut to its bounds, and says how much was left out', () => {
    const many = Array.from({ length: 600 }, (_, at) => `${at}.service`)
    const plan = create(PlanSchema, { stops: many, starts: many, leftOut: 1, warnings: ['x'.repeat(5_000)] })
    const { plan: bytes } = annotations({ plan: null, activated_by: '' }, { plan }, [], '')
    const kept = fromBinary(PlanSchema, bytes ?? new Uint8Array())
    expect([kept.stops.length, kept.starts.length, kept.leftOut]).toEqual([500, 500, 201])
    expect(kept.warnings[0]).toHaveLength(1_024)
  })
})
