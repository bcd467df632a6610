import { type ChildProcess, spawn } from 'node:child_process'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { toBinary } from '@bufbuild/protobuf'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { generateSigningKey } from '../shared/envelope/keys.ts'
import { TrustChainSchema } from '../shared/gen/muster/v1/trust_pb.ts'
import { makeFirstTrustSet } from '../shared/trust/make-trust-set.ts'
import { writeArmRecord } from './safety/arm-record.ts'
import { armFolder, prepareArmFolder } from './safety/operation-folder.ts'
import { claimConfirmed, prepareClaims, readVerdict } from './safety/verdict.ts'
import { Hub, makeHubKeys } from './session/testing/hub.ts'

const children: ChildProcess[] = []
let folder: string
let hub: Hub
let configFile: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ma-'))
  hub = await Hub.start(await makeHubKeys())
  configFile = join(folder, 'agent.json')
  await writeFile(
    configFile,
    JSON.stringify({
      coordinator: hub.coordinator,
      caPin: hub.keys.authority.pin,
      stateDir: join(folder, 's'),
      socket: join(folder, 's/agent.sock'),
      console: '-',
      simulated: true,
      factsRoot: join(folder, 'hardware'),
      systemRoot: join(folder, 'root'),
      keyBits: 2048,
    }),
  )
})

afterAll(async () => {
  for (const child of children) if (child.exitCode === null) child.kill('SIGKILL')
  await hub[Symbol.asyncDispose]()
  await rm(folder, { recursive: true, force: true })
})

/** The agent as a process of its own. */
function run(...args: string[]) {
  const child = spawn(process.execPath, ['--import', 'tsx', join(import.meta.dirname, 'main.ts'), ...args])
  children.push(child)
  const texts = { stdout: '', stderr: '' }
  child.stdout.on('data', (data: Buffer) => {
    texts.stdout += data.toString()
  })
  child.stderr.on('data', (data: Buffer) => {
    texts.stderr += data.toString()
  })
  const ended = new Promise<{ code: number | null; stdout: string; stderr: string }>(resolve =>
    child.once('close', code => resolve({ code, ...texts })),
  )
  return { child, texts, ended }
}

it('runs until SIGTERM, answers on its socket, keeps a second one out, and ends with 0', async () => {
  const agent = run('--config', configFile)
  await expect.poll(() => hub.sessions.length, { timeout: 20_000 }).toBe(1)
  // The facts came from a child of the same program.
  await expect.poll(() => hub.newest?.of('facts').length, { timeout: 20_000 }).toBe(1)
  const socket = ['--socket', join(folder, 's/agent.sock')]
  const [status, second] = await Promise.all([
    run('status', ...socket).ended,
    run('run', '--config', configFile).ended,
  ])
  expect(status).toMatchObject({ code: 0, stderr: '' })
  expect(status.stdout).toMatch(/^state {8}connected$/m)
  expect(status.stdout).toMatch(/^trust set {4}none yet/m)
  expect(second.code).toBe(1)
  expect(second.stderr).toContain(`is in use by process ${agent.child.pid}`)

  const key = generateSigningKey()
  const made = makeFirstTrustSet({
    fleetId: '0123456789abcdef0123456789abcdef',
    created: new Date(),
    keys: [{ key, comment: '' }],
    threshold: 1,
    recoveryKeys: [],
    caPins: [],
    coordinators: [],
    signers: [key],
  })
  const file = join(folder, 'trust')
  await writeFile(
    file,
    toBinary(TrustChainSchema, { $typeName: 'muster.v1.TrustChain', envelopes: [made.envelope] }),
  )
  const set = await run('trust', 'set', file, ...socket).ended
  expect(set).toMatchObject({ code: 0 })
  expect(set.stdout).toContain(made.trust.digest)
  expect(JSON.parse(await readFile(join(folder, 's/trust.json'), 'utf8'))).toMatchObject({
    number: 1,
    firstUse: false,
  })

  agent.child.kill('SIGTERM')
  expect(await agent.ended).toMatchObject({ code: 0 })
  for (const line of agent.texts.stdout.trim().split('\n')) expect(JSON.parse(line)).toHaveProperty('msg')
})

it('says what is wrong on standard error and ends with 1', async () => {
  const [help, nowhere, wrong] = await Promise.all([
    run('--help').ended,
    run('status', '--socket', join(folder, 'none')).ended,
    run('--coordinator', 'hub').ended,
  ])
  expect(help).toMatchObject({ code: 0, stderr: '' })
  expect(help.stdout).toContain('muster-agent trust set FILE')
  expect(nowhere).toMatchObject({ code: 1, stdout: '' })
  expect(nowhere.stderr).toContain('no agent answers')
  expect(wrong).toMatchObject({ code: 1, stdout: '' })
  expect(wrong.stderr).toBe(
    'muster-agent: command line: coordinator: must be host:port or [IPv6]:port of the enrolment listener\n',
  )
})

it('opens the secrets of a cluster for its units, and says which one it cannot open', async () => {
  expect(await run('cluster-secrets', '--config', configFile).ended).toMatchObject({ code: 0, stderr: '' })
  const sealed = join(folder, 's/cluster/sealed')
  await mkdir(sealed, { recursive: true })
  await writeFile(join(sealed, 'token'), 'damaged')
  const failed = await run('cluster-secrets', '--config', configFile).ended
  expect(failed).toMatchObject({ code: 1, stdout: '' })
  expect(failed.stderr).toContain(`${sealed}/token: is no sealed file`)
  expect(failed.stderr).toContain('Kubernetes is not started')
})

it('settles at a boot what was armed before, also with a configuration that no agent starts with', async () => {
  const stateDir = join(folder, 'armed')
  const broken = join(folder, 'broken.json')
  await writeFile(broken, JSON.stringify({ stateDir, logLvl: 'debug' }))
  const round = armFolder(stateDir, 'op', 1)
  await prepareArmFolder(round, stateDir)
  await prepareClaims(round)
  await writeArmRecord(round, {
    operation: 'op',
    round: 1,
    mode: 'trial',
    target: '/n',
    previous: '/o',
    profile: '/o',
    generation: 1,
    bootId: 'boot-1',
    confirmMs: 1_000,
    switchMs: 1_000,
    program: ['x'],
    toolPath: '/',
    systemRoot: '/',
    units: 'processes',
  })
  await claimConfirmed(round)
  const agent = await run('run', '--config', broken).ended
  expect([agent.code, agent.stderr]).toEqual([1, expect.stringContaining('broken.json')])
  const deadMan = await run('dead-man', '--config', broken).ended
  expect([deadMan.code, deadMan.stderr]).toEqual([0, expect.stringContaining('operation op: nothing')])
})

it('has a newer program walk back what only that one can read, when a boot brings this one', async () => {
  const stateDir = join(folder, 'newer')
  const round = armFolder(stateDir, 'op', 1)
  await prepareArmFolder(round, stateDir)
  await prepareClaims(round)
  const newer = {
    v: 2,
    operation: 'op',
    round: 1,
    mode: 'trial',
    target: '/n',
    previous: '/o',
    way: ['unheard', 'of'],
    // Says how it was started.
    program: ['/bin/sh', '-c', 'echo "$@"', 'newer'],
    toolPath: '/bin',
    systemRoot: '/',
    units: 'processes',
  }
  await writeFile(join(round.path, 'arm.json'), JSON.stringify(newer))
  const deadMan = await run('dead-man', '--config', join(folder, 'none.json'), '--state-dir', stateDir).ended
  expect([deadMan.code, deadMan.stderr]).toEqual([
    0,
    expect.stringContaining(
      'a newer agent wrote it (v: 2, this one knows 1): the program that wrote it walks back',
    ),
  ])
  expect(await readVerdict(round)).toEqual({ kind: 'returned', claim: { by: 'boot' } })
  const words = ['return', '--state-dir', stateDir, '--operation', 'op', '--round', '1'].join('","')
  await expect
    .poll(() => readFile(join(stateDir, 'units/muster-return-op-1.log'), 'utf8'), { timeout: 10_000 })
    .toContain(words)
  const limit = await run('trial-limit', '--config', join(folder, 'none.json'), '--state-dir', stateDir).ended
  expect(limit.code).toBe(0)
})
