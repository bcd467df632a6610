import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { MachineState } from '../../../shared/gen/muster/v1/machine_pb.ts'
import { startFleet } from '../../support/fleet.ts'
import { addOperator } from '../../support/operator.ts'
import { RawMachine } from '../../support/raw-machine.ts'
import { makeToken, shownMachine, until, untilActive, untilMachine } from '../../support/shown.ts'

it('muster backup copies a running coordinator, muster restore brings it back as it was, and its machines come by themselves', async () => {
  await using fleet = await startFleet()
  await using operator = await addOperator(fleet)
  await operator.publish({ toml: '[hosts.olaf]\n' })
  const agent = await fleet.addAgent('olaf', { token: await makeToken(fleet, { host: 'olaf' }) })
  const { id } = await untilActive(fleet, agent)
  const pin = await fleet.caPin()

  const file = join(fleet.dir, 'copy')
  expect(await fleet.ok('backup', file)).toContain('keep it as you keep those')
  expect((await stat(file)).mode & 0o777).toBe(0o600)
  // Nothing stopped for it.
  expect(await shownMachine(fleet, id)).toMatchObject({ online: true })

  // What happens afterwards is forgotten by the restore: a machine let in, another one sent away, a revision.
  const later = await RawMachine.make(fleet)
  await later.enrol({ token: await makeToken(fleet) })
  await operator.publish({ toml: '[hosts.olaf]\n[hosts.nas]\n' })
  await fleet.api.evictMachine({ ref: id, reason: 'by mistake' })
  await untilMachine(fleet, id, 'evicted', ({ state }) => state === MachineState.EVICTED)

  const refused = await fleet.muster('restore', file)
  expect(refused.stderr).toContain('Say --yes to do it')
  expect(await shownMachine(fleet, later.id)).toBeDefined()
  expect(await fleet.ok('restore', file, '--yes')).toMatch(
    /^restored the state of .*: 1 machines, 1 revisions; nothing is granted until .*`muster rollout accept`\n$/,
  )
  const shown = await until('the coordinator on its new state', async () => {
    const { revision } = await fleet.api.getFleet({}, { deadlineMs: 2_000 })
    return revision === 1n ? await shownMachine(fleet, id) : undefined
  })
  expect(shown).toMatchObject({ host: 'olaf', state: MachineState.ACTIVE })
  expect(await shownMachine(fleet, later.id)).toBeUndefined()
  expect(await fleet.caPin()).toBe(pin)
  // The agent, whose process never ended, is let in by what was restored: key, certificate, authority.
  await untilActive(fleet, agent)
  expect(agent.programs).toHaveLength(1)
  // The revision's tree came along, and the state before lies beside the new one.
  const { envelope } = await fleet.api.getFleetRevision({ number: 1n })
  expect(envelope?.payload.length).toBeGreaterThan(0)
  let bytes = 0
  for await (const { chunk } of fleet.api.downloadRevisionTree({ number: 1n })) bytes += chunk.length
  expect(bytes).toBe((await stat(operator.revisions[0]?.treeFile ?? '')).size)
  expect((await readdir(fleet.coordinatorState)).some(name => name.startsWith('before-restore-'))).toBe(true)
})
