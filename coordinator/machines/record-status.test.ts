import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type NodeStatus, NodeStatusSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { GetMachineRequestSchema } from '../../shared/gen/muster/v1/machine_pb.ts'
import { getMachine } from '../api/get-machine.ts'
import { FactsCache } from '../queries/facts-cache.ts'
import { selectMachines } from '../queries/select-machines.ts'
import { addMachine, type SampleFleet, START, sampleFleet } from '../revisions/testing/sample-fleet.ts'
import { listEventRows } from '../store/events.ts'
import { findMachine } from '../store/machines.ts'
import { describeMachine } from './describe-machines.ts'
import { MachineDirectory } from './directory.ts'
import { findOwnHost, readSystemId } from './own-host.ts'
import { readNodeStatus, recordStatus } from './record-status.ts'

const OLAF = 'a'.repeat(64)

let fleet: SampleFleet
let directory: MachineDirectory
beforeEach(async () => {
  fleet = await sampleFleet()
  await addMachine(fleet.store, OLAF, { machine_id: 'c'.repeat(32) })
  await addMachine(fleet.store, 'b'.repeat(64))
  directory = await MachineDirectory.load(fleet.store.db, fleet.fleetTargets.current())
})
afterEach(() => fleet[Symbol.asyncDispose]())

const shown = () => ({
  ...fleet,
  directory,
  sessions: { online: () => true, lastMessage: () => undefined },
  conditions: { stuckAfterMs: 1e9, certificateWarnMs: 1 },
  factsCache: new FactsCache(),
})

const status = (change: MessageInitShape<typeof NodeStatusSchema>): NodeStatus =>
  create(NodeStatusSchema, { program: '/nix/store/agent/bin/muster-agent', ...change })
const failed = { storePath: '/nix/store/bad', reason: 'sshd failed', operationId: 'op-1', revision: 4n }

describe('what a node holds on to', () => {
  it('is kept whole, and shown as conditions, columns and in selectors', async () => {
    const said = status({
      held: { reason: 'the disk', since: timestampFromMs(START.getTime() - 5_000) },
      quarantined: [failed],
      bootLoader: 'systemd-boot',
      oneShotBoot: true,
      generations: [{ number: 7, storePath: '/nix/store/good', current: true }],
    })
    await recordStatus({ ...fleet, directory }, OLAF, said)
    expect(await readNodeStatus(fleet.store.db, OLAF)).toEqual(said)
    const machine = await describeMachine(shown(), OLAF)
    expect(machine).toMatchObject({
      held: { reason: 'the disk' },
      quarantined: 1,
      conditions: [
        { class: 'held', reason: expect.stringContaining('the disk') },
        { class: 'quarantined', reason: expect.stringContaining('a system failed') },
      ],
    })
    const request = create(GetMachineRequestSchema, { ref: OLAF })
    const whole = await getMachine(shown())(request, { kind: 'local' })
    expect(whole.machine?.nodeStatus).toEqual(said)
    const matched = async (where: string) =>
      (await selectMachines(shown(), where, () => true)).matched.map(({ id }) => id)
    expect(await matched('status.held')).toEqual([OLAF])
    expect(await matched('status.quarantined > 0')).toEqual([OLAF])
    expect(await matched('!status.held && status.quarantined == 0')).toEqual(['b'.repeat(64)])
    expect(directory.get(OLAF)?.system).toBe('/nix/store/good')
    expect(directory.get(OLAF)?.onHold).toEqual({ reason: 'the disk', sinceMs: START.getTime() - 5_000 })
    // Somebody only tries another system until the next boot: the generations are as they were.
    const generations = [{ number: 7, storePath: '/nix/store/good', profile: true, booted: true }]
    await recordStatus(
      { ...fleet, directory },
      OLAF,
      status({ generations, currentSystem: '/nix/store/test' }),
    )
    expect(directory.get(OLAF)?.system).toBe('/nix/store/test')
  })

  it('N33: told again as it was costs no write', async () => {
    await recordStatus({ ...fleet, directory }, OLAF, status({ held: { reason: 'x' } }))
    const before = await findMachine(fleet.store.db, OLAF)
    await recordStatus({ ...fleet, directory }, OLAF, status({ held: { reason: 'x' } }))
    expect(await findMachine(fleet.store.db, OLAF)).toEqual(before)
    expect(await listEventRows(fleet.store.db, { machine: OLAF, limit: 10 })).toHaveLength(1)
  })

  it('N38: ends when the node says so, and each change is an event', async () => {
    const say = (change: MessageInitShape<typeof NodeStatusSchema>) =>
      recordStatus({ ...fleet, directory }, OLAF, status(change))
    await say({ held: { reason: 'the disk' }, quarantined: [failed] })
    await say({ quarantined: [failed] })
    await say({})
    const events = await listEventRows(fleet.store.db, { machine: OLAF, limit: 10 })
    expect(events.map(event => event.class)).toEqual(['quarantine-lifted', 'resumed', 'quarantined', 'held'])
    const machine = await describeMachine(shown(), OLAF)
    expect(machine.conditions).toEqual([])
    expect(machine.held).toBeUndefined()
  })

  it('is cut to its bounds, and nothing was held in the future', async () => {
    const held = { reason: 'x'.repeat(1_000), since: timestampFromMs(START.getTime() + 1e9) }
    const quarantined = Array.from({ length: 150 }, () => ({ ...failed, reason: 'y'.repeat(5_000) }))
    const generations = Array.from({ length: 150 }, (_, number) => ({ number }))
    await recordStatus({ ...fleet, directory }, OLAF, status({ held, quarantined, generations }))
    const kept = await readNodeStatus(fleet.store.db, OLAF)
    expect([kept?.quarantined.length, kept?.generations.length]).toEqual([100, 100])
    expect([kept?.held?.reason.length, kept?.quarantined[0]?.reason.length]).toEqual([256, 1_024])
    expect(directory.get(OLAF)?.onHold?.sinceMs).toBe(START.getTime())
  })
})

describe('the coordinator’s own host', () => {
  it('is the active machine whose system has this machine’s id', () => {
    const own = (systemId: string | undefined, configured?: string) =>
      findOwnHost({ directory, configured, systemId })()
    expect(own('c'.repeat(32))).toBe(OLAF)
    expect(own('d'.repeat(32))).toBeUndefined()
    expect(own(undefined)).toBeUndefined()
    // What is configured counts alone, also where no machine is that host.
    expect(own('c'.repeat(32), 'other')).toBeUndefined()
  })

  it('is read from a file that may be missing or unset', async () => {
    expect(await readSystemId(`${fleet.folder}/none`)).toBeUndefined()
    const path = `${fleet.folder}/machine-id`
    const { writeFile } = await import('node:fs/promises')
    await writeFile(path, 'uninitialized\n')
    expect(await readSystemId(path)).toBeUndefined()
    await writeFile(path, `${'e'.repeat(32)}\n`)
    expect(await readSystemId(path)).toBe('e'.repeat(32))
  })
})
