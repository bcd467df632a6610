// A coordinator that is put back to a backup from before its cluster was founded. The coordinator is the real program, the
// machines speak the real protocol, and their Kubernetes is made up.
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { pause } from '../../../shared/lifecycle.ts'
import { events, until } from '../../support/shown.ts'
import { MadeUpFleet } from './made-up-fleet.ts'

let made: MadeUpFleet | undefined
afterEach(async () => {
  await made?.[Symbol.asyncDispose]()
  made = undefined
})

const founded = (fleet: MadeUpFleet) => [...fleet.nodes.values()].flatMap(node => node.of('found'))

const saysOf = async (fleet: MadeUpFleet) =>
  (await fleet.api.getCluster({ name: 'home' })).hosts.flatMap(({ waitsFor }) => waitsFor).join('\n')

describe('a coordinator that is put back to a time before the founding', () => {
  it('T62: has nobody found the cluster again while its founder is away, not before an operator has looked and not afterwards', async () => {
    const fleet = await MadeUpFleet.start(['s1', 's2', 's3'])
    made = fleet
    const [s1, s2, s3] = [fleet.node('s1'), fleet.node('s2'), fleet.node('s3')]
    // Enrolled and heard; their systems have no Kubernetes part yet.
    for (const node of fleet.nodes.values()) node.part = ''
    await fleet.connectAll()
    await until('all are heard', async () =>
      (await saysOf(fleet)).match(/no Kubernetes part yet/g)?.length === 3 ? true : undefined,
    )
    const file = join(fleet.fleet.dir, 'copy')
    await fleet.fleet.ok('backup', file)
    for (const node of [s2, s3]) await node.disconnect()
    s1.part = 'home'
    await until('the founding', () => (s1.data.case === 'present' ? true : undefined))
    await s1.disconnect()

    await fleet.fleet.ok('restore', file, '--yes')
    await until('the coordinator on its new state', async () =>
      (await events(fleet.fleet)).some(({ class: kind }) => kind === 'store-restored') ? true : undefined,
    )
    for (const node of [s2, s3]) {
      node.part = 'home'
      await node.connect()
    }
    const shown = async () => await fleet.fleet.ok('cluster', 'show', 'home')
    await until('why nobody founds', async () =>
      /restored from the backup/.test(await shown()) ? true : undefined,
    )
    await pause(3_000)
    expect(founded(fleet).length).toBe(1)

    await fleet.fleet.ok('rollout', 'accept', '--why', 'looked')
    await until('who is waited for', async () =>
      /s1 is a server and has never said/.test(await shown()) ? true : undefined,
    )
    await pause(3_000)
    expect(founded(fleet).length).toBe(1)

    await s1.connect()
    await until('the way out', async () => (/adopt/.test(await shown()) ? true : undefined))
    await fleet.fleet.ok('cluster', 'adopt', 'home')
    await fleet.untilJoined(3)
    expect(founded(fleet).length).toBe(1)
  }, 300_000)
})
