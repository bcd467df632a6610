import { create } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import { expect, it } from 'vitest'
import {
  HostStandingSchema,
  RolloutHostSchema,
  RolloutHostState,
} from '../../shared/gen/muster/v1/rollout_pb.ts'
import { runMuster } from '../testing/run-muster.ts'
import { startSmallCoordinator } from '../testing/small-coordinator.ts'
import { sampleRollout } from '../testing/small-rollouts.ts'

it('rollout show tells for each gate that holds a host since when it does, and what would open it', async () => {
  await using coordinator = await startSmallCoordinator()
  const ago = (minutes: number) => timestampFromMs(Date.now() - minutes * 60_000 - 1_000)
  const wait = (gate: string, minutes: number) => ({
    gate,
    reason: `why ${gate}`,
    opens: `what opens ${gate}`,
    since: ago(minutes),
  })
  const rollout = sampleRollout([])
  const since = ago(600)
  rollout.hosts.push(
    create(RolloutHostSchema, {
      host: 'olaf',
      role: 'server',
      state: RolloutHostState.WAITING,
      since,
      waits: [wait('lock', 190), wait('window', 5)],
    }),
    create(RolloutHostSchema, { host: 'anna', state: RolloutHostState.DONE, since }),
  )
  coordinator.rollouts.rollouts.push(rollout)
  const show = (...words: string[]) =>
    runMuster(['rollout', 'show', rollout.id, ...words], { settings: { socket: coordinator.socket } })
  const { out } = await show()
  expect(out).toMatch(/\nolaf +- +server +3h10m +waits at lock: why lock +what opens lock\n/)
  expect(out).toMatch(/\nolaf +- +server +5m +waits at window: why window +what opens window\n/)
  expect(out).toMatch(/\nanna +- +- +10h +done +-\n/)
  // For programs a host is one record, with all its gates in it.
  expect((await show('-o', 'csv')).out.match(/^olaf,/gm)).toHaveLength(1)
  const { hosts } = JSON.parse((await show('-o', 'json')).out)
  expect(hosts[0].waits.map((each: { since: string }) => Date.parse(each.since))).toEqual([
    expect.closeTo(Date.now() - 190 * 60_000, -5),
    expect.closeTo(Date.now() - 5 * 60_000, -5),
  ])
})

it('status, show and rollout show tell which gate holds a host that is to catch up, since when, and what opens it', async () => {
  await using coordinator = await startSmallCoordinator()
  const rollout = sampleRollout([])
  coordinator.rollouts.rollouts.push(rollout)
  const since = timestampFromMs(Date.now() - 190 * 60_000 - 1_000)
  const waits = [{ gate: 'catch-up', reason: 'rollout x failed', opens: 'somebody begins one', since }]
  coordinator.rollouts.standings.push(
    create(HostStandingSchema, {
      host: 'olaf',
      action: 'apply',
      revision: 7n,
      rollout: rollout.id,
      pending: true,
      behind: 'x',
      state: RolloutHostState.LEFT,
      waits,
    }),
  )
  const muster = async (...words: string[]) =>
    (await runMuster(words, { settings: { socket: coordinator.socket } })).out
  const line = new RegExp(
    `\nolaf +apply revision 7 +${rollout.id} +3h10m +left behind: waits at catch-up: rollout x failed +somebody begins one\n`,
  )
  for (const words of [['status'], ['show', 'olaf'], ['rollout', 'show', rollout.id]]) {
    expect(await muster(...words), words.join(' ')).toMatch(line)
  }
  const record = { host: 'olaf', state: 'left', pending: true, behind: 'x', waits: [{ gate: 'catch-up' }] }
  expect(JSON.parse(await muster('status', '-o', 'json')).waiting).toMatchObject([record])
  expect(JSON.parse(await muster('show', 'olaf', '-o', 'json')).waiting).toMatchObject([record])
  expect(JSON.parse(await muster('rollout', 'show', rollout.id, '-o', 'json')).pending).toMatchObject([
    record,
  ])
})

it('rollout show fits the terminal, long reasons and all, and is whole where a program reads it', async () => {
  await using coordinator = await startSmallCoordinator()
  const built = `/nix/store/${'a'.repeat(32)}-nixos-system-bolt-25.11`
  const reason = `activation failed: ${built} was not proved: ${'a unit does not stay up; '.repeat(9)}`
  const opens = 'an operator looks at it (`muster show`)'
  const rollout = sampleRollout([])
  const since = timestampFromMs(Date.now() - 61_000)
  rollout.hosts.push(
    create(RolloutHostSchema, { host: 'bolt', state: RolloutHostState.FAILED, since, reason }),
    create(RolloutHostSchema, {
      host: 'anna',
      state: RolloutHostState.WAITING,
      since,
      waits: [{ gate: 'held', reason: 'the disk', opens, since }],
    }),
  )
  coordinator.rollouts.rollouts.push(rollout)
  const show = (columns: number | undefined, ...words: string[]) =>
    runMuster(['rollout', 'show', rollout.id, ...words], {
      settings: { socket: coordinator.socket, noColour: true },
      ...(columns !== undefined && { terminal: true, screen: () => ({ columns, rows: 24 }) }),
    })
  for (const columns of [80, 120]) {
    const { out } = await show(columns)
    for (const line of out.split('\n')) expect(line.length).toBeLessThanOrEqual(columns)
    const words = (text: string) => text.split(/\s+/)
    expect(words(out)).toEqual(
      expect.arrayContaining(words(reason.replace(built, 'nixos-system-bolt-25.11').trim())),
    )
    expect(words(out)).toEqual(expect.arrayContaining(words(opens)))
  }
  for (const { out } of [await show(undefined), await show(80, '-o', 'wide')]) expect(out).toContain(reason)
})
