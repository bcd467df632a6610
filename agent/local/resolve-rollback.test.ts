import { create } from '@bufbuild/protobuf'
import { describe, expect, it } from 'vitest'
import { OrderSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { OperationReportSchema, OutcomeClass, Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import { resolveRollback } from './resolve-rollback.ts'

const { SUCCEEDED, ACTIVATION_FAILED, ROLLED_BACK, ROLLBACK_FAILED } = OutcomeClass
const order = create(OrderSchema, { action: { case: 'rollback', value: {} } })
const report = (operationId: string, kind?: OutcomeClass, phase?: Phase, action = 'apply') =>
  create(OperationReportSchema, {
    operationId,
    action,
    ...(kind !== undefined && { outcome: { class: kind, phase: phase ?? Phase.UNSPECIFIED } }),
  })
const change = report('change', SUCCEEDED, Phase.DONE)

describe('a rollback that names nothing', () => {
  it.each([
    ['is the newest change', change, 'change'],
    ['passes over what found its system running', report('same', SUCCEEDED, Phase.PLAN), 'change'],
    ['passes over what went back by itself', report('failed', ROLLED_BACK, Phase.RETURN), 'change'],
    ['passes over what changed no system', report('boot', SUCCEEDED, Phase.REBOOT, 'reboot'), 'change'],
    ['is a change whose Kubernetes failed', report('k8s', ACTIVATION_FAILED, Phase.KUBERNETES), 'k8s'],
    ['is a change that could not be taken back', report('stuck', ROLLBACK_FAILED, Phase.RETURN), 'stuck'],
    ['is a change that is not over', report('open'), 'open'],
    ['is not a reboot that is not over', report('boot', undefined, undefined, 'reboot'), 'change'],
  ])('%s', (_, newest, operationId) => {
    expect(resolveRollback(order, [newest, change]).action).toMatchObject({
      case: 'rollback',
      value: { operationId, before: true },
    })
  })

  it('is refused where nothing changed what runs', () => {
    expect(() => resolveRollback(order, [report('same', SUCCEEDED, Phase.PLAN)])).toThrow(
      /no operation of this node has changed what runs/,
    )
  })
})
