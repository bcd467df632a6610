import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import { describe, expect, it } from 'vitest'
import {
  OutcomeClass,
  OutcomeSchema,
  Phase,
  PhaseRecordSchema,
} from '../../shared/gen/muster/v1/operation_pb.ts'
import { PlanMode, PlanSchema } from '../../shared/gen/muster/v1/plan_pb.ts'
import type { OperationRow } from '../store/operations.ts'
import { disturbanceOf, viewOfOperation } from './operation-view.ts'

/** A plan that succeeded. What the view does not read is left as it is in a new row. */
function planned(plan: MessageInitShape<typeof PlanSchema>) {
  const row: OperationRow = {
    id: 'o1',
    machine: 'm1',
    host: 'n1',
    revision: 1,
    manifest_digest: '',
    action: 'plan',
    ordered: 0,
    ordered_by: 'anna',
    expires: 1,
    delivered: 0,
    phase: 0,
    ended: 1,
    activated_by: '',
    order_action: null,
    rollback_to: '',
    rollback_before: 0,
    confirmed: null,
    signed_outcome: null,
    badly_signed: 0,
    not_before: 0,
    retry_of: '',
    outcome_class: OutcomeClass.SUCCEEDED,
    outcome: Buffer.from(toBinary(OutcomeSchema, create(OutcomeSchema, { class: OutcomeClass.SUCCEEDED }))),
    plan: Buffer.from(toBinary(PlanSchema, create(PlanSchema, { mode: PlanMode.SWITCH, ...plan }))),
  }
  return viewOfOperation(row).plan
}

describe('a plan as rollouts read it', () => {
  it('touches Kubernetes where the switch does, and where that restarts once the system is confirmed', () => {
    const { touchesKubernetes, reboots } = planned({ restarts: ['nginx.service'] }) ?? {}
    expect([touchesKubernetes, reboots]).toEqual([false, false])
    expect(planned({ restarts: ['containerd.service'] })).toMatchObject({ touchesKubernetes: true })
    // A switch leaves it running, and the agent restarts it afterwards.
    const withSystem = planned({ untouched: ['kubelet.service'], kubernetesRestarts: true })
    expect(withSystem).toMatchObject({ touchesKubernetes: true, reboots: false })
    // A runtime of somebody's own has any name.
    const withRuntime = planned({ restarts: ['mine.service'], runtimeRestarts: true })
    expect(withRuntime).toMatchObject({ touchesKubernetes: true, reboots: false, units: ['mine.service'] })
    // What a list does not hold any more may be anything.
    expect(planned({ leftOut: 1 })).toMatchObject({ touchesKubernetes: true })
  })
})

describe('T40: when an operation disturbed its node', () => {
  const at = (seconds: number) => timestampFromMs(seconds * 1_000)
  const phase = (which: Phase, started: number, ended?: number) =>
    create(PhaseRecordSchema, {
      phase: which,
      started: at(started),
      ...(ended !== undefined && { ended: at(ended) }),
    })

  it('was with the last phase that stops what makes it Ready', () => {
    const phases = [phase(Phase.ACTIVATE, 1, 2), phase(Phase.PROVE, 3, 4), phase(Phase.KUBERNETES, 5, 8)]
    expect(disturbanceOf(phases, at(9))).toEqual({ startedMs: 5_000, endedMs: 8_000 })
    expect(disturbanceOf(phases.slice(0, 2), at(9))).toEqual({ startedMs: 1_000, endedMs: 2_000 })
  })

  it('was until the next phase, or the end, where a boot cut it off', () => {
    const phases = [phase(Phase.REBOOT, 5), phase(Phase.PROVE, 7, 8)]
    expect(disturbanceOf(phases, at(9))).toEqual({ startedMs: 5_000, endedMs: 7_000 })
    expect(disturbanceOf(phases.slice(0, 1), at(9))).toEqual({ startedMs: 5_000, endedMs: 9_000 })
    expect(disturbanceOf(phases.slice(0, 1), undefined)).toBeUndefined()
  })

  it('was never where it touched nothing, and cannot be told of one without phases, or whose clock was set back', () => {
    expect(disturbanceOf([phase(Phase.VERIFY, 5, 6), phase(Phase.PLAN, 6, 7)], at(9))).toEqual({
      startedMs: 5_000,
      endedMs: 5_000,
    })
    expect(disturbanceOf([], at(9))).toBeUndefined()
    expect(disturbanceOf([phase(Phase.REBOOT, 5)], at(4))).toBeUndefined()
  })
})
