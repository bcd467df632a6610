// Each command against a real gRPC server: what is asked of it, what people and programs are shown, how it ends.

import { generateKeyPairSync } from 'node:crypto'
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { FactsChangeSchema } from '../shared/gen/muster/v1/facts_change_pb.ts'
import { MachineState } from '../shared/gen/muster/v1/machine_pb.ts'
import { OutcomeClass } from '../shared/gen/muster/v1/operation_pb.ts'
import { OperationSummarySchema } from '../shared/gen/muster/v1/order_pb.ts'
import { TokenSchema } from '../shared/gen/muster/v1/token_pb.ts'
import { exitCodes } from './exit-codes.ts'
import { MACHINE_FIELDS } from './output/machine-listing.ts'
import { HAZARDOUS } from './testing/hazardous.ts'
import { type Ran, type RunOptions, runMuster } from './testing/run-muster.ts'
import {
  type SmallCoordinator,
  sampleEvent,
  sampleMachine,
  startSmallCoordinator,
} from './testing/small-coordinator.ts'
import { sampleRollout } from './testing/small-rollouts.ts'

let coordinator: SmallCoordinator
let home: string

function muster(words: readonly string[], options: RunOptions = {}): Promise<Ran> {
  return runMuster(words, { ...options, settings: { socket: coordinator.socket, configHome: home } })
}
const run = (...words: string[]) => muster(words)

beforeEach(async () => {
  coordinator = await startSmallCoordinator()
  home = await mkdtemp(join(tmpdir(), 'muster-home-'))
})
afterEach(async () => {
  await coordinator[Symbol.asyncDispose]()
  await rm(home, { recursive: true, force: true })
})

function addMachines(): void {
  coordinator.machines.push(
    sampleMachine({ id: 'cd'.repeat(32), host: 'anna', labels: { rack: 'a' }, online: false }),
    sampleMachine({
      id: 'ef'.repeat(32),
      host: '',
      state: MachineState.PENDING,
      online: false,
      facts: new Uint8Array(),
    }),
  )
}

describe('listing machines', () => {
  it('lists all of them over several pages, hosts first, as an aligned table', async () => {
    addMachines()
    // How long ago a machine was seen is told in seconds, one of which may end between two commands.
    const now = new Date()
    const clock = { now: () => now }
    const { code, out } = await muster(['machines'], { clock })
    expect(code).toBe(0)
    const lines = out.trimEnd().split('\n')
    expect(lines.map(line => line.slice(0, 4).trim())).toEqual(['HOST', 'anna', 'olaf', '-'])
    expect((await muster(['machines', 'list'], { clock })).out).toBe(out)
  })

  it('gives programs every documented field, in JSON, YAML and CSV', async () => {
    const json: unknown = JSON.parse((await run('machines', '-o', 'json')).out)
    expect(json).toEqual([
      expect.objectContaining({
        host: 'olaf',
        online: true,
        state: 'active',
        group: '',
        lastOperation: null,
      }),
    ])
    expect(Object.keys(Array.isArray(json) ? json[0] : {}).sort()).toEqual([...MACHINE_FIELDS].sort())
    const yaml: unknown = parse((await run('machines', '-o', 'yaml')).out)
    expect(yaml).toEqual([expect.objectContaining({ host: 'olaf' })])
    const csv = (await run('machines', '-o', 'csv')).out.split('\r\n')
    expect(csv[0]).toBe(MACHINE_FIELDS.join(','))
    expect(csv).toHaveLength(3)
  })

  it('writes times as ISO instants', async () => {
    const { out } = await run('machines', '-o', 'json')
    expect(out).toMatch(/"lastSeen": "\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"/)
  })

  it('selects by a CEL expression and by state', async () => {
    addMachines()
    const big = await run('machines', '--where', "has(labels.rack) && labels.rack == 'a'", '-o', 'json')
    expect(JSON.parse(big.out)).toHaveLength(1)
    const pending = await run('machines', '--state', 'pending', '-o', 'json')
    expect(JSON.parse(pending.out)).toMatchObject([{ state: 'pending' }])
  })

  it('names the machines for which a selector failed, and fails only when nothing matches', async () => {
    addMachines()
    const some = await run('machines', '--where', 'facts.memory.total > 1000')
    expect(some.code).toBe(0)
    expect(some.err).toMatch(/^selector: .*: efefefefefef$/m)
    const none = await run('machines', '--where', "labels.nothing == 'a'")
    expect(none.code).toBe(exitCodes.notFound.code)
    expect(none.err).toContain('olaf')
    expect((await run('machines', '--where', 'facts.memory.total > 99999999999999', '-o', 'json')).code).toBe(
      3,
    )
    expect((await run('machines', '--where', 'labels ==')).code).toBe(exitCodes.usage.code)
  })

  it('uses colour on a terminal only, and not where NO_COLOR is set', async () => {
    expect((await run('machines')).out).not.toContain('\u001b')
    const terminal = { socket: coordinator.socket, configHome: home }
    expect((await runMuster(['machines'], { terminal: true, settings: terminal })).out).toContain(
      '\u001b[32m',
    )
    const noColour = { ...terminal, noColour: true }
    expect((await runMuster(['machines'], { terminal: true, settings: noColour })).out).not.toContain(
      '\u001b',
    )
  })

  it('hostile text from a machine reaches no terminal, in any format', async () => {
    const hostile = '\u001b[2J\u202eevil\u0007\r\nnew\u009b31m'
    coordinator.machines[0] = sampleMachine({
      product: hostile,
      serial: hostile,
      labels: { x: hostile },
      conditions: [{ class: hostile, reason: hostile }],
    })
    coordinator.events.push(sampleEvent(1n, { reason: hostile }))
    for (const words of [
      ['machines', '-o', 'wide'],
      ['machines', '-o', 'json'],
      ['machines', '-o', 'yaml'],
      ['machines', '-o', 'csv'],
      ['status'],
      ['show', 'olaf'],
      ['events'],
      ['evict', 'olaf'],
    ]) {
      const { code, out, err } = await run(...words)
      expect(code).toBe(0)
      expect((out + err).replaceAll('\r\n', '').replaceAll('\n', '')).not.toMatch(HAZARDOUS)
    }
  })

  it('shows the picture again and again with --watch, until stopped', async () => {
    const stop = new AbortController()
    let pictures = 0
    const { code } = await muster(['status', '--watch', '0.01'], {
      signal: stop.signal,
      onOut: () => {
        pictures += 1
        if (pictures === 3) stop.abort()
      },
    })
    expect({ code, pictures }).toEqual({ code: 0, pictures: 3 })
    const gone = new AbortController()
    const read = await muster(['status', '--watch', '60'], {
      readerGone: gone.signal,
      onOut: () => gone.abort(),
    })
    expect(read.code).toBe(0)
  })
})

describe('deciding on machines', () => {
  it('approves with host and labels', async () => {
    coordinator.machines[0] = sampleMachine({ host: '', state: MachineState.PENDING })
    const pending = await run('pending')
    expect(pending.out).toContain('abababababab')
    const { code, out } = await run(
      'approve',
      'abab',
      '--host',
      'nils',
      '--label',
      'rack=a',
      '--label',
      'row=2',
    )
    expect(code).toBe(0)
    expect(out).toContain('host nils')
    expect(coordinator.calls.at(-1)?.request).toMatchObject({
      ref: 'abab',
      host: 'nils',
      labels: { rack: 'a', row: '2' },
    })
  })

  it('rejects, evicts, bans, releases, binds and unbinds', async () => {
    expect((await run('unbind', 'olaf')).code).toBe(0)
    expect((await run('bind', 'nils', 'abab')).out).toContain('loose')
    expect((await run('bind', 'nils', 'abab')).code).toBe(exitCodes.conflict.code)
    for (const [verb, state] of [
      ['reject', 'rejected'],
      ['evict', 'evicted'],
      ['ban', 'banned'],
      ['release', 'active'],
    ] as const) {
      const { out } = await run(verb, 'nils', '-o', 'json', '--why', 'why')
      expect(JSON.parse(out)).toMatchObject({ state })
    }
    expect((await run('ban', 'nobody')).code).toBe(exitCodes.notFound.code)
  })

  it('shows one machine, its facts, their history, and a hardware module', async () => {
    const shown = await run('show', 'olaf', '--history', '3')
    expect(shown.out).toContain('16.0 GiB')
    expect(shown.out).toContain('memory.total: 8589934592 → 17179869184')
    expect((await run('show', 'olaf', '--facts')).out).toContain('disks[0].size = 1000204886016')
    expect(JSON.parse((await run('show', 'olaf', '-o', 'json')).out)).toMatchObject({
      facts: { system: { product: 'N100' } },
    })
    expect((await run('show', 'olaf', '--nix')).out).toContain(
      'nixpkgs.hostPlatform = lib.mkDefault "x86_64-linux"',
    )
    expect((await run('show', 'nobody')).code).toBe(exitCodes.notFound.code)
  })
})

describe('tokens', () => {
  it('prints a token once, alone on standard output', async () => {
    const { code, out } = await run('token', 'create', '--ttl', '1h', '--uses', '3', '--label', 'rack=a')
    expect(code).toBe(0)
    expect(out).toMatch(/^[0-9a-f]{12}\.secret\.[^\n]*\n$/)
    expect(coordinator.calls.at(-1)?.request).toMatchObject({
      uses: 3,
      lifetime: { seconds: 3600n },
      labels: { rack: 'a' },
    })
    const [token] = coordinator.tokens
    const listed = await run('token', 'list')
    expect(listed.out).toContain(token?.id)
    expect(listed.out).not.toContain('secret')
    expect((await run('token', 'revoke', token?.id ?? '')).code).toBe(0)
    expect((await run('token', 'list')).out).toContain('revoked')
  })

  it('writes a token to a file that only its owner may read, and to no other place', async () => {
    const file = join(home, 'token')
    const { out, err } = await run('token', 'create', '--ttl', '1h', '--uses', '1', '--out', file)
    expect(out + err).not.toContain('secret')
    expect((await stat(file)).mode & 0o777).toBe(0o600)
    expect(await readFile(file, 'utf8')).toContain('.secret.')
    expect((await run('token', 'create', '--ttl', '1h', '--uses', '1', '--out', file)).code).toBe(
      exitCodes.conflict.code,
    )
    expect(await readFile(file, 'utf8')).toContain('.secret.')
    const nowhere = await run(
      'token',
      'create',
      '--ttl',
      '1h',
      '--uses',
      '1',
      '--out',
      join(home, 'none', 'token'),
    )
    expect(nowhere).toMatchObject({
      code: exitCodes.notFound.code,
      err: expect.stringContaining('its folder'),
    })
    // No token is left behind that nobody was told.
    expect(coordinator.tokens).toHaveLength(1)
  })

  it('wants a lifetime and a number of uses', async () => {
    expect((await run('token', 'create', '--uses', '1')).code).toBe(exitCodes.usage.code)
    expect((await run('token', 'create', '--ttl', 'soon', '--uses', '1')).err).toContain('duration')
    expect((await run('token', 'create', '--ttl', '9999d', '--uses', '1')).err).toContain('at most 3660d')
    expect((await run('token', 'create', '--ttl', '1h', '--uses', '0')).code).toBe(exitCodes.usage.code)
  })
})

describe('apply', () => {
  it('waits, tells each change, and ends with 0 when all succeeded', async () => {
    const { code, out, err } = await run('apply', 'olaf', '--revision', '4')
    expect(code).toBe(0)
    expect(err).toContain('olaf: apply revision 4: build')
    expect(out).toContain('succeeded')
  })

  it.each([
    [OutcomeClass.BUILD_FAILED, 'failed'],
    [OutcomeClass.REFUSED, 'refused'],
    [OutcomeClass.REBOOT_REQUIRED, 'rebootRequired'],
    [OutcomeClass.DEGRADED, 'degraded'],
    [OutcomeClass.UNKNOWN, 'unknown'],
  ] as const)('ends by the outcome %d as %s', async (outcome, exit) => {
    coordinator.outcomes.set('olaf', outcome)
    expect((await run('apply', 'olaf')).code).toBe(exitCodes[exit].code)
  })

  it('says partly when one of two failed', async () => {
    addMachines()
    coordinator.outcomes.set('anna', OutcomeClass.FETCH_FAILED)
    expect((await run('apply', 'olaf', 'anna')).code).toBe(exitCodes.partial.code)
  })

  it('orders without waiting', async () => {
    const { code, out } = await run('apply', 'olaf', '--no-wait', '-o', 'json')
    expect(code).toBe(0)
    expect(JSON.parse(out)).toMatchObject([{ host: 'olaf', outcome: null, phase: null }])
  })

  it('wants hosts or a selector, and orders nothing when nothing matches', async () => {
    expect((await run('apply')).code).toBe(exitCodes.usage.code)
    expect((await run('apply', 'olaf', '--where', 'true')).code).toBe(exitCodes.usage.code)
    expect((await run('apply', '--where', 'false')).code).toBe(exitCodes.notFound.code)
    expect((await run('apply', 'nobody')).code).toBe(exitCodes.notFound.code)
  })

  it('stops waiting after the timeout and when interrupted; the operation goes on', async () => {
    coordinator.stuck = true
    const late = await run('apply', 'olaf', '--timeout', '1s')
    expect(late.code).toBe(exitCodes.unavailable.code)
    expect(late.err).toContain('go on')
    const stop = new AbortController()
    const stopped = await muster(['apply', 'olaf'], {
      signal: stop.signal,
      onErr: text => text.includes('build') && stop.abort(),
    })
    expect(stopped.code).toBe(exitCodes.interrupted.code)
    expect(stopped.err).toContain('stopped waiting: 1 of 1 have no outcome yet and go on')
  })

  it('shows operations, and one of them in detail', async () => {
    await run('apply', 'olaf')
    const [id] = coordinator.operations.keys()
    expect((await run('operations')).out).toContain(id)
    expect((await run('operations', id ?? '')).out).toContain('PHASE')
    expect((await run('operations', `${'0'.repeat(9)}-${'0'.repeat(12)}`)).code).toBe(exitCodes.notFound.code)
  })
})

describe('asking', () => {
  it('prints logs with line breaks and without terminal codes, and says what was dropped', async () => {
    const { code, out, err } = await run('logs', 'olaf')
    expect({ code, out }).toEqual({ code: 0, out: 'building\nwarning:\\u001b[2J    tab\ndone\n' })
    expect(err).toContain('3 lines were dropped')
  })

  it('answers questions with chosen values', async () => {
    const { code, out, err } = await run('query', 'true', '--select', 'facts.a', '-o', 'json')
    expect(code).toBe(0)
    expect(JSON.parse(out)).toEqual([{ host: 'olaf', machine: 'ab'.repeat(32), 'facts.a': { a: 1 } }])
    expect(err).toContain('1 match of 1')
    expect((await run('query', 'labels.no == "1"')).code).toBe(exitCodes.notFound.code)
    // Names of columns are no longer keys where one stands there twice.
    const words = ['query', 'true', '--select', 'host', '--select', 'facts.a']
    expect((await run(...words, '-o', 'csv')).out).toMatch(/^host,machine,facts\.a\r?\n/)
    expect((await run(...words)).out.split('\n')[0]).toMatch(/^HOST +MACHINE +facts\.a$/)
  })

  it('asks for groups, order and a bound, and shows groups without machines', async () => {
    coordinator.calls.length = 0
    const words = ['query', 'true', '--group-by', 'labels.rack', '--select', 'count()', '--sort', '-count()']
    const { code, out } = await run(...words, '--limit', '3', '-o', 'json')
    expect(code).toBe(0)
    expect(JSON.parse(out)).toEqual([{ 'labels.rack': { a: 1 }, 'count()': { a: 1 } }])
    expect((await run(...words, '-o', 'csv')).out.split('\r\n')[0]).toBe('labels.rack,count()')
    expect(coordinator.calls.find(({ method }) => method === 'query')?.request).toMatchObject({
      expression: 'true',
      groupBy: ['labels.rack'],
      select: ['count()'],
      sort: ['-count()'],
      limit: 3,
    })
  })

  it('asks nodes by probes, and refuses what no probe is', async () => {
    coordinator.calls.length = 0
    const { code } = await run(
      ...['query', 'true', '--probe', 'units=k3s*', '--probe', 'units=sshd.service', '--probe', 'ports'],
      ...['--probe', 'journal=k3s', '--lines', '5', '--since', '1h'],
    )
    expect(code).toBe(exitCodes.unavailable.code)
    expect(coordinator.calls.find(({ method }) => method === 'query')?.request).toMatchObject({
      live: true,
      select: ['live.units', 'live.ports', 'live.journal'],
      probes: [
        { probe: { case: 'units', value: { patterns: ['k3s*', 'sshd.service'] } } },
        { probe: { case: 'ports' } },
        { probe: { case: 'journal', value: { unit: 'k3s.service', lines: 5, since: { seconds: 3600n } } } },
      ],
    })
    for (const words of [
      ['--probe', 'shell=ls'],
      ['--probe', 'ports=22'],
      ['--probe', 'journal'],
      ['--probe', 'journal=*'],
      ['--lines', '3'],
      ['--stream'],
      ['--live', '--stream', '--sort', 'host'],
      ['--live', '--stream', '-o', 'csv'],
    ]) {
      expect((await run('query', 'true', ...words)).code, words.join(' ')).toBe(exitCodes.usage.code)
    }
  })

  it('writes each answer of a stream as a line of its own', async () => {
    coordinator.machines.push(sampleMachine({ id: 'cd'.repeat(32), host: 'anna' }))
    const { out } = await run('query', 'true', '--live', '--stream', '--select', 'facts.a')
    expect(
      out
        .trimEnd()
        .split('\n')
        .map(line => JSON.parse(line).host)
        .toSorted(),
    ).toEqual(['anna', 'olaf'])
  })

  it('shows what changed in the hardware, for people and for programs', async () => {
    expect((await run('history', 'olaf')).err).toContain('nothing changed')
    const at = timestampFromMs(Date.now() - 3_600_000)
    coordinator.factsChanges.push(
      create(FactsChangeSchema, {
        at,
        notBefore: at,
        part: 'disk',
        name: 'S1',
        hardware: true,
        before: '{"serial":"S1","model":"WD\\u001b[31m"}',
      }),
      create(FactsChangeSchema, {
        at,
        notBefore: at,
        part: 'memory',
        field: 'total',
        hardware: true,
        before: '"17179869184"',
        after: '"34359738368"',
      }),
    )
    const { code, out } = await run('history', 'olaf')
    expect(code).toBe(0)
    expect(out).toMatch(/disk +S1 +- +S1 WD\\u001b\[31m +not there/)
    expect(out).toMatch(/memory +- +total +16\.0 GiB +32\.0 GiB/)
    const [gone, more] = JSON.parse((await run('history', 'olaf', '--all', '-o', 'json')).out)
    expect(gone).toMatchObject({ part: 'disk', before: { serial: 'S1' }, after: null })
    expect(more).toMatchObject({ field: 'total', after: '34359738368' })
    expect(coordinator.calls.findLast(({ method }) => method === 'listFactsChanges')?.request).toMatchObject({
      ref: 'olaf',
      all: true,
    })
  })

  it('names the silent of a live question', async () => {
    const { code, err } = await run('query', 'true', '--live', '--deadline', '1s')
    expect(code).toBe(exitCodes.unavailable.code)
    expect(err).toContain('silent: olaf')
    expect((await run('query', 'true', '--deadline', '1s')).code).toBe(exitCodes.usage.code)
  })

  it('follows a burst of events that no answer holds, and passes none over', async () => {
    coordinator.events.push(sampleEvent(1n))
    const stop = new AbortController()
    const seen: number[] = []
    await muster(['events', '--follow', '-o', 'json'], {
      signal: stop.signal,
      onOut: text => {
        seen.push(Number(JSON.parse(text).id))
        if (seen.length === 1) {
          for (let id = 2n; id <= 2_500n; id++) coordinator.events.push(sampleEvent(id))
        }
        if (seen.at(-1) === 2_500) stop.abort()
      },
    })
    expect(seen).toEqual(Array.from({ length: 2_500 }, (_, at) => at + 1))
  })

  it('follows events over a restart of the coordinator, and shows each once', async () => {
    coordinator.events.push(sampleEvent(1n))
    const stop = new AbortController()
    const seen: number[] = []
    let start: (() => Promise<void>) | undefined
    const { code } = await muster(['events', '--follow', '-o', 'json'], {
      signal: stop.signal,
      onOut: text => {
        seen.push(Number(JSON.parse(text).id))
        if (seen.length === 1) start = coordinator.stop()
        if (seen.length === 3) stop.abort()
      },
      onErr: text => {
        if (!text.includes('waiting for it')) return
        coordinator.events.push(sampleEvent(2n), sampleEvent(3n))
        void start?.()
      },
    })
    expect(seen).toEqual([1, 2, 3])
    expect(code).toBe(0)
  })

  it('shows events oldest first, and follows them', async () => {
    coordinator.events.push(sampleEvent(1n), sampleEvent(2n, { class: 'active' }))
    const { out } = await run('events')
    expect(out.indexOf('enrolled')).toBeLessThan(out.indexOf('active'))
    const stop = new AbortController()
    const followed = await muster(['events', '--follow', '-o', 'json'], {
      signal: stop.signal,
      onOut: text => text.includes('active') && stop.abort(),
    })
    expect(
      followed.out
        .trimEnd()
        .split('\n')
        .map(line => JSON.parse(line).class),
    ).toEqual(['enrolled', 'active'])
  })

  it('shows the fleet on one screen', async () => {
    const { out } = await run('status')
    expect(out).toContain('muster trust set')
    expect(out).toContain('olaf')
    expect(JSON.parse((await run('status', '-o', 'json')).out)).toMatchObject({
      machines: [{ host: 'olaf' }],
    })
  })

  it('lists no revisions where there are none', async () => {
    expect(await run('revisions')).toMatchObject({
      code: 0,
      out: '',
      err: expect.stringContaining('publish'),
    })
    expect((await run('revisions', '-o', 'json')).out).toBe('[]\n')
  })
})

describe('backup and restore', () => {
  it('writes a copy that only its owner may read, and never over another', async () => {
    const file = join(home, 'backup')
    expect((await run('backup', file)).code).toBe(0)
    expect(await readFile(file, 'utf8')).toBe('backup')
    expect((await stat(file)).mode & 0o777).toBe(0o600)
    expect((await run('backup', file)).code).toBe(exitCodes.conflict.code)
    expect(await readdir(home)).toEqual(['backup'])
  })

  it('restores only when told --yes', async () => {
    const file = join(home, 'copy')
    await writeFile(file, 'x'.repeat(100_000))
    expect((await run('restore', file)).code).toBe(exitCodes.refused.code)
    expect(coordinator.restored).toHaveLength(0)
    expect(await run('restore', file, '--yes')).toMatchObject({ code: 0, out: 'restored\n' })
    expect(Buffer.concat(coordinator.restored)).toHaveLength(100_000)
    expect((await run('restore', join(home, 'none'), '--yes')).code).toBe(exitCodes.notFound.code)
    coordinator.restored.length = 0
    await writeFile(file, 'no backup')
    expect(await run('restore', file, '--yes')).toMatchObject({
      code: exitCodes.error.code,
      err: expect.stringContaining(`${file}: backup: ends in the middle`),
    })
  })
})

describe('operators', () => {
  it('takes a public key and writes a profile without a private one', async () => {
    const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
    const pub = join(home, 'ann.pub')
    await writeFile(pub, publicKey.export({ type: 'spki', format: 'pem' }))
    const folder = join(home, 'ann')
    expect(await run('operator', 'add', 'ann', '--public-key', pub, '--out', folder)).toMatchObject({
      code: 0,
      err: '',
    })
    expect((await readdir(folder)).sort()).toEqual([
      'ca.pem',
      'certificate.pem',
      'operator.json',
      'public.pem',
    ])
    expect((await stat(folder)).mode & 0o777).toBe(0o700)
    const secret = join(home, 'ann.key')
    await writeFile(secret, privateKey.export({ type: 'pkcs8', format: 'pem' }))
    expect((await run('operator', 'add', 'eve', '--public-key', secret)).code).toBe(exitCodes.refused.code)
    expect((await run('operator', 'add', 'Eve!')).code).toBe(exitCodes.usage.code)
    expect((await run('operator', 'list')).out).toContain('ann')
    expect((await run('operator', 'remove', 'ann')).code).toBe(0)
    expect((await run('operator', 'remove', 'eve')).code).toBe(exitCodes.notFound.code)
    expect((await run('operator', 'renew')).code).toBe(exitCodes.usage.code)
  })
})

describe('the command line', () => {
  it('says where it looked when no coordinator is there', async () => {
    const socket = join(home, 'none.sock')
    const { code, err } = await runMuster(['status', '--socket', socket])
    expect(code).toBe(exitCodes.unavailable.code)
    expect(err).toContain(socket)
    expect(err).toContain('systemctl status')
    expect(err).not.toContain('Resolution note')
  })

  it('ends with 2 for what its help does not say, and suggests what may be meant', async () => {
    expect(await run('machins')).toMatchObject({ code: 2, err: expect.stringContaining('machines') })
    expect((await run('machines', '-o', 'xml')).code).toBe(2)
    expect((await run('--socket', 'a', '--profile', 'b', 'status')).code).toBe(2)
    expect((await run('--help')).code).toBe(0)
    expect(await run('version')).toMatchObject({ code: 0, out: expect.stringMatching(/^muster \d/) })
  })

  it('completes commands, options, choices and hosts', async () => {
    const complete = async (...words: string[]) =>
      (await run('__complete', '--', ...words)).out.split('\n').slice(0, -1)
    expect(await complete('mach')).toEqual(['machines'])
    expect(await complete('token', '')).toEqual(['create', 'list', 'revoke'])
    expect(await complete('apply', '--no')).toEqual(['--no-wait'])
    expect(await complete('machines', '-o', 'c')).toEqual(['csv'])
    expect(await complete('show', 'o')).toEqual(['olaf'])
    for (const command of ['plan', 'rollback', 'generations', 'reboot', 'hold', 'resume', 'retry']) {
      expect(await complete(command, 'o')).toEqual(['olaf'])
    }
    expect(await complete('verify', 'o')).toEqual(['olaf', ':files'])
    expect(await complete('approve', 'abab', '--host', '')).toEqual(['olaf'])
    expect(await complete('__')).toEqual([])
    coordinator.machines[0] = sampleMachine({ host: '$(reboot)' })
    expect(await complete('show', '')).toEqual([])
  })

  it('completes what each argument names, and no command that is hidden', async () => {
    const complete = async (...words: string[]) =>
      (await run('__complete', '--', ...words)).out.split('\n').slice(0, -1)
    const id = '0k3xq2v1a-5f0c9d1e2b3a'
    coordinator.rollouts.rollouts.push(sampleRollout(['olaf'], { id }))
    coordinator.operations.set(id, create(OperationSummarySchema, { operationId: id, host: 'olaf' }))
    coordinator.tokens.push(create(TokenSchema, { id: 'f00d' }))
    await mkdir(join(home, 'operators/ann'), { recursive: true })
    const expected: [string[], string[]][] = [
      [['machines', ''], []],
      [['rollout', 'show', ''], [id]],
      [['rollout', 'abort', '0k'], [id]],
      [['rollout', 'start', 'n'], ['newest']],
      [['pin', 'olaf', 'n'], ['newest']],
      [['apply', 'olaf', '--revision', ''], ['newest']],
      [['rollout', 'start', 'newest', '--after', ''], [id]],
      [['rollout', 'start', '--canary', ''], ['olaf']],
      [['rollout', 'override', id, 'olaf', 'bud'], ['budget']],
      [['token', 'revoke', ''], ['f00d']],
      [['operator', 'remove', ''], ['ann']],
      [['--profile', ''], ['ann']],
      [['logs', 'olaf', '--operation', '0'], [id]],
      [['operations', ''], ['olaf']],
      [['operations', '0k'], [id]],
      [
        ['query', 'true', '--probe', 'di'],
        ['disks', 'disks='],
      ],
      [
        ['cluster', 'rotate', 'x', ''],
        ['certificates', 'tokens'],
      ],
      [['machines', '--output=js'], ['--output=json']],
      [['machines', '--output', '=', 'js'], ['json']],
      [
        ['machines', '--output', '='],
        ['csv', 'json', 'table', 'wide', 'yaml'],
      ],
      [['help', 'rollout', 'sta'], ['start']],
      [['publish', ''], [':files']],
      [
        ['diff', 'n'],
        ['newest', ':files'],
      ],
    ]
    for (const [words, found] of expected) expect([words, await complete(...words)]).toEqual([words, found])
    coordinator.machines[0] = sampleMachine({ host: 'olaf', state: MachineState.EVICTED })
    expect(await complete('show', '')).toEqual([])
  })

  it('gives the help of the command that is named, and tells of one that is not there', async () => {
    const { code, out } = await run('help', 'rollout', 'start')
    expect({ code, out }).toMatchObject({
      code: 0,
      out: expect.stringContaining('Usage: muster rollout start'),
    })
    expect((await run('help')).out).toContain('Usage: muster [options]')
    for (const words of [['nope'], ['rollout', 'strat']]) {
      const refused = await run('help', ...words)
      expect(refused).toMatchObject({ code: 2, out: '' })
      expect(refused.err).toContain(`help: muster has no command ${words.join(' ')}`)
    }
  })

  it('shows an operation by the start of its id, and takes newest for a revision', async () => {
    const id = '0k3xq2v1a-5f0c9d1e2b3a'
    coordinator.operations.set(id, create(OperationSummarySchema, { operationId: id, host: 'olaf' }))
    expect((await run('operations', '0k3xq2')).out).toContain(id)
    expect(await run('operations', '0zzzz')).toMatchObject({ code: 3, err: expect.stringContaining('0zzzz') })
    expect((await run('rollback', 'olaf', '--to', '0k3xq2', '--no-wait')).code).toBe(0)
    const given = coordinator.calls.findLast(({ method }) => method === 'giveOrders')
    expect(given?.request).toMatchObject({ action: { value: { operationId: id } } })
    expect((await run('apply', 'olaf', '--revision', 'newest', '--no-wait')).code).toBe(0)
    expect((await run('apply', 'olaf', '--revision', '0')).code).toBe(2)
  })

  it('asks how to see whether something is there only where that was missing, by its path', async () => {
    coordinator.machines.push(sampleMachine({ id: 'cd'.repeat(32), host: 'anna', labels: { rack: 'a' } }))
    const missing = await run('machines', '--where', "labels.rack == 'a'")
    expect(missing.err).toContain(
      'gave no answer for one machine; `has(labels.rack)` asks whether it is there',
    )
    const other = await run('machines', '--where', 'facts.disks[7].size > 1 || true == (1 / 0 == 1)')
    expect(other.err).toContain('gave no answer for')
    expect(other.err).not.toContain('has(')
    for (const where of ['host.startWith("a")', 'host == 1']) {
      expect(await run('machines', '--where', where)).toMatchObject({ code: 2, out: '' })
    }
  })

  it('prints completion scripts that their shells can read', async () => {
    for (const shell of ['bash', 'zsh', 'fish']) {
      expect((await run('completion', shell)).out).toContain('muster __complete')
    }
    expect((await run('completion', 'tcsh')).code).toBe(2)
  })
})
