import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ClusterStanding } from '../../../shared/gen/muster/v1/cluster_pb.ts'
import { layoutOf } from '../../../shared/kubernetes/distributions.ts'
import { events, until } from '../../support/shown.ts'
import { MadeUpFleet } from './made-up-fleet.ts'

let made: MadeUpFleet
beforeAll(async () => {
  made = await MadeUpFleet.start(['s1', 's2', 's3', 'w1', 'w2', 'w3'])
})
afterAll(() => made?.[Symbol.asyncDispose]())

const all = () => [...made.nodes.values()]

describe('a coordinator that is killed all the time', () => {
  it('founds one cluster, lets all join it once, and leaves no token behind', async () => {
    await made.connectAll()
    for (let kills = 0; kills < 30 && made.joined() < all().length; kills += 1) {
      // At another point of what is under way each time.
      await new Promise(resolve => setTimeout(resolve, 150 + 190 * kills))
      await made.fleet.coordinator?.kill('SIGKILL')
      for (const node of all()) await node.disconnect()
      await made.fleet.startCoordinator()
      await made.connectAll()
    }
    await made.untilJoined(all().length)
    await until('all tokens gone', () => (made.world.cluster?.tokens.size === 0 ? true : undefined))
    expect(all().flatMap(node => node.of('found'))).toHaveLength(1)
    for (const node of all()) expect(node.of('join').length).toBeLessThanOrEqual(1)
    await until('all reports acknowledged', () => (all().every(({ owed }) => owed === 0) ? true : undefined))
  })
})

describe('a machine that was sent away', () => {
  it('is asked nothing any more; what it said and failed at is forgotten, and its host can be another machine', async () => {
    const w3 = made.node('w3')
    await made.fleet.ok('evict', 'w3', '--why', 'test')
    await until('its session ended', () => w3.session?.end)
    const { hosts } = await made.api.getCluster({ name: 'home' })
    expect(hosts.find(({ host }) => host === 'w3')).toMatchObject({ machine: '', joined: false, version: '' })
    const questions = () => w3.session?.kinds().filter(kind => kind === 'clusterStateRequest').length
    const before = questions()
    await new Promise(resolve => setTimeout(resolve, 1_500))
    expect(questions()).toBe(before)
  })
})

describe('what waits for a person', () => {
  it('is among the problems of the fleet, as a running cluster is until it was adopted; then each node takes itself in', async () => {
    await using other = await MadeUpFleet.start(['s1', 's2', 'w1'])
    const authority = 'c'.repeat(64)
    const members = new Set(['s1', 's2'])
    const nodes = new Map(['s1', 's2', 'w1'].map(name => [name, { cordoned: false, version: '1.34.3' }]))
    other.world.cluster = { authority, members, nodes, tokens: new Map() }
    for (const [host, node] of other.nodes) {
      node.data = {
        case: 'present',
        value: { authority, distribution: layoutOf('components'), server: host !== 'w1' },
      }
    }
    await other.node('s1').connect()
    await other.node('s2').connect()
    await until('a problem', async () => {
      const { problems } = await other.fleet.api.getFleet({})
      return problems.some(text => /cluster home: .*adopt it/.test(text)) ? true : undefined
    })
    const { clusters } = await other.api.listClusters({})
    expect(clusters[0]?.standing).toBe(ClusterStanding.TO_ADOPT)
    await expect(other.ask('drain', 's1')).rejects.toThrow('muster cluster adopt home')

    const dry = await other.api.adoptCluster({ name: 'home', dryRun: true })
    expect(dry).toMatchObject({
      hosts: ['s1', 's2'],
      warnings: [expect.stringContaining('w1')],
      summary: { authority },
    })
    expect(other.node('s1').of('adopt')).toEqual([])
    await other.api.adoptCluster({ name: 'home' })
    await until('both are told', () =>
      ['s1', 's2'].every(host => other.node(host).of('adopt').length === 1) ? true : undefined,
    )
    expect(other.node('s1').of('adopt')[0]?.action.value).toMatchObject({ authority })
    // One that was away then is told when it comes, and its standing says so until it has answered.
    other.node('w1').silent.add('adopt')
    await other.node('w1').connect()
    await until('what it waits for', async () => {
      const { hosts } = await other.api.getCluster({ name: 'home' })
      return hosts.find(({ host }) => host === 'w1')?.waitsFor[0]?.includes('adopt is under way')
        ? true
        : undefined
    })
    other.node('w1').answerSilent()
    await other.untilJoined(3)
    for (const node of other.nodes.values()) {
      expect(node.orders.map(({ action }) => action.case)).toEqual(['adopt'])
    }
    const again = other.api.adoptCluster({ name: 'home' })
    await expect(again).rejects.toThrow('the cluster is known already')
    const said = (await events(other.fleet)).map(({ reason }) => reason)
    expect(said).toContainEqual(expect.stringMatching(/^home: adopted with s1, s2; authority c+$/))
  })
})
