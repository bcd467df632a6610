import { describe, expect, it } from 'vitest'
import { operationId } from '../../shared/ids.ts'
import { isForChange, isSnapshotName } from '../../shared/kubernetes/snapshot-name.ts'
import { readAsk } from '../clusters/acts/read-ask.ts'
import { actRequest } from './act-request.ts'

const NOW = new Date('2026-11-28T12:00:00Z')

describe('the act that a step asks for', () => {
  it('names a copy of the datastore apart from those that operators ask for', () => {
    const id = operationId(NOW)
    const asked = actRequest({
      ...({ id, cluster: 'home', host: 's1', step: 'snapshot', action: 'apply' } as const),
      ...{ drainLimitMs: 60_000, asked: undefined },
    })
    const { act, parameter } = readAsk(asked, NOW)
    expect([act, parameter]).toEqual(['snapshot', `rollout-${id}`])
    expect([isSnapshotName(parameter), isForChange(parameter)]).toEqual([true, true])
  })
  it('is a drain that moves pods with an emptyDir on the way to something else, and as it was said where it was asked for', () => {
    const wanted = { id: operationId(NOW), cluster: 'home', host: 's1', drainLimitMs: 60_000 }
    const onTheWay = { ...wanted, step: 'drain', action: 'reboot', asked: undefined } as const
    expect(actRequest(onTheWay).drain).toMatchObject({ deleteEmptyDir: true, deleteUnmanaged: false })
    const alone = { ...wanted, step: 'act', action: 'drain', asked: undefined } as const
    expect(actRequest(alone).drain).toMatchObject({ deleteEmptyDir: false, deleteUnmanaged: false })
  })
})
