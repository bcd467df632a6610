import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Fleet, startFleet } from '../../support/fleet.ts'
import { addOperator, type Operator } from '../../support/operator.ts'
import { RawMachine } from '../../support/raw-machine.ts'
import { type MadeUpWorld, ScriptedNode } from '../../support/scripted-node.ts'
import { events, makeToken, until } from '../../support/shown.ts'

// The coordinator is the real program; the machines speak the real protocol, and their Kubernetes is made up.

let fleet: Fleet
let operator: Operator
let world: MadeUpWorld
const nodes = new Map<string, ScriptedNode>()

const tomlOf = (ids: ReadonlyMap<string, string>) =>
  ['[clusters.home]', 'distribution = "components"', '']
    .concat(
      [...ids].flatMap(([host, machine]) => [
        `[hosts.${host}]`,
        `role = "${host.startsWith('s') ? 'server+worker' : 'worker'}"`,
        'cluster = "home"',
        `machine = "${machine}"`,
        '',
      ]),
    )
    .join('\n')

beforeAll(async () => {
  fleet = await startFleet({ clusterAskSeconds: 1 })
  operator = await addOperator(fleet)
  world = { fleetId: operator.fleetId, cluster: undefined }
  for (const host of ['s1', 's2', 's3', 'w1', 'w2']) {
    const raw = await RawMachine.make(fleet)
    nodes.set(host, new ScriptedNode(raw, host, host.startsWith('s'), world))
  }
  await operator.publish({ toml: tomlOf(new Map([...nodes].map(([host, { id }]) => [host, id]))) })
  for (const [host, { raw }] of nodes) await raw.enrol({ token: await makeToken(fleet, { host }) })
})

afterAll(async () => {
  for (const node of nodes.values()) await node[Symbol.asyncDispose]()
  await fleet?.[Symbol.asyncDispose]()
  await operator?.[Symbol.asyncDispose]()
})

const joined = () => [...nodes.values()].filter(({ data }) => data.case === 'present').length
const counted = (kind: Parameters<ScriptedNode['of']>[0]) =>
  [...nodes.values()].flatMap(node => node.of(kind)).length

describe('a cluster of five machines', () => {
  it('waits until every server has said what it has, and then one of them founds, once', async () => {
    await nodes.get('s1')!.connect()
    await nodes.get('s2')!.connect()
    await new Promise(resolve => setTimeout(resolve, 2_000))
    expect(counted('found')).toBe(0)
    // A machine whose system has no Kubernetes part cannot be the one.
    nodes.get('s1')!.part = ''
    await new Promise(resolve => setTimeout(resolve, 2_000))
    await nodes.get('s3')!.connect()
    await until('a founder', () => (counted('found') > 0 ? true : undefined))
  })

  it('lets servers join one by one and workers beside them, each with a token of its own that is gone afterwards', async () => {
    for (const host of ['w1', 'w2']) await nodes.get(host)!.connect()
    await until('all but one joined', () => (joined() === 4 ? true : undefined))
    nodes.get('s1')!.part = 'home'
    await until('all joined', () => (joined() === 5 ? true : undefined))
    await until('all tokens gone', () => (world.cluster?.tokens.size === 0 ? true : undefined))
    await until('all reports acknowledged', () =>
      [...nodes.values()].every(({ owed }) => owed === 0) ? true : undefined,
    )
    expect(counted('found')).toBe(1)
    expect(counted('mint')).toBe(4)
    const secrets = [...nodes.values()].flatMap(node => node.secrets)
    expect(new Set(secrets).size).toBe(4)
  })

  it('has left no word of a token in what the coordinator keeps or prints, and tells of each step', async () => {
    const secrets = [...nodes.values()].flatMap(node => node.secrets)
    expect(secrets.length).toBeGreaterThan(0)
    const files = (await readdir(fleet.coordinatorState, { recursive: true, withFileTypes: true }))
      .filter(entry => entry.isFile())
      .map(entry => join(entry.parentPath, entry.name))
    const texts = await Promise.all(files.map(file => readFile(file, 'latin1')))
    const printed = `${fleet.coordinator?.stdout}${fleet.coordinator?.stderr}`
    for (const secret of secrets) {
      expect(texts.some(text => text.includes(secret))).toBe(false)
      expect(printed).not.toContain(secret)
    }
    const said = (await events(fleet)).filter(event => event.class === 'cluster').map(({ reason }) => reason)
    expect(said).toContainEqual(expect.stringMatching(/^home: found, since /))
    expect(said).toContainEqual(expect.stringMatching(/^home: the token of w1 is gone, as a listing shows/))
  })
})
