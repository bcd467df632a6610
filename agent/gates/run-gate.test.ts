import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type RequestListener, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { type AddressInfo, connect, createServer as createTcpServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it, onTestFinished } from 'vitest'
import { pause } from '../../shared/lifecycle.ts'
import type { GateProbe } from '../../shared/revision/safety.ts'
import { ScriptedSystem } from '../operation/testing/scripted-system.ts'
import { createRealSystem } from '../system/real-system.ts'
import type { System } from '../system/system.ts'
import { runGate } from './run-gate.ts'

// Real servers on loopback, real processes, real files. Where this machine has no systemd or no ping, a scripted System
// answers with what those programs were seen to print.

const folder = mkdtempSync(join(tmpdir(), 'muster-gates-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
// A label longer than any may be: refused before anybody is asked, so that nothing leaves this machine.
const unknownHost = `${'x'.repeat(64)}.invalid`
const treeDir = join(folder, 'tree')
mkdirSync(join(treeDir, 'checks'), { recursive: true })

const real = createRealSystem({ root: '/', path: '/usr/bin:/bin' })

async function ask(
  probe: GateProbe,
  {
    system = real,
    deadlineMs = 5_000,
    signal = new AbortController().signal,
    tree = treeDir,
  }: {
    system?: System
    deadlineMs?: number
    signal?: AbortSignal
    tree?: string
  } = {},
) {
  const deps = { system, treeDir: tree, nowMs: () => performance.now() }
  return await runGate(deps, { name: 'web', deadlineMs, probe }, signal)
}

/** The port of a server that ends with the test. */
async function listen(server: Server | ReturnType<typeof createTcpServer>): Promise<number> {
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    if ('closeAllConnections' in server) server.closeAllConnections()
    server.close()
  })
  // What listens on TCP has an address of this kind.
  return (server.address() as AddressInfo).port
}

/** A port whose queue is full, of a process that takes nothing from it: whoever connects now hears nothing. */
async function deafPort(): Promise<number> {
  const program =
    "require('net').createServer().listen({port:0,host:'127.0.0.1',backlog:1},function(){console.log(this.address().port)})"
  const child = spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [line] = await once(child.stdout, 'data')
  child.kill('SIGSTOP')
  const port = Number(String(line).trim())
  const fillers = Array.from({ length: 8 }, () => connect({ host: '127.0.0.1', port }).on('error', () => {}))
  onTestFinished(() => {
    for (const filler of fillers) filler.destroy()
    child.kill('SIGKILL')
  })
  await pause(300)
  return port
}

async function closedPort(): Promise<number> {
  const server = createTcpServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise(resolve => server.close(resolve))
  return port
}

describe('a gate that asks a URL', () => {
  const http = (url: string, more: { status?: number; contains?: string } = {}): GateProbe => ({
    kind: 'http',
    url,
    status: more.status,
    contains: more.contains,
  })
  const serve = async (listener: RequestListener) =>
    `http://127.0.0.1:${await listen(createServer(listener))}/x`

  it.each([
    [200, undefined, 'healthy'],
    [204, undefined, 'healthy'],
    [302, undefined, 'healthy'],
    [404, undefined, 'unhealthy'],
    [500, undefined, 'unhealthy'],
    [404, 404, 'healthy'],
    [200, 204, 'unhealthy'],
  ])('answered with %i where %s is expected is %3$s', async (status, expected, verdict) => {
    const url = await serve((_, response) =>
      response.writeHead(status, { location: 'http://127.0.0.1:1/' }).end(),
    )
    const answer = await ask(http(url, expected === undefined ? {} : { status: expected }))
    expect(answer).toMatchObject({ gate: 'web', verdict })
    expect(answer.endedAtMs).toBeGreaterThanOrEqual(answer.startedAtMs)
  })

  it('looks into the first MiB of the body, and keeps the beginning and end of what it saw', async () => {
    const url = await serve((request, response) => {
      response.end(request.url === '/x' ? 'all is well' : `${'x'.repeat(1024 * 1024)}well`)
    })
    expect(await ask(http(url, { contains: 'is well' }))).toMatchObject({ verdict: 'healthy' })
    const late = await ask(http(`${url}y`, { contains: 'well' }))
    expect(late).toMatchObject({ verdict: 'unhealthy' })
    expect(late.reason).toContain('the first 1048576 bytes of the body do not contain "well"')
    expect(late.output.length).toBeLessThan(4_200)
    expect(late.output).toMatch(/^x+\n\[\d+ bytes left out]\nx+$/)
  })

  it('that takes no connection, breaks off or answers too late is unhealthy', async () => {
    expect(await ask(http(`http://127.0.0.1:${await closedPort()}/`))).toMatchObject({
      verdict: 'unhealthy',
      reason: expect.stringContaining('ECONNREFUSED'),
    })
    const broken = await serve((_, response) => response.destroy())
    expect(await ask(http(broken))).toMatchObject({ verdict: 'unhealthy' })
    const silent = await serve(() => {})
    expect(await ask(http(silent), { deadlineMs: 1_000 })).toMatchObject({
      verdict: 'unhealthy',
      reason: expect.stringContaining('no answer within 1000 ms'),
    })
    const slowBody = await serve((_, response) => void response.writeHead(200).write('a'))
    expect(await ask(http(slowBody, { contains: 'b' }), { deadlineMs: 1_000 })).toMatchObject({
      verdict: 'unhealthy',
    })
  })

  it('T67: whose name cannot be looked up could not be asked', async () => {
    expect(await ask(http(`http://${unknownHost}/`), { deadlineMs: 20_000 })).toMatchObject({
      verdict: 'unavailable',
      reason: expect.stringContaining('the name could not be looked up'),
    })
  })

  it('believes the authorities of the machine and no others', async () => {
    const keys = join(folder, 'tls')
    mkdirSync(keys)
    execFileSync(
      'openssl',
      [
        ...['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=gate'],
        ...['-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', 'key.pem', '-out', 'cert.pem'],
      ],
      { cwd: keys, stdio: 'pipe' },
    )
    const cert = readFileSync(join(keys, 'cert.pem'))
    const server = createTlsServer({ key: readFileSync(join(keys, 'key.pem')), cert }, (_, response) => {
      response.end('ok')
    })
    const url = `https://127.0.0.1:${await listen(server)}/`
    const machine = (bundle: Buffer | undefined) => {
      const root = mkdtempSync(join(folder, 'root-'))
      mkdirSync(join(root, 'etc/ssl/certs'), { recursive: true })
      if (bundle) writeFileSync(join(root, 'etc/ssl/certs/ca-certificates.crt'), bundle)
      return createRealSystem({ root, path: '' })
    }
    expect(await ask(http(url), { system: machine(cert) })).toMatchObject({ verdict: 'healthy' })
    const stranger = execFileSync(
      'openssl',
      [
        'req',
        '-x509',
        '-newkey',
        'rsa:2048',
        '-nodes',
        '-days',
        '2',
        '-subj',
        '/CN=x',
        '-keyout',
        '/dev/null',
      ],
      { stdio: 'pipe' },
    )
    expect(await ask(http(url), { system: machine(stranger) })).toMatchObject({ verdict: 'unhealthy' })
    expect(await ask(http(url), { system: machine(undefined) })).toMatchObject({
      verdict: 'unavailable',
      reason: expect.stringContaining('/etc/ssl/certs/ca-certificates.crt'),
    })
  })
})

describe('a gate that asks for a connection', () => {
  it('is healthy where one is taken and unhealthy where it is refused', async () => {
    const port = await listen(createTcpServer(socket => socket.end()))
    expect(await ask({ kind: 'tcp', host: '127.0.0.1', port })).toMatchObject({ verdict: 'healthy' })
    expect(await ask({ kind: 'tcp', host: '127.0.0.1', port: await closedPort() })).toMatchObject({
      verdict: 'unhealthy',
    })
  })

  it('is unhealthy where nothing is heard in time, which is no fault of looking up a name', async () => {
    const port = await deafPort()
    for (const probe of [
      { kind: 'tcp', host: '127.0.0.1', port },
      { kind: 'http', url: `http://127.0.0.1:${port}/`, status: undefined, contains: undefined },
    ] as const) {
      expect(await ask(probe, { deadlineMs: 700 })).toMatchObject({
        verdict: 'unhealthy',
        reason: expect.stringMatching(/no (connection|answer) within 700 ms/),
      })
    }
  })

  it('T67: could not be asked where the name is unknown, or when it is stopped', async () => {
    const stopped = AbortSignal.abort()
    const unknown = { kind: 'tcp', host: unknownHost, port: 1 } as const
    expect(await ask(unknown, { deadlineMs: 20_000 })).toMatchObject({ verdict: 'unavailable' })
    expect(await ask({ kind: 'tcp', host: '127.0.0.1', port: 1 }, { signal: stopped })).toMatchObject({
      verdict: 'unavailable',
    })
  })
})

describe('a gate that asks for space', () => {
  it('compares what is free, and cannot ask where there is no folder', async () => {
    const disk = (path: string, freeBytes: number): GateProbe => ({ kind: 'disk', path, freeBytes })
    expect(await ask(disk(folder, 1))).toMatchObject({ verdict: 'healthy' })
    expect(await ask(disk(folder, 2 ** 50))).toMatchObject({
      verdict: 'unhealthy',
      reason: expect.stringMatching(/^only \d+ of \d+ bytes free/),
    })
    expect(await ask(disk(join(folder, 'missing'), 1))).toMatchObject({ verdict: 'unavailable' })
  })
})

describe('a gate that runs a script', () => {
  let count = 0
  const script = (text: string, words: readonly string[] = [], mode = 0o755): GateProbe => {
    const path = `checks/${count++}.sh`
    writeFileSync(join(treeDir, path), text, { mode })
    return { kind: 'script', path, arguments: words }
  }

  it.each([
    [0, 'healthy'],
    [1, 'unhealthy'],
    [2, 'unhealthy'],
    [75, 'unavailable'],
    [126, 'unavailable'],
    [127, 'unavailable'],
  ])('that ends with %i is %s', async (code, verdict) => {
    expect(await ask(script(`#!/bin/sh\nexit ${code}\n`))).toMatchObject({ verdict })
  })

  it('T67: could not be asked where it, its interpreter or its right to run is missing', async () => {
    expect(await ask({ kind: 'script', path: 'checks/none.sh', arguments: [] })).toMatchObject({
      verdict: 'unavailable',
    })
    expect(await ask(script('#!/bin/sh\n', [], 0o644))).toMatchObject({ verdict: 'unavailable' })
    expect(await ask(script('#!/no/such/interpreter\n'))).toMatchObject({ verdict: 'unavailable' })
  })

  it('gets its words as they are, runs in the tree and sees nothing of our own environment', async () => {
    const answer = await ask(script('#!/bin/sh\nprintf "%s|" "$@"\npwd\nenv\nexit 1\n', ['$(id)', '', 'a b']))
    const [first = '', ...environment] = answer.output.trim().split('\n')
    expect(first).toBe(`$(id)||a b|${treeDir}`)
    const names = environment.map(line => line.split('=')[0])
    expect(
      names.filter(name => !['PATH', 'LC_ALL', 'PWD', 'OLDPWD', 'SHLVL', '_'].includes(name ?? '')),
    ).toEqual([])
  })

  it('T68: is ended at its deadline with its children, even where they do not listen', async () => {
    const file = join(folder, 'child.pid')
    const started = performance.now()
    const answer = await ask(
      script(`#!/bin/sh\ntrap '' TERM\nsh -c 'trap "" TERM; echo $$ > ${file}; sleep 300; sleep 300'\n`),
      { deadlineMs: 1_000 },
    )
    expect(answer).toMatchObject({
      verdict: 'unhealthy',
      reason: expect.stringContaining('not done within 1000 ms'),
    })
    expect(performance.now() - started).toBeLessThan(20_000)
    const pid = readFileSync(file, 'utf8').trim()
    await expect
      .poll(() => {
        try {
          return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.[0]
        } catch {
          // The process is gone, which is what is waited for.
          return 'gone'
        }
      })
      .toMatch(/^(gone|Z)$/)
  })

  it('has the beginning and the end of what it prints kept, and its reason on one line', async () => {
    const answer = await ask(script('#!/bin/sh\necho first\nseq 1 100000\necho last >&2\nexit 1\n'))
    expect(answer.output).toMatch(/^first\n1\n/)
    expect(answer.output).toMatch(/last\n$/)
    expect(answer.output.length).toBeLessThan(4_200)
    expect(answer.reason).not.toContain('\n')
  })
})

describe('a gate that asks for units', () => {
  const units: GateProbe = { kind: 'units', units: ['nginx.service', 'db.service'] }
  const block = (name: string, load: string, active: string, sub: string, result = 'success') =>
    `Id=${name}\nLoadState=${load}\nActiveState=${active}\nSubState=${sub}\nResult=${result}`
  const machine = (...blocks: readonly string[]) => {
    const system = new ScriptedSystem()
    system.scripts.set('systemctl', () => ({ stdout: blocks.join('\n\n').split('\n') }))
    return system
  }
  const good = block('nginx.service', 'loaded', 'active', 'running')

  it('is healthy where all are active', async () => {
    const system = machine(good, block('db.service', 'loaded', 'active', 'exited'))
    expect(await ask(units, { system })).toMatchObject({ verdict: 'healthy' })
    expect(system.commands.at(-1)).toMatch(/^systemctl .*show .*-- nginx.service db.service$/)
  })

  it.each([
    [
      'failed',
      block('db.service', 'loaded', 'failed', 'failed', 'exit-code'),
      'db.service is failed (failed, result exit-code)',
    ],
    [
      'starting',
      block('db.service', 'loaded', 'activating', 'auto-restart'),
      'db.service is activating (auto-restart)',
    ],
    [
      'inactive, as after a start whose condition was not met',
      block('db.service', 'loaded', 'inactive', 'dead'),
      'db.service is inactive (dead)',
    ],
    ['unknown', block('db.service', 'not-found', 'inactive', 'dead'), 'db.service does not exist'],
    ['masked', block('db.service', 'masked', 'inactive', 'dead'), 'db.service is masked'],
  ])('S4: is unhealthy where one is %s', async (_, state, reason) => {
    expect(await ask(units, { system: machine(good, state) })).toMatchObject({ verdict: 'unhealthy', reason })
  })

  it('T67: could not be asked where systemctl is missing, fails or answers something else', async () => {
    const failing = new ScriptedSystem()
    failing.scripts.set('systemctl', () => ({
      exitCode: 1,
      stderr: ['Failed to connect to bus: Host is down'],
    }))
    for (const system of [new ScriptedSystem(), failing, machine(good), machine('Id=x')]) {
      expect(await ask(units, { system })).toMatchObject({ verdict: 'unavailable' })
    }
  })
})

describe('a gate that reaches for addresses', () => {
  const reach: GateProbe = { kind: 'reach', hosts: ['10.0.0.1', '10.0.0.2'] }
  const machine = (exitCode: number, stderr: readonly string[] = []) => {
    const system = new ScriptedSystem()
    system.scripts.set('ping', args => (args.at(-1) === '10.0.0.2' ? { exitCode, stderr } : {}))
    return system
  }

  it.each([
    ['all answer', machine(0), 'healthy'],
    ['one does not', machine(1), 'unhealthy'],
    ['there is no way to one', machine(2, ['ping: connect: Network is unreachable']), 'unhealthy'],
    ['T67: a name is unknown', machine(2, ['ping: x: Name or service not known']), 'unavailable'],
    ['T67: there is no ping', new ScriptedSystem(), 'unavailable'],
  ])('says how it is where %s', async (_, system, verdict) => {
    expect(await ask(reach, { system })).toMatchObject({ verdict })
  })

  it('hands ping one address each, behind the end of its options', async () => {
    const system = machine(0)
    await ask(reach, { system, deadlineMs: 3_500 })
    expect(system.commands.sort()).toEqual([
      'ping -n -q -c 1 -W 3 -w 3 -- 10.0.0.1',
      'ping -n -q -c 1 -W 3 -w 3 -- 10.0.0.2',
    ])
  })
})
