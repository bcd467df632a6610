// The commands of clusters, against a real gRPC server whose clusters are scripted, with real keys, signatures and files.
import { generateKeyPairSync } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ClusterRole, SecretPurpose } from '../shared/gen/muster/v1/cluster_pb.ts'
import { MachineState } from '../shared/gen/muster/v1/machine_pb.ts'
import { readOrder } from '../shared/operator-order/operator-order.ts'
import { unavailable } from '../shared/rpc/rpc-error.ts'
import { sealSecret } from '../shared/sealing/seal-secret.ts'
import { SecretBytes } from '../shared/sealing/secret-bytes.ts'
import { keyId } from '../shared/x509/key-id.ts'
import { NAMES_WITHIN_MS } from './completion/quick-names.ts'
import { exitCodes } from './exit-codes.ts'
import { HAZARDOUS } from './testing/hazardous.ts'
import { type Ran, type RunOptions, runMuster } from './testing/run-muster.ts'
import { openAct, sampleAct, sampleHost } from './testing/small-clusters.ts'
import { type SmallCoordinator, sampleMachine, startSmallCoordinator } from './testing/small-coordinator.ts'
import { plannedHost, sampleRollout } from './testing/small-rollouts.ts'

let coordinator: SmallCoordinator
let home: string
let dir: string

/** The machine key of the cluster's only server. */
const server = generateKeyPairSync('rsa', { modulusLength: 2048 })
const serverId = keyId(server.publicKey.export({ format: 'der', type: 'spki' }))
const stranger = generateKeyPairSync('rsa', { modulusLength: 2048 })

const muster = (words: readonly string[], options: RunOptions = {}): Promise<Ran> =>
  runMuster(words, { ...options, settings: { socket: coordinator.socket, configHome: join(home, 'config') } })
const run = (...words: string[]) => muster(words)
const requests = () => coordinator.clusters.requests
const parse = (text: string): unknown => JSON.parse(text)

beforeEach(async () => {
  coordinator = await startSmallCoordinator()
  home = await mkdtemp(join(tmpdir(), 'muster-home-'))
  dir = join(home, 'fleet')
  const [olaf] = coordinator.clusters.hosts.get('home') ?? []
  if (olaf) olaf.machine = serverId
  coordinator.machines[0] = sampleMachine({ id: serverId })
  coordinator.machines.push(sampleMachine({ id: 'cd'.repeat(32), host: 'anna' }))
})
afterEach(async () => {
  await coordinator[Symbol.asyncDispose]()
  await rm(home, { recursive: true, force: true })
})

/** A published fleet whose manifest names olaf's machine as the cluster's server. */
async function publishFleet(machine = serverId, life = 'apart'): Promise<void> {
  await run('init', dir, '--name', 'home')
  const file = join(dir, 'fleet.toml')
  await writeFile(
    file,
    `${await readFile(file, 'utf8')}
[clusters.home]
distribution = "k3s"
version = "1.34.3"
life = "${life}"

[hosts.olaf]
role = "server+worker"
cluster = "home"
address = "10.0.0.2"
prefix-length = 24
gateway = "10.0.0.1"
interface = "eth0"
machine = "${machine}"

[hosts.anna]
role = "worker"
cluster = "home"
address = "10.0.0.3"
prefix-length = 24
gateway = "10.0.0.1"
interface = "eth0"
`,
  )
  const [fleetId] = await readdir(join(home, 'config/fleets'))
  await run('trust', 'set', join(home, 'config/fleets', fleetId ?? '', 'trust.bin'))
  const published = await run('publish', dir)
  expect(published.err).not.toContain('error')
  expect(published.code).toBe(0)
}

describe('clusters', () => {
  it('lists them with their voters and how many hosts have joined', async () => {
    const { code, out } = await run('clusters')
    expect(code).toBe(0)
    expect(out).toMatch(/^CLUSTER +DISTRIBUTION +STANDING +JOINED +VOTERS +FIRST SERVER\n/)
    expect(out).toMatch(/home +k3s +founded +2 of 3 +2 of 3 healthy +olaf/)
    expect(parse((await run('clusters', '-o', 'json')).out)).toMatchObject([
      { name: 'home', standing: 'founded', voters: 3, healthyVoters: 2, joined: 2 },
    ])
    expect((await run('clusters', '-o', 'yaml')).out).toContain('standing: founded')
    coordinator.clusters.summaries.splice(0)
    expect(await run('clusters')).toMatchObject({ out: '', err: expect.stringContaining('[clusters.NAME]') })
  })

  it('shows one with its hosts, what each waits for, and what was asked of it', async () => {
    coordinator.clusters.acts.push(
      openAct({ reason: 'the members are counted anew' }),
      sampleAct({ act: 'snapshot', host: '' }, { done: false, class: 'quorum', reason: '1 of 3 voters' }),
    )
    coordinator.clusters.waitsFor.push('no server of the cluster is connected')
    const [host] = coordinator.clusters.hosts.get('home') ?? []
    if (host) host.cordonedBy = 'act-1'
    const { out } = await run('cluster', 'show', 'home')
    expect(out).toMatch(/voters +2 of 3 healthy/)
    expect(out).toMatch(/manifests +those of revision 6, the newest is 7: they are brought by a server/)
    expect(out).toContain('\nno server of the cluster is connected\n')
    expect(out).toMatch(/olaf +server\+worker +yes +ready, cordoned +1\.34\.3/)
    expect(out).toMatch(/ida +server\+worker +no +- +- +- +no machine is bound to it/)
    expect(out).toMatch(/drain +olaf +under way +olaf +ann +waits: the members are counted anew/)
    expect(out).toMatch(/snapshot +- +not done +olaf +ann +quorum: 1 of 3 voters/)
    if (host) Object.assign(host, { role: ClusterRole.SERVER, withoutNode: true, cordonedBy: '' })
    expect((await run('cluster', 'show', 'home')).out).toMatch(/olaf +server +yes +none +1\.34\.3/)
    if (host) host.ready = false
    expect((await run('cluster', 'show', 'home')).out).toContain('none, API server not ready')
    if (host)
      Object.assign(host, {
        role: ClusterRole.SERVER_AND_WORKER,
        ready: true,
        withoutNode: false,
        cordonedBy: 'act-1',
      })
    expect(parse((await run('cluster', 'show', 'home', '-o', 'json')).out)).toMatchObject({
      name: 'home',
      hosts: [
        { host: 'olaf', role: 'server-and-worker', version: '1.34.3' },
        { host: 'anna' },
        { host: 'ida' },
      ],
      acts: [
        { act: 'drain', done: null },
        { act: 'snapshot', done: false, class: 'quorum' },
      ],
    })
    expect((await run('cluster', 'show', 'away')).code).toBe(exitCodes.notFound.code)
  })

  it('brings no hostile text onto the terminal', async () => {
    const hostile = '\u001b[2J\u202eevil\u0007'
    coordinator.clusters.hosts.set('home', [sampleHost({ version: hostile, waitsFor: [hostile] })])
    coordinator.clusters.waits.push(hostile)
    coordinator.clusters.answer = () => ({ done: false, class: 'command', reason: hostile })
    for (const words of [
      ['cluster', 'show', 'home'],
      ['cluster', 'show', 'home', '-o', 'json'],
      ['drain', 'olaf'],
      ['cluster', 'snapshots', 'home'],
    ]) {
      const { out, err } = await run(...words)
      expect((out + err).replaceAll('\n', '')).not.toMatch(HAZARDOUS)
    }
  })

  it('completes the names of clusters and hosts', async () => {
    expect((await run('__complete', '--', 'cluster', 'show', 'h')).out).toBe('home\n')
    expect((await run('__complete', '--', 'drain', 'a')).out).toBe('anna\n')
    expect((await run('__complete', '--', 'drain', 'x', '--cluster', '')).out).toBe('home\n')
    expect((await run('__complete', '--', 'cluster', 'snapshot', 'home', '--on', 'o')).out).toBe('olaf\n')
    expect((await run('__complete', '--', 'cluster', 'rotate', 'home', 'c')).out).toBe('certificates\n')
  })

  it('completes without the names that a coordinator tells later than anybody waits at the prompt', async () => {
    coordinator.clusters.answersAfterMs = 3 * NAMES_WITHIN_MS
    const { code, out, err } = await run('__complete', '--', 'cluster', 'show', 'h')
    expect({ code, out, err }).toEqual({ code: 0, out: '', err: '' })
    coordinator.clusters.answersAfterMs = 0
    expect((await run('__complete', '--', 'cluster', 'show', 'h')).out).toBe('home\n')
  })
})

describe('adopt', () => {
  it('tells what it would take in, and takes it in', async () => {
    const dry = await run('cluster', 'adopt', 'home', '--dry-run')
    expect(dry).toMatchObject({
      code: 0,
      out: expect.stringMatching(/would adopt +home[\s\S]*hosts +olaf, anna/),
    })
    const { out } = await run('cluster', 'adopt', 'home')
    expect(out).toContain('Nothing was restarted')
    expect(dry.err).toContain('warning: node x is no host of the fleet file')
    expect(coordinator.clusters.adoptions).toEqual([
      { name: 'home', dryRun: true },
      { name: 'home', dryRun: false },
    ])
  })

  it('names everything that is in the way, each on a line', async () => {
    coordinator.clusters.refusal =
      'olaf has another authority than anna\nmember x is no server of the fleet file'
    const { code, err } = await run('cluster', 'adopt', 'home')
    expect(code).toBe(exitCodes.refused.code)
    expect(err).toContain('than anna\nmember x')
  })
})

describe('drain', () => {
  it('says what it waits for, once for each change, and ends with what was done', async () => {
    coordinator.clusters.waits.push('the API is away', 'the API is away', 'its turn')
    coordinator.clusters.answer = () => ({ done: true, value: { case: 'text', value: '3 pods evicted' } })
    const { code, out, err } = await run('drain', 'olaf', '--limit', '5m', '--delete-emptydir-data')
    expect({ code, out }).toEqual({ code: 0, out: 'olaf: drain: 3 pods evicted\n' })
    expect(err.split('\n')).toEqual([
      'olaf: drain: olaf does it',
      'olaf: drain: waits: the API is away',
      'olaf: drain: waits: its turn',
      'olaf: drain: 3 pods evicted',
      '',
    ])
    expect(requests()).toMatchObject([
      {
        act: 'drain',
        host: 'olaf',
        cluster: 'home',
        drain: { limit: { seconds: 300n }, deleteEmptyDir: true, deleteUnmanaged: false },
      },
    ])
  })

  it('names the pods in the way, one on a line, and what becomes of the cordon', async () => {
    coordinator.clusters.answer = () => ({
      done: false,
      class: 'blocked',
      reason:
        'node olaf is not drained within 600 s: pod a/web-1: Cannot evict: budget; wait; pod b/db: it has not ended yet; and 3 more',
    })
    const { code, err, out } = await run('drain', 'olaf')
    expect({ code, out }).toEqual({ code: exitCodes.failed.code, out: '' })
    expect(err).toContain(
      'in the way:\n  pod a/web-1: Cannot evict: budget; wait\n  pod b/db: it has not ended yet\n  and 3 more\nThe cordon stays',
    )
    const json = await run('drain', 'olaf', '-o', 'json')
    expect(parse(json.out)).toMatchObject({ act: 'drain', done: false, class: 'blocked' })
    expect(json.code).toBe(exitCodes.failed.code)
  })

  it('is one act, also when the answer to it was lost', async () => {
    coordinator.clusters.loseAnswer = () => {
      throw unavailable('the coordinator goes away')
    }
    expect((await run('cordon', 'olaf')).code).toBe(0)
    expect(requests()).toHaveLength(1)
  })

  it('names hosts by the start of their machine’s id as well, and says when there is none', async () => {
    expect((await run('uncordon', 'cdcd')).code).toBe(0)
    expect(requests()).toMatchObject([{ act: 'uncordon', host: 'anna' }])
    const none = await run('drain', 'nobody')
    expect(none).toMatchObject({
      code: exitCodes.notFound.code,
      err: expect.stringContaining('muster clusters'),
    })
  })

  it('goes on after the waiting ended: by its time, by a signal, by --no-wait', async () => {
    coordinator.clusters.answer = () => undefined
    const late = await run('drain', 'olaf', '--timeout', '1s')
    expect(late).toMatchObject({
      code: exitCodes.unavailable.code,
      err: expect.stringContaining('it goes on; look with `muster cluster show home`'),
    })
    const stop = new AbortController()
    const stopped = await muster(['drain', 'olaf'], { signal: stop.signal, onErr: () => stop.abort() })
    expect(stopped.code).toBe(exitCodes.interrupted.code)
    const ordered = await run('drain', 'olaf', '--no-wait', '-o', 'json')
    expect(ordered.code).toBe(0)
    expect(parse(ordered.out)).toMatchObject({ act: 'drain', ended: null, done: null })
  })
})

describe('leave and rejoin', () => {
  it('gives an order that the operator signed for this node and this machine alone', async () => {
    await publishFleet()
    const { code } = await run('leave', 'olaf')
    expect(code).toBe(0)
    const [request] = requests()
    const order = readOrder(request?.signedOrder?.payload ?? new Uint8Array())
    expect(order).toMatchObject({
      ok: true,
      order: { act: 'leave', cluster: 'home', node: 'olaf', machine: serverId, dead: false },
    })
    expect((await run('rejoin', 'olaf')).code).toBe(0)
    expect(requests()[1]).toMatchObject({ act: 'return', host: 'olaf' })
  })

  it('has a machine wiped before it comes back, where that is asked for: signed, and with its copies kept', async () => {
    await publishFleet()
    expect((await run('rejoin', 'olaf', '--wipe')).code).toBe(0)
    const [request] = requests()
    expect(request).toMatchObject({ act: 'wipe', host: 'olaf', parameter: 'keep-snapshots' })
    expect(readOrder(request?.signedOrder?.payload ?? new Uint8Array())).toMatchObject({
      ok: true,
      order: { act: 'wipe', node: 'olaf', machine: serverId, parameter: 'keep-snapshots' },
    })
    const { code, err } = await run('rejoin', 'olaf', '--wipe', '--no-wait')
    expect(code).toBe(exitCodes.usage.code)
    expect(err).toContain('--no-wait')
  })

  it('signs nothing about a machine that the signed revision does not have there', async () => {
    await publishFleet('ef'.repeat(32))
    const { code, err } = await run('leave', 'olaf')
    expect(code).toBe(exitCodes.refused.code)
    expect(err).toContain('the newest revision names efef')
    expect(requests()).toEqual([])
  })

  it('is refused without a signing key of the trust set', async () => {
    await publishFleet()
    const other = join(home, 'other.key')
    const { privateKey } = generateKeyPairSync('ed25519')
    await writeFile(other, privateKey.export({ format: 'pem', type: 'pkcs8' }), { mode: 0o600 })
    const { code, err } = await run('leave', 'olaf', '--key', other)
    expect(code).toBe(exitCodes.refused.code)
    expect(err).toContain('muster trust show')
    expect(requests()).toEqual([])
  })
})

describe('a host that was taken out of fleet.toml', () => {
  it('is still taken out of its cluster, which is named', async () => {
    await publishFleet()
    expect((await run('leave', 'otto', '--dead')).err).toContain('--cluster NAME')
    const alive = await run('leave', 'otto', '--cluster', 'home')
    expect(alive).toMatchObject({ code: exitCodes.refused.code, err: expect.stringContaining('--dead') })
    expect((await run('leave', 'otto', '--cluster', 'home', '--dead')).code).toBe(0)
    expect((await run('remove', 'otto', '--cluster', 'home', '--dead')).code).toBe(0)
    expect(requests()).toMatchObject([{ act: 'leave', host: 'otto', cluster: 'home', dead: true }])
  })
})

describe('remove', () => {
  it('drains, leaves, wipes and evicts, and says at each step what is done and what is left', async () => {
    await publishFleet()
    const { code, err, out } = await run('remove', 'anna', '--wipe')
    expect(code).toBe(0)
    expect(requests().map(({ act }) => act)).toEqual(['drain', 'leave', 'wipe'])
    expect(coordinator.machines[1]?.state).toBe(MachineState.EVICTED)
    expect(err).toContain('anna: left to do: drain, leave, wipe, evict')
    expect(err).toContain('Take [hosts.anna] out of fleet.toml')
    expect(out).toMatch(/drain +needless +it has left\nleave +done[^\n]*\nwipe +done[^\n]*\nevict +done/)
    // Of a host outside of clusters nothing is left once its machine is evicted.
    coordinator.machines.push(sampleMachine({ id: 'ef'.repeat(32), host: 'lone' }))
    expect(await run('remove', 'lone')).toMatchObject({
      code: 0,
      out: expect.stringMatching(/evict +done/),
      err: expect.stringContaining('lone is removed. Take [hosts.lone] out of fleet.toml'),
    })
    const again = await run('remove', 'anna', '--wipe')
    expect(again).toMatchObject({ code: 0, err: expect.stringContaining('nothing is left to do') })
    expect(requests()).toHaveLength(3)
  })

  it('goes on where it was cut off', async () => {
    await publishFleet()
    coordinator.clusters.answer = ({ act }) =>
      act === 'leave' ? { done: false, class: 'quorum', reason: '1 of 3 voters is healthy' } : { done: true }
    const cut = await run('remove', 'olaf')
    expect(cut.code).toBe(exitCodes.refused.code)
    expect(cut.err).toContain('Left to do: leave, evict. `muster remove olaf` goes on there.')
    expect(coordinator.machines[0]?.state).toBe(MachineState.ACTIVE)
    coordinator.clusters.answer = () => ({ done: true })
    expect(await run('remove', 'olaf')).toMatchObject({
      code: 0,
      err: expect.stringContaining('olaf: left to do: drain, leave, evict'),
    })
    expect(requests().map(({ act }) => act)).toEqual(['drain', 'leave', 'drain', 'leave'])
  })

  it('of a machine that is gone has a server take it out', async () => {
    await publishFleet()
    expect((await run('remove', 'anna', '--dead')).code).toBe(exitCodes.refused.code)
    const [, anna] = coordinator.machines
    if (anna) anna.online = false
    expect((await run('remove', 'anna')).err).toContain('--dead if it is gone for good')
    expect((await run('remove', 'anna', '--dead', '--wipe')).code).toBe(exitCodes.usage.code)
    expect((await run('remove', 'anna', '--dead')).code).toBe(0)
    expect(requests()).toMatchObject([{ act: 'leave', host: 'anna', dead: true }])
  })

  it('names the pods in the way, and takes nothing from the machine then', async () => {
    coordinator.clusters.answer = () => ({
      done: false,
      class: 'blocked',
      reason: 'node olaf is not drained: pod a/web: no budget',
    })
    const { code, err } = await run('remove', 'olaf')
    expect(code).toBe(exitCodes.failed.code)
    expect(err).toContain('  pod a/web: no budget')
    expect(err).toContain('Left to do: drain, leave, evict')
    expect(coordinator.machines[0]?.state).toBe(MachineState.ACTIVE)
  })
})

describe('snapshots', () => {
  const made = timestampFromMs(Date.now() - 3_600_000)
  const snapshot = { name: 'before-1-35', path: '/var/lib/x', bytes: 2048n, made }
  beforeEach(() => {
    coordinator.clusters.answer = () => ({
      done: true,
      value: { case: 'snapshots', value: { snapshots: [snapshot] } },
    })
  })

  it('are made on a server, and listed over all that have joined', async () => {
    const one = await run('cluster', 'snapshot', 'home', '--name', 'before-1-35')
    expect(one.out).toMatch(/olaf +before-1-35 +1h/)
    expect((await run('cluster', 'snapshot', 'home', '--name', '../x')).code).toBe(exitCodes.usage.code)
    const { out } = await run('cluster', 'snapshots', 'home', '-o', 'json')
    expect(parse(out)).toMatchObject([{ host: 'olaf', name: 'before-1-35', bytes: 2048 }])
    // A worker holds none, and one that has not joined is no server yet.
    expect(requests().map(({ act, host }) => [act, host])).toEqual([
      ['snapshot', ''],
      ['snapshots', 'olaf'],
    ])
  })

  it('are restored only with --yes, by a signed order, after it was said what is lost', async () => {
    await publishFleet()
    const asked = await run('cluster', 'restore', 'home', 'before-1-35')
    expect(asked.code).toBe(exitCodes.refused.code)
    expect(asked.err).toContain('everything that was changed in Kubernetes since it was made is lost')
    expect(asked.err).toContain('olaf becomes the only server')
    expect(requests().map(({ act }) => act)).toEqual(['snapshots'])
    expect((await run('cluster', 'restore', 'home', 'none', '--yes')).code).toBe(exitCodes.notFound.code)
    expect((await run('cluster', 'restore', 'home', 'before-1-35', '--yes')).code).toBe(0)
    expect(requests().at(-1)).toMatchObject({ act: 'restore', host: 'olaf', parameter: 'before-1-35' })
  })

  it('are looked for on servers that were installed anew, too, and what a restore there means is said', async () => {
    await publishFleet()
    const hosts = coordinator.clusters.hosts.get('home') ?? []
    const [olaf] = hosts
    if (!olaf) throw new Error('the sample has a server')
    olaf.joined = false
    hosts.push(sampleHost({ host: 'otto', machine: 'ef'.repeat(32) }))
    coordinator.clusters.answer = ({ host, act }) =>
      act === 'snapshots' && host === 'otto'
        ? { done: false, class: 'away', reason: 'its machine is not connected' }
        : { done: true, value: { case: 'snapshots', value: { snapshots: [snapshot] } } }
    const asked = await run('cluster', 'restore', 'home', 'before-1-35')
    expect(asked.code).toBe(exitCodes.refused.code)
    expect(asked.err).toContain(
      'would be brought back from snapshot before-1-35 on olaf, which has nothing of it: everything that was changed in Kubernetes since',
    )
    expect(asked.err).toContain(
      "otto had the cluster's data when last heard, and must be lost for good, or off",
    )
    expect((await run('cluster', 'restore', 'home', 'before-1-35', '--yes')).code).toBe(0)
    expect(requests().at(-1)).toMatchObject({ act: 'restore', host: 'olaf' })
    for (const host of hosts) host.machine = ''
    for (const host of hosts) host.joined = false
    expect((await run('cluster', 'snapshots', 'home')).err).toContain('no machine is bound to a server of it')
  })

  it('of servers that do not answer are missing, by name', async () => {
    coordinator.clusters.hosts.get('home')?.push(sampleHost({ host: 'otto', machine: 'ef'.repeat(32) }))
    coordinator.clusters.answer = ({ host }) =>
      host === 'otto'
        ? { done: false, class: 'unreadable', reason: 'the folder cannot be read' }
        : { done: true, value: { case: 'snapshots', value: { snapshots: [snapshot] } } }
    const { code, err } = await run('cluster', 'snapshots', 'home')
    expect(code).toBe(exitCodes.partial.code)
    expect(err).toContain('otto: snapshots: unreadable: the folder cannot be read')
  })
})

describe('certificates and tokens', () => {
  it('tells when certificates end, those that end first in colour', async () => {
    coordinator.clusters.answer = () => ({
      done: true,
      value: {
        case: 'certificates',
        value: {
          certificates: [
            { path: '/pki/a.crt', subject: 'CN=a', notAfter: timestampFromMs(Date.now() + 86_400_000 * 90) },
            {
              path: '/pki/ca.crt',
              subject: 'CN=ca',
              notAfter: timestampFromMs(Date.now() - 86_400_000),
              authority: true,
            },
          ],
        },
      },
    })
    const { out } = await run('cluster', 'certificates', 'home')
    expect(out).toMatch(/olaf +in 89d +- +CN=a +\/pki\/a\.crt/)
    expect(out).toMatch(/anna +1d ago +yes +CN=ca/)
    expect(requests().map(({ host }) => host)).toEqual(['olaf', 'anna'])
  })

  it('makes certificates anew host by host, servers first, and stops where one fails', async () => {
    await publishFleet()
    coordinator.clusters.hosts.get('home')?.reverse()
    expect((await run('cluster', 'rotate', 'home', 'certificates')).code).toBe(0)
    expect(requests().map(({ host, parameter }) => [host, parameter])).toEqual([
      ['olaf', 'certificates'],
      ['anna', 'certificates'],
    ])
    coordinator.clusters.answer = () => ({ done: false, class: 'command', reason: 'it failed' })
    const failed = await run('cluster', 'rotate', 'home', 'certificates')
    expect(failed).toMatchObject({
      code: exitCodes.failed.code,
      err: expect.stringContaining('No further host was touched'),
    })
    expect(requests()).toHaveLength(3)
    coordinator.clusters.answer = () => ({ done: true })
    const both = await run('cluster', 'rotate', 'home', '-o', 'json')
    expect(both.code).toBe(0)
    expect(parse(both.out)).toMatchObject([{ host: '' }, { host: 'olaf' }, { host: 'anna' }])
    expect((await run('cluster', 'rotate', 'home', 'everything')).code).toBe(exitCodes.usage.code)
  })

  it('brings manifests, an empty set only when it is meant', async () => {
    expect((await run('cluster', 'manifests', 'home', '--allow-empty')).code).toBe(0)
    expect(requests()).toMatchObject([{ act: 'manifests', allowEmpty: true }])
  })
})

const KUBECONFIG = `apiVersion: v1
kind: Config
clusters:
- name: home
  cluster: { server: "https://10.0.0.2:6443", certificate-authority-data: QUJD }
contexts: []
users:
- name: admin
  user: { client-certificate-data: QUJD, client-key-data: QUJD }
`

/** Answers as a server does, sealing to the key of the signed order. */
function sealing(text = KUBECONFIG, by = server, change: { cluster?: string } = {}) {
  coordinator.clusters.answer = (request, act) => {
    const read = readOrder(request.signedOrder?.payload ?? new Uint8Array())
    if (!read.ok) return { done: false, class: 'order-malformed', reason: read.reason }
    const { fleetId, recipientKey } = read.order
    const mintedMs = Date.now()
    const sealed = sealSecret({
      binding: {
        purpose: SecretPurpose.KUBECONFIG,
        fleetId,
        cluster: change.cluster ?? request.cluster,
        role: ClusterRole.UNSPECIFIED,
        operationId: act.id,
        mintedMs,
        expiresMs: mintedMs + 600_000,
      },
      secret: new SecretBytes(Buffer.from(text)),
      recipientKey,
      minterKey: by.privateKey,
    })
    return { done: true, value: { case: 'kubeconfig', value: sealed } }
  }
}

describe('kubeconfig', () => {
  it('is written to standard output, or to a new file for its owner alone', async () => {
    await publishFleet()
    sealing()
    const { code, out } = await run('cluster', 'kubeconfig', 'home', '--server', '10.0.0.9:6443')
    expect({ code, out }).toEqual({ code: 0, out: KUBECONFIG })
    expect(requests()).toMatchObject([{ act: 'kubeconfig', serverAddress: '10.0.0.9:6443' }])
    const file = join(home, 'kubeconfig')
    const written = await run('cluster', 'kubeconfig', 'home', '--out', file)
    expect(written).toMatchObject({ code: 0, out: '' })
    expect(await readFile(file, 'utf8')).toBe(KUBECONFIG)
    expect((await stat(file)).mode & 0o777).toBe(0o600)
    expect((await run('cluster', 'kubeconfig', 'home', '--out', file)).code).toBe(exitCodes.conflict.code)
    const nowhere = await run('cluster', 'kubeconfig', 'home', '--out', join(home, 'no-folder', 'file'))
    expect(nowhere.code).toBe(exitCodes.notFound.code)
    // Nobody was made an administrator for what could not be kept.
    expect(requests()).toHaveLength(2)
    expect((await run('cluster', 'kubeconfig', 'home', '--out', file, '--force')).code).toBe(0)
    expect((await stat(file)).mode & 0o777).toBe(0o600)
  })

  it('is believed only from a machine that the signed revision names as a server', async () => {
    await publishFleet()
    sealing(KUBECONFIG, stranger)
    const { code, out, err } = await run('cluster', 'kubeconfig', 'home')
    expect({ code, out }).toEqual({ code: exitCodes.refused.code, out: '' })
    expect(err).toContain('no server of this cluster by the signed manifest')
    sealing(KUBECONFIG, server, { cluster: 'away' })
    expect((await run('cluster', 'kubeconfig', 'home')).err).toContain('the secret is of cluster away')
  })

  it('that would have kubectl run a program is refused', async () => {
    await publishFleet()
    sealing(KUBECONFIG.replace('user: {', 'user: { exec: { command: evil },'))
    const { code, out, err } = await run('cluster', 'kubeconfig', 'home')
    expect({ code, out }).toEqual({ code: exitCodes.refused.code, out: '' })
    expect(err).toContain('"exec"')
  })

  it('that somebody else fetched is asked for again', async () => {
    await publishFleet()
    expect((await run('cluster', 'kubeconfig', 'home')).code).toBe(exitCodes.conflict.code)
  })

  it('is not asked for while the revision names no key of a server', async () => {
    await publishFleet()
    coordinator.loseRevisions()
    const file = join(dir, 'fleet.toml')
    await writeFile(file, (await readFile(file, 'utf8')).replace(/^machine = .*$/m, ''))
    await run('publish', dir)
    const { code, err } = await run('cluster', 'kubeconfig', 'home')
    expect(code).toBe(exitCodes.refused.code)
    expect(err).toContain('muster bind --all')
    expect(requests()).toEqual([])
    expect((await run('cluster', 'kubeconfig', 'away')).code).toBe(exitCodes.notFound.code)
  })
})

describe('upgrade', () => {
  const upgrade = (...words: string[]) => run('cluster', 'upgrade', 'home', ...words)
  const behind = () => {
    for (const host of coordinator.clusters.hosts.get('home') ?? []) if (host.joined) host.version = '1.33.9'
  }

  it('names the line of fleet.toml that says another version', async () => {
    await publishFleet()
    const { code, err } = await upgrade('1.35.4', '-d', dir)
    const lines = (await readFile(join(dir, 'fleet.toml'), 'utf8')).split('\n')
    const line = lines.indexOf('version = "1.34.3"') + 1
    expect(code).toBe(exitCodes.refused.code)
    expect(err).toContain(
      `revision 1 says 1.34.3, not 1.35.4: write version = "1.35.4" at ${dir}/fleet.toml:${line} `,
    )
    expect((await upgrade('1.35.4', '-d', home)).err).toContain('[clusters.home] in fleet.toml')
    expect((await upgrade('newest')).code).toBe(exitCodes.usage.code)
  })

  it('shows the order and what would hold it, and moves nothing with --dry-run', async () => {
    await publishFleet()
    behind()
    coordinator.rollouts.planned.push(plannedHost('olaf', ['1 of 3 voters is healthy']))
    const { code, out, err } = await upgrade('1.34.3', '--dry-run')
    expect(code).toBe(0)
    expect(out).toMatch(/1 +olaf +server +1\.33\.9 +1\.34\.3 +moves +1 of 3 voters is healthy\n/)
    expect(out).toMatch(/2 +anna +worker +1\.33\.9 +1\.34\.3 +moves/)
    expect(out).toMatch(/- +ida +server +- +1\.34\.3 +has not joined/)
    expect(err).toContain('nothing was moved')
    expect(coordinator.rollouts.requests).toMatchObject([{ dryRun: true, refs: ['olaf', 'anna'] }])
  })

  it('is a rollout, told host by host; what is left goes on with the same command', async () => {
    await publishFleet()
    behind()
    coordinator.rollouts.failures.set('anna', 'its node is not Ready')
    const cut = await upgrade('1.34.3')
    expect(cut.code).toBe(exitCodes.partial.code)
    for (const line of ['olaf: drain', 'olaf: done', 'anna: drain', 'anna: failed: its node is not Ready'])
      expect(cut.err).toContain(`${line}\n`)
    expect(cut.out).toMatch(
      /- +olaf [^\n]* runs it[^\n]*\n2 +anna [^\n]* moves +failed: its node is not Ready/,
    )
    const [olaf] = coordinator.clusters.hosts.get('home') ?? []
    if (olaf) olaf.version = '1.34.3'
    coordinator.rollouts.failures.clear()
    expect((await upgrade('1.34.3')).code).toBe(0)
    expect(coordinator.rollouts.requests).toMatchObject([
      { action: 'upgrade', revision: 1n, refs: ['olaf', 'anna'], dryRun: false },
      { refs: ['anna'] },
    ])
  })

  it('follows what is under way already instead of beginning it twice', async () => {
    await publishFleet()
    behind()
    coordinator.rollouts.rollouts.push(sampleRollout(['olaf', 'anna']))
    const { code, err } = await upgrade('1.34.3')
    expect(code).toBe(0)
    expect(err).toContain('of ann does this already; it is followed')
    expect(coordinator.rollouts.requests).toEqual([])
  })

  it('moves nothing over a minor, nor where everything is there already', async () => {
    await publishFleet()
    expect(await upgrade('1.34.3')).toMatchObject({
      code: 0,
      err: expect.stringContaining('every host that has joined runs 1.34.3'),
    })
    for (const host of coordinator.clusters.hosts.get('home') ?? []) if (host.joined) host.version = '1.32.0'
    const { code, err } = await upgrade('1.34.3')
    expect(code).toBe(exitCodes.refused.code)
    expect(err).toContain('  olaf runs 1.32.0; go to 1.33 before 1.34.3')
    expect(coordinator.rollouts.requests).toEqual([])
  })

  it('moves the systems where Kubernetes comes with them', async () => {
    await publishFleet(serverId, 'with-system')
    behind()
    expect((await upgrade('1.34.3')).code).toBe(0)
    expect(coordinator.rollouts.requests).toMatchObject([{ action: 'apply' }])
  })
})
