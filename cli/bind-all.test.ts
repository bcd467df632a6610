import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { readFleetFile } from '../shared/fleet-file/read-fleet-file.ts'
import { HeldSchema } from '../shared/gen/muster/v1/agent_pb.ts'
import {
  BoundBy,
  ConditionSchema,
  type MachineSchema,
  MachineState,
} from '../shared/gen/muster/v1/machine_pb.ts'
import { exitCodes } from './exit-codes.ts'
import { runMuster } from './testing/run-muster.ts'
import { type SmallCoordinator, sampleMachine, startSmallCoordinator } from './testing/small-coordinator.ts'

const [A, B, C] = ['a', 'b', 'c'].map(letter => letter.repeat(64)) as [string, string, string]
const FILE = `# my fleet
[fleet]
name = "home"
id = "5f1c0a7be2d94c3386a1f0d2b7c4e895"

[clusters.main]
distribution = "k3s"

[hosts.olaf] # the first server
role = "server"
cluster = "main"

[hosts.nils]
machine = "${B}"
role = "worker"
cluster = "main"

[hosts]
nas = { labels = { rack = "a" } } # bought 2021
`

let coordinator: SmallCoordinator
let dir: string
const file = () => join(dir, 'fleet.toml')
const bindAll = (...words: string[]) =>
  runMuster(['bind', '--all', '-d', dir, ...words], { settings: { socket: coordinator.socket } })

beforeAll(async () => {
  coordinator = await startSmallCoordinator()
  dir = await mkdtemp(join(tmpdir(), 'muster-bind-'))
})
afterAll(async () => {
  await coordinator[Symbol.asyncDispose]()
  await rm(dir, { recursive: true, force: true })
})
beforeEach(async () => {
  await writeFile(file(), FILE)
  coordinator.machines.splice(
    0,
    coordinator.machines.length,
    sampleMachine({ id: A, host: 'olaf', boundBy: BoundBy.HAND }),
    sampleMachine({ id: B, host: 'nils' }),
    sampleMachine({ id: C, host: '' }),
    sampleMachine({ id: 'd'.repeat(64), host: 'nas', state: MachineState.EVICTED }),
    sampleMachine({ id: 'e'.repeat(64), host: 'edge-1', group: 'edge' }),
  )
})

describe('bind --all', () => {
  it('writes the keys of bound hosts and leaves everything else as it is', async () => {
    const before = await stat(file())
    const { code, out } = await bindAll()
    expect(code).toBe(0)
    expect(out).toContain(`${file()}:12: olaf: + machine = "${A}"`)
    expect(out).toContain('bound to no machine yet: nas')
    const text = await readFile(file(), 'utf8')
    expect(text).toBe(
      FILE.replace('cluster = "main"\n\n[hosts.nils]', `cluster = "main"\nmachine = "${A}"\n\n[hosts.nils]`),
    )
    expect((await stat(file())).mode).toBe(before.mode)
    const read = readFleetFile(text, 'fleet.toml')
    expect(read.ok && read.fleet.hosts.map(({ name, binding }) => [name, binding.machine])).toEqual([
      ['olaf', A],
      ['nils', B],
      ['nas', undefined],
    ])
    const again = await bindAll('-o', 'json')
    expect(JSON.parse(again.out)).toEqual({
      file: file(),
      changed: false,
      hosts: [],
      already: ['olaf', 'nils'],
      unbound: ['nas'],
    })
    expect(await readFile(file(), 'utf8')).toBe(text)
  })

  it('only shows it with --dry-run', async () => {
    const { out } = await bindAll('--dry-run', '-o', 'json')
    expect(JSON.parse(out)).toMatchObject({
      changed: false,
      hosts: [{ host: 'olaf', machine: A, line: 12 }],
    })
    expect(await readFile(file(), 'utf8')).toBe(FILE)
  })

  it('writes nothing while one host is in doubt, held, twice there or another than the file says', async () => {
    const olaf = coordinator.machines[0]!
    for (const [change, reason] of [
      [
        { conditions: [create(ConditionSchema, { class: 'clone', reason: 'two live sessions' })] },
        'two live sessions',
      ],
      [{ held: create(HeldSchema, { reason: 'new disk' }) }, 'muster resume olaf'],
      [{ id: C, host: 'nils' }, `names machine ${B.slice(0, 12)}`],
    ] satisfies [MessageInitShape<typeof MachineSchema>, string][]) {
      coordinator.machines[0] = sampleMachine({ id: A, host: 'olaf', ...change })
      if (change.host === 'nils') coordinator.machines.splice(1, 1)
      const { code, err } = await bindAll()
      expect({ code, err }).toEqual({ code: exitCodes.refused.code, err: expect.stringContaining(reason) })
    }
    coordinator.machines.splice(0, 3, olaf, sampleMachine({ id: C, host: 'olaf' }))
    expect((await bindAll()).err).toContain('two machines are it')
    expect(await readFile(file(), 'utf8')).toBe(FILE)
  })

  it('is said alone, and its options with it alone', async () => {
    const run = (...words: string[]) =>
      runMuster(words, { settings: { socket: coordinator.socket } }).then(({ code }) => code)
    expect(await run('bind', 'olaf', '--all')).toBe(exitCodes.usage.code)
    expect(await run('bind', 'olaf')).toBe(exitCodes.usage.code)
    expect(await run('bind', 'olaf', 'abab', '--dry-run')).toBe(exitCodes.usage.code)
  })
})
