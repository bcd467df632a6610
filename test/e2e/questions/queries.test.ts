import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { writeMadeUpRoot } from '../../../scripts/made-up-root.ts'
import { type AgentProcess, type Fleet, startFleet } from '../../support/fleet.ts'
import { Program, programFile } from '../../support/program.ts'
import { makeToken, untilActive } from '../../support/shown.ts'
import { waitUntil } from '../../support/wait-until.ts'

let fleet: Fleet
const agents = new Map<string, { readonly agent: AgentProcess; readonly id: string }>()

/** What the tools of a made-up machine print. */
async function put(agent: AgentProcess, path: string, text: string): Promise<void> {
  const file = join(agent.dir, 'hardware', path)
  await mkdir(dirname(file), { recursive: true })
  await writeFile(file, text)
}

const unit = (name: string, active: string) => ({
  unit: name,
  load: 'loaded',
  active,
  sub: active,
  description: name,
})

async function add(name: string, options: { readonly product: string; readonly allow?: readonly string[] }) {
  const agent = await fleet.addAgent(name, {
    token: await makeToken(fleet, { labels: { rack: name } }),
    start: false,
    hardware: { product: options.product },
    ...(options.allow ? { config: { allow: options.allow } } : {}),
  })
  const failed = name === 'anna' ? [unit('nginx.service', 'failed')] : []
  await put(agent, 'commands/systemctl.json', JSON.stringify([unit('k3s.service', 'active'), ...failed]))
  const said = { MESSAGE: `I am ${name}`, PRIORITY: '6', __REALTIME_TIMESTAMP: '1767323045000000' }
  await put(agent, 'commands/journalctl.txt', `${JSON.stringify(said)}\n`)
  await put(agent, 'proc/net/tcp', '   0: 00000000:0016 00000000:0000 0A 0:0 0:0 0 0 0 1\n')
  agent.start()
  agents.set(name, { agent, id: (await untilActive(fleet, agent)).id })
}

const idOf = (name: string) => agents.get(name)?.id ?? ''

beforeAll(async () => {
  fleet = await startFleet()
  await add('anna', { product: 'MM-100', allow: ['apply', 'logs'] })
  await add('bert', { product: 'MM-200' })
  await add('carl', { product: 'MM-200' })
})
afterAll(async () => await fleet?.[Symbol.asyncDispose]())

describe('questions to the store of a real fleet', () => {
  it('are answered for all machines in one call: groups, sums, order', async () => {
    const groups = await waitUntil('facts of all', async () => {
      const rows = await fleet.json(
        ...['query', 'true', '--group-by', 'facts.system.product', '--sort', '-count()'],
        ...['--select', 'count()', '--select', 'sum(size(facts.disks))'],
      )
      return rows.length === 2 ? rows : undefined
    })
    expect(groups).toEqual([
      { 'facts.system.product': 'MM-200', 'count()': 2, 'sum(size(facts.disks))': 2 },
      { 'facts.system.product': 'MM-100', 'count()': 1, 'sum(size(facts.disks))': 1 },
    ])
    const csv = await fleet.ok(
      'query',
      'true',
      '--select',
      'labels.rack',
      '--sort',
      '-labels.rack',
      '-o',
      'csv',
    )
    expect(
      csv
        .trim()
        .split('\r\n')
        .map(line => line.split(',')[2]),
    ).toEqual([...['labels.rack', 'carl', 'bert', 'anna']])
  })

  it('know the failed units that nodes told of themselves, and when certificates end', async () => {
    const rows = await waitUntil('the failed unit', async () => {
      const words = ['--select', 'node.failedUnits', '--select', 'status.certificateEnds']
      const found = await fleet.json('query', 'node.failedUnits.size() > 0', ...words)
      return found.length > 0 ? found : undefined
    })
    expect(rows).toEqual([
      expect.objectContaining({ machine: idOf('anna'), 'node.failedUnits': ['nginx.service'] }),
    ])
    expect(Date.parse(rows[0]['status.certificateEnds'])).toBeGreaterThan(Date.now())
  })

  it('never take what is not known for a no, and say which expression it was', async () => {
    const { code, stderr } = await fleet.muster('query', 'labels.nothing == "1"')
    expect(code).toBe(3)
    expect(stderr).toContain('0 match of 3 that answered, 3 were asked; for 3 it is not known')
    expect(stderr).toContain('nothing')
    const misspelt = await fleet.muster('query', 'facts.sytem.product == "x"')
    expect(misspelt.code).toBe(2)
    expect(misspelt.stderr).toContain('facts.sytem: no such field; did you mean system?')
    const wrong = await fleet.muster('query', 'true', '--select', 'sum(facts.cpu.cores) / 2')
    expect(wrong.code).toBe(2)
    expect(wrong.stderr).toMatch(/select\[0\]/)
  })
})

describe('what is shown again and again', () => {
  it('ends once nobody reads it, as `| head` does', async () => {
    const env = { MUSTER_SOCKET: fleet.socket, MUSTER_CONFIG_HOME: join(fleet.dir, 'operator') }
    const words = [programFile('muster'), 'status', '--watch', '1']
    await using program = new Program(process.execPath, words, { env })
    await waitUntil('a picture', async () => program.stdout !== '' || undefined)
    program.child.stdout?.destroy()
    expect(await program.finished).toMatchObject({ code: 0, stderr: '' })
  })

  it('is an error in words where the disk that it goes to is full', async () => {
    const script = 'exec "$0" "$1" machines -o json > /dev/full'
    const env = { MUSTER_SOCKET: fleet.socket, MUSTER_CONFIG_HOME: join(fleet.dir, 'operator') }
    const words = ['-c', script, process.execPath, programFile('muster')]
    await using program = new Program('sh', words, { env })
    const { code, stderr } = await program.finished
    expect(stderr).toMatch(/^muster: standard output: ENOSPC[^\n]*\n$/)
    expect(code).toBe(1)
  })
})

describe('questions asked live of a real fleet', () => {
  it('reach units, ports and logs, and a node that does not show its logs says so', async () => {
    const ports = await fleet.json('query', 'live.ports.exists(p, p.port == 22)', '--probe', 'ports')
    expect(ports.map(({ machine }: { machine: string }) => machine).toSorted()).toEqual(
      [...agents.values()].map(({ id }) => id).toSorted(),
    )
    const units = await fleet.ok('query', "labels.rack == 'anna'", '--probe', 'units')
    expect(units).toMatch(/HOST +NAME +LOAD +ACTIVE/)
    expect(units).toMatch(/nginx\.service +loaded +failed/)
    const logs = await fleet.muster('query', 'true', '--probe', 'journal=k3s', '-o', 'json')
    expect(JSON.parse(logs.stdout)).toEqual([
      {
        host: '',
        machine: idOf('anna'),
        'live.journal': [{ at: '2026-01-02T03:04:05.000Z', priority: 6, identifier: '', text: 'I am anna' }],
      },
    ])
    expect(logs.stderr).toContain('1 match of 3 that answered, 3 were asked; for 2 it is not known')
    expect(logs.stderr).toContain('this node does not show its logs')
  })

  it('fleet#8259, T54: name the silent, whoever is frozen or gone, and end in time with all others', async () => {
    const { agent: frozen } = agents.get('bert') ?? {}
    const { agent: gone } = agents.get('carl') ?? {}
    if (!frozen || !gone) throw new Error('the agents are not there')
    await gone.kill()
    frozen.program?.child.kill('SIGSTOP')
    try {
      const began = Date.now()
      const { code, stdout, stderr } = await fleet.muster(
        ...['query', 'true', '--live', '--deadline', '2s', '--stream', '--select', 'facts.system.product'],
      )
      expect(Date.now() - began).toBeLessThan(20_000)
      expect(code).toBe(7)
      expect(
        stdout
          .trim()
          .split('\n')
          .map(line => JSON.parse(line)),
      ).toEqual([{ host: '', machine: idOf('anna'), 'facts.system.product': 'MM-100' }])
      expect(stderr).toContain('1 match of 1 that answered, 3 were asked')
      for (const name of ['bert', 'carl']) expect(stderr).toContain(idOf(name))
    } finally {
      frozen.program?.child.kill('SIGCONT')
    }
  })
})

it('T58: the history of a machine tells a disk that was swapped, and not a boot that names disks anew', async () => {
  const { agent } = agents.get('anna') ?? {}
  if (!agent) throw new Error('the agent is not there')
  const disk = (name: string, serial: string) => ({
    name,
    serial,
    model: 'Made Up',
    bytes: 1_000_204_886_016,
    transport: 'sata' as const,
  })
  const restartWith = async (disks: readonly ReturnType<typeof disk>[]) => {
    await agent.kill()
    await writeMadeUpRoot(join(agent.dir, 'hardware'), { seed: 'anna', product: 'MM-100', disks })
    agent.start()
    const names = JSON.stringify(disks.map(one => `${one.name} ${one.serial}`).toSorted())
    await waitUntil('the new facts', async () => {
      const rows = await fleet.json(
        ...['query', "labels.rack == 'anna'", '--select', 'facts.disks.map(d, d.name + " " + d.serial)'],
      )
      const [row] = rows
      const told = row?.['facts.disks.map(d, d.name + " " + d.serial)']
      return JSON.stringify(told?.toSorted()) === names ? true : undefined
    })
  }
  await restartWith([disk('sda', 'S1'), disk('sdb', 'S2')])
  const before = await fleet.json('history', idOf('anna'))
  await restartWith([disk('sda', 'S2'), disk('sdb', 'S1')])
  expect(await fleet.json('history', idOf('anna'))).toEqual(before)
  expect((await fleet.json('history', idOf('anna'), '--all')).length).toBeGreaterThan(before.length)
  await restartWith([disk('sda', 'S3'), disk('sdb', 'S1')])
  const changes = await fleet.json('history', idOf('anna'), '--limit', '2')
  expect(
    changes.map(({ part, name, before: old, after }: Record<string, unknown>) => [
      part,
      name,
      !!old,
      !!after,
    ]),
  ).toEqual([
    ['disk', 'S2', true, false],
    ['disk', 'S3', false, true],
  ])
  expect(await fleet.ok('history', idOf('anna'))).toMatch(/disk +S2/)
})
