import { create } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import { describe, expect, it } from 'vitest'
import { ClusterActSchema } from '../../shared/gen/muster/v1/cluster_pb.ts'
import { MachineDriftSchema } from '../../shared/gen/muster/v1/drift_pb.ts'
import { EventSchema } from '../../shared/gen/muster/v1/event_pb.ts'
import { MachineSchema, MachineState } from '../../shared/gen/muster/v1/machine_pb.ts'
import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'
import { OperationSummarySchema } from '../../shared/gen/muster/v1/order_pb.ts'
import {
  GateWaitSchema,
  HostStandingSchema,
  RolloutSchema,
  RolloutState,
} from '../../shared/gen/muster/v1/rollout_pb.ts'
import { actListing } from './act-listing.ts'
import { driftListing } from './drift-listing.ts'
import { eventListing } from './event-listing.ts'
import { machineListing, pendingListing } from './machine-listing.ts'
import { operationListing } from './operation-listing.ts'
import { planListing } from './plan-listing.ts'
import { rolloutListing } from './rollout-listing.ts'
import { standingColumns } from './standing-listing.ts'
import { type Column, renderTable } from './table.ts'
import { textWidth } from './text-width.ts'

const now = new Date('2025-11-30T12:00:00Z')
const then = timestampFromMs(now.getTime() - 11_400_000)
const host = 'edge-n100-4'
const reason = 'the unit nginx.service does not stay up after the switch'
const ended = timestampFromMs(now.getTime() - 11_000_000)
const rolledBack = { class: OutcomeClass.ROLLED_BACK, reason, ended }

const machine = create(MachineSchema, {
  id: 'ab'.repeat(32),
  host,
  state: MachineState.ACTIVE,
  online: true,
  appliedRevision: 3n,
  product: 'NUC12WSHi5 by Intel',
  serial: 'SN-0001',
  address: '192.168.17.104',
  firstSeen: then,
  conditions: [{ class: 'quarantined', reason }],
  rebootReasons: ['kernel'],
  lastOperation: { revision: 3n, action: 'apply', outcome: rolledBack },
})
const operation = create(OperationSummarySchema, {
  operationId: '0mx4udd1x-d4a669dde220',
  host,
  revision: 3n,
  action: 'apply',
  ordered: then,
  outcome: rolledBack,
})
const rollout = create(RolloutSchema, {
  id: '0mx4udd1x-d4a669dde220',
  action: 'apply',
  revision: 3n,
  state: RolloutState.FAILED,
  counts: { done: 4, failed: 1, left: 1 },
  size: 6,
  started: then,
  startedBy: 'operator ann',
  reason,
})
const event = create(EventSchema, { at: then, class: 'operation-ended', host, actor: 'coordinator', reason })
const drift = create(MachineDriftSchema, {
  host,
  state: 'reboot-pending',
  changedBy: 'rebuild-by-hand',
  told: then,
  reason,
  remedy: `muster reboot ${host}`,
})
const act = create(ClusterActSchema, {
  host,
  act: 'cordon',
  executor: 'edge-n100-1',
  askedBy: 'operator ann',
  asked: then,
  reason,
})
const standing = create(HostStandingSchema, { host, action: 'apply', revision: 3n, rollout: rollout.id })
const wait = { gate: 'catch-up', reason, opens: 'somebody begins one', since: then }

function shown<T>(row: T, columns: readonly Column<T>[], room: number): string {
  const text = renderTable([row], columns, { wide: false, colour: false, room })
  for (const line of text.split('\n')) expect(textWidth(line)).toBeLessThanOrEqual(room)
  return text
}

const at = (room: number): readonly (readonly [string, string, readonly string[]])[] => [
  [
    'machines',
    shown(machine, machineListing(now).columns, room),
    [host, 'active', 'rolled', 'quarantined', 'reboot'],
  ],
  ['pending', shown(machine, pendingListing(now).columns, room), reason.split(' ')],
  ['operations', shown(operation, operationListing(now).columns, room), [host, ...reason.split(' ')]],
  ['plan', shown(operation, planListing().columns, room), [host, ...reason.split(' ')]],
  ['events', shown(event, eventListing(now).columns, room), [host, ...reason.split(' ')]],
  ['drift', shown(drift, driftListing(now).columns, room), [host, ...reason.split(' '), 'muster']],
  ['acts', shown(act, actListing(now).columns, room), [host, 'cordon']],
  [
    'waiting',
    shown({ standing, wait: create(GateWaitSchema, wait) }, standingColumns(now), room),
    [host, ...reason.split(' '), 'begins'],
  ],
]

describe('a table on a narrow terminal', () => {
  it.each(at(80))('%s tells on 80 columns whom it is about, and why', (_, text, words) => {
    expect(text.split(/\s+/)).toEqual(expect.arrayContaining([...words]))
  })

  it.each(at(60))('%s does so on 60 columns', (_, text, words) => {
    expect(text.split(/\s+/)).toEqual(expect.arrayContaining([...words]))
  })

  it('rollouts tell on 60 and 80 columns how far they are, and why', () => {
    for (const room of [60, 80]) {
      const text = shown(rollout, rolloutListing(now).columns, room)
      expect(text.split(/\s+/)).toEqual(
        expect.arrayContaining([rollout.id, 'failed', '4/6', ...reason.split(' ')]),
      )
    }
  })

  it('has reasons on lines of their own on 60 columns', () => {
    expect(shown(operation, operationListing(now).columns, 60)).toMatchInlineSnapshot(`
      "OPERATION               HOST         ACTION  STATE
        REASON
      0mx4udd1x-d4a669dde220  edge-n100-4  apply   rolled back
        the unit nginx.service does not stay up after the switch
      "
    `)
    expect(shown(rollout, rolloutListing(now).columns, 60)).toMatchInlineSnapshot(`
      "ROLLOUT                 WHAT              STATE   DONE  LEFT
        REASON
      0mx4udd1x-d4a669dde220  apply revision 3  failed  4/6   1
        the unit nginx.service does not stay up after the switch
      "
    `)
    expect(shown(machine, machineListing(now).columns, 60)).toMatchInlineSnapshot(`
      "HOST         STATE   SEEN    OPERATION      LOOK AT
      edge-n100-4  active  online  rolled back 3  quarantined
                                                  reboot
      "
    `)
    const waiting = { standing, wait: create(GateWaitSchema, wait) }
    expect(shown(waiting, standingColumns(now), 60)).toMatchInlineSnapshot(`
      "HOST         TO DO             SINCE  OPENS WHEN
        STATE
      edge-n100-4  apply revision 3  3h10m  somebody begins one
        waits at catch-up: the unit nginx.service does not stay up
        after the switch
      "
    `)
  })

  it('leaves out what matters least, and nothing where there is room', () => {
    const { columns } = machineListing(now)
    expect(shown(machine, columns, 80)).not.toContain('PRODUCT')
    expect(shown(machine, columns, 120)).toContain('PRODUCT')
    expect(shown(operation, operationListing(now).columns, 80)).not.toContain('AGE')
    expect(shown(rollout, rolloutListing(now).columns, 80)).not.toContain('BY')
  })
})
