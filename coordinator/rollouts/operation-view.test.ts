import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { describe, expect, it } from 'vitest'
import { OutcomeClass, OutcomeSchema } from '../../shared/gen/muster/v1/operation_pb.ts'
import { PlanMode, PlanSchema } from '../../shared/gen/muster/v1/plan_pb.ts'
import type { OperationRow } from '../store/operations.ts'
import { viewOfOperation } from './operation-view.ts'

/** A plan that succeeded. What the view does not read is left as it is in a new row. */
function planned(plan: MessageInitShape<typeof PlanSchema>) {
  const row: OperationRow = {
    ...{ id: 'o1', machine: 'm1', host: 'n1', revision: 1, manifest_digest: '', action: 'plan' },
    ...{ ordered: 0, ordered_by: 'anna', expires: 1, delivered: 0, phase: 0, ended: 1, activated_by: '' },
    ...{ order_action: null, rollback_to: '', rollback_before: 0, confirmed: null, signed_outcome: null },
    ...{ badly_signed: 0, not_before: 0, retry_of: '', outcome_class: OutcomeClass.SUCCEEDED },
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
    // What a list does not hold any more may be anything.
    expect(planned({ leftOut: 1 })).toMatchObject({ touchesKubernetes: true })
  })
})
