import { create } from '@bufbuild/protobuf'
import { describe, expect, it } from 'vitest'
import { ClusterStepEndedSchema } from '../../../shared/gen/muster/v1/cluster_pb.ts'
import { liveServers } from '../cluster-snapshot.ts'
import { foundedRecord, type HostChange, NOW, sampleSnapshot } from '../testing/sample-snapshot.ts'
import { absorbActReport } from './absorb-act-report.ts'
import type { ClusterAct } from './cluster-act.ts'
import { openAct } from './testing/sample-act.ts'

/** Who counts as live after an act on b ended five seconds ago. */
function liveAfter(act: Partial<ClusterAct>, done: boolean, changes: Record<string, HostChange> = {}) {
  const onB = openAct({ host: 'b', machine: 'm-b', executor: 'm-b', executorHost: 'b', ...act })
  const { record } = absorbActReport(
    onB,
    create(ClusterStepEndedSchema, { done }),
    foundedRecord(),
    NOW - 5_000,
  )
  return liveServers(sampleSnapshot(changes, record), NOW).map(({ host }) => host)
}

describe('a server to which something was done', () => {
  it.each([
    [{ act: 'restore' }, true],
    [{ act: 'restore' }, false],
    [{ act: 'rotate', parameter: 'certificates' }, true],
    [{ act: 'rotate', parameter: 'certificates' }, false],
    [{ act: 'wipe' }, true],
    [{ act: 'wipe' }, false],
  ] as const)('is live by what was seen of it since alone: %j, done %s', (act, done) => {
    expect(liveAfter(act, done)).not.toContain('b')
    expect(liveAfter(act, done, { b: { agoMs: 4_999 } })).toContain('b')
  })

  it('stays live where it only read, or did something to another', () => {
    for (const act of ['drain', 'snapshot', 'certificates'] as const) {
      expect(liveAfter({ act, host: 'd', machine: 'm-d' }, true)).toContain('b')
    }
  })
})
