import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { isFieldSet, toJsonString } from '@bufbuild/protobuf'
import { durationFromMs } from '@bufbuild/protobuf/wkt'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { FileSystemSchema, UnitsAnswerSchema } from '../../shared/gen/muster/v1/probe_pb.ts'
import { createMadeUpSystem } from '../system/made-up-system.ts'
import { createRealSystem } from '../system/real-system.ts'
import { parseMounts } from './parse-mounts.ts'
import { parseSockets } from './parse-sockets.ts'
import { readDisks } from './read-disks.ts'
import { readJournal } from './read-journal.ts'
import { readPorts } from './read-ports.ts'
import { readFailedUnits, readUnits } from './read-units.ts'

let root: string
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'muster-probes-'))
})
afterEach(() => rm(root, { recursive: true, force: true }))

async function put(path: string, text: string): Promise<void> {
  await mkdir(dirname(join(root, path)), { recursive: true })
  await writeFile(join(root, path), text)
}
const real = createRealSystem({ root: '/', path: '/usr/bin:/bin', env: {} })
const never = new AbortController().signal

describe('units', () => {
  const unit = (name: string, active: string) => ({
    unit: name,
    load: 'loaded',
    active,
    sub: active === 'failed' ? 'failed' : 'running',
    description: `${name} here`,
  })

  it('tells the states that systemctl lists, and which of them have failed', async () => {
    await put(
      'commands/systemctl.json',
      JSON.stringify([
        unit('sshd.service', 'active'),
        unit('b.service', 'failed'),
        unit('a.service', 'failed'),
      ]),
    )
    const system = createMadeUpSystem(root)
    expect(await readFailedUnits(system, 1_000)).toEqual(['a.service', 'b.service'])
    const { units } = await readUnits(system, { patterns: [] }, 1_000)
    // By name, however they were listed.
    expect(units.map(({ name }) => name)).toEqual(['a.service', 'b.service', 'sshd.service'])
    expect(units[2]).toMatchObject({
      name: 'sshd.service',
      active: 'active',
      sub: 'running',
      description: 'sshd.service here',
    })
  })

  it('does not call a machine healthy whose service manager does not answer', async () => {
    const system = createMadeUpSystem(root)
    expect(await readFailedUnits(system, 1_000)).toBeUndefined()
    await expect(readUnits(system, { patterns: [] }, 1_000)).rejects.toThrow(/systemctl/)
    await put('commands/systemctl.json', '[{"unit": "cut off')
    expect(await readFailedUnits(system, 1_000)).toBeUndefined()
  })

  it('tells as many units as an answer holds, however long their names are, and that there are more', async () => {
    const long = (at: number) => unit(`run-containerd-${'x'.repeat(220)}-${at}.mount`, 'active')
    await put('commands/systemctl.json', JSON.stringify(Array.from({ length: 900 }, (_, at) => long(at))))
    const answer = await readUnits(createMadeUpSystem(root), { patterns: [] }, 1_000)
    expect(answer.truncated).toBe(true)
    expect(answer.units.length).toBeGreaterThan(200)
    expect(toJsonString(UnitsAnswerSchema, answer).length).toBeLessThan(256 * 1024)
    await put(
      'commands/systemctl.json',
      JSON.stringify(Array.from({ length: 1_001 }, () => unit('a.b', 'x'))),
    )
    const many = await readUnits(createMadeUpSystem(root), { patterns: [] }, 1_000)
    expect(many).toMatchObject({ units: { length: 1_000 }, truncated: true })
  })

  it('takes a pattern for a pattern, whatever it looks like', async () => {
    const words: (readonly string[])[] = []
    const system = createMadeUpSystem(root)
    const run: typeof system.run = (command, args, options) => {
      words.push([command, ...args])
      return system.run(command, args, options)
    }
    await readUnits({ ...system, run }, { patterns: ['--host=evil'] }, 1_000).catch(() => {})
    expect(words[0]?.slice(-2)).toEqual(['--', '--host=evil'])
    const many = Array.from({ length: 33 }, () => 'x')
    await expect(readUnits(system, { patterns: many }, 1_000)).rejects.toThrow(/at most 32/)
  })
})

describe('logs', () => {
  const entry = (fields: object) => JSON.stringify({ __REALTIME_TIMESTAMP: '1767323045000123', ...fields })

  it('tells lines with their time and level, also of what is no text', async () => {
    const bytes = [...Buffer.from('raw \u0007')]
    await put(
      'commands/journalctl.txt',
      [
        entry({ MESSAGE: 'started', PRIORITY: '6', SYSLOG_IDENTIFIER: 'k3s' }),
        entry({ MESSAGE: bytes, PRIORITY: '3' }),
        entry({ MESSAGE: null }),
        '{"MESSAGE": "cut off',
      ].join('\n'),
    )
    const system = createMadeUpSystem(root)
    const { lines, truncated } = await readJournal(
      ...([system, { unit: 'k3s.service', lines: 0 } as const, 0, 1_000, never] as const),
    )
    expect(truncated).toBe(false)
    expect(lines.map(({ text, identifier, priority }) => [text, identifier, priority])).toEqual([
      ['started', 'k3s', 6],
      ['raw \u0007', '', 3],
      ['', '', undefined],
    ])
    expect(lines[0]?.at).toMatchObject({ seconds: 1_767_323_045n })
  })

  it('keeps the newest lines within the bound of an answer and says that older ones are missing', async () => {
    const text = '\u0001'.repeat(4_000)
    const all = Array.from({ length: 100 }, (_, at) => entry({ MESSAGE: `${at} ${text}` }))
    await put('commands/journalctl.txt', all.join('\n'))
    const asked = { unit: 'k3s.service', lines: 500 }
    const { lines, truncated } = await readJournal(createMadeUpSystem(root), asked, 0, 1_000, never)
    expect(truncated).toBe(true)
    expect(lines.at(-1)?.text.startsWith('99 ')).toBe(true)
    expect(JSON.stringify(lines.map(line => line.text)).length).toBeLessThan(200 * 1024)
    await put('commands/journalctl.txt', entry({ MESSAGE: 'y'.repeat(10_000) }))
    const long = await readJournal(createMadeUpSystem(root), asked, 0, 1_000, never)
    expect(long.lines[0]?.text).toHaveLength(4_096)
    expect(long.lines[0]?.text).toMatch(/\[10000 characters, cut\]$/)
  })

  it('gives journalctl one unit, a number of lines and a time, and nothing else that came from outside', async () => {
    const calls: (readonly string[])[] = []
    const system = createMadeUpSystem(root)
    const run: typeof system.run = (command, args, options) => {
      calls.push([command, ...args])
      return system.run(command, args, options)
    }
    const asked = { unit: 'getty@tty1.service', lines: 100_000, since: durationFromMs(60_000) }
    await readJournal({ ...system, run }, asked, 100_000, 1_000, never).catch(() => {})
    expect(calls[0]?.slice(-3)).toEqual(['--unit=getty@tty1.service', '--lines=500', '--since=@40'])
    for (const unit of [
      '',
      '*',
      'k3s',
      'a b.service',
      '--vacuum-time=1s',
      '../x.service',
      'x.service --all',
    ]) {
      await expect(readJournal(system, { unit, lines: 1 }, 0, 1_000, never)).rejects.toThrow(/unit must be/)
    }
  })
})

describe('ports', () => {
  it('tells a port that this very process listens on', async () => {
    const server = createServer()
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', () => resolve()))
    const address = server.address()
    const port = typeof address === 'object' && address ? address.port : 0
    try {
      const { ports } = await readPorts(real)
      expect(ports).toContainEqual(
        expect.objectContaining({ protocol: 'tcp', address: '127.0.0.1', port, uid: process.getuid?.() }),
      )
    } finally {
      await new Promise(resolve => server.close(resolve))
    }
    const { ports } = await readPorts(real)
    expect(ports.some(one => one.port === port && one.address === '127.0.0.1')).toBe(false)
  })

  it('reads the addresses of both families, and passes over what does not listen', () => {
    const head = '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid'
    const row = (local: string, state: string) =>
      `   0: ${local} 00000000:0000 ${state} 00000000:00000000 00:00000000 00000000   101        0 1 1 0`
    expect(
      parseSockets(
        'tcp',
        [head, row('0100007F:0016', '0A'), row('0100007F:0017', '01'), row('00000000:1F90', '0A')].join('\n'),
      ).map(({ address, port }) => `${address}:${port}`),
    ).toEqual(['127.0.0.1:22', '0.0.0.0:8080'])
    const v6 = (hex: string) => parseSockets('tcp6', row(`${hex}:0016`, '0A'))[0]?.address
    expect(v6('00000000000000000000000000000000')).toBe('::')
    expect(v6('00000000000000000000000001000000')).toBe('::1')
    expect(v6('000080FE00000000FF005450B6AD1DFE')).toBe('fe80::5054:ff:fe1d:adb6')
    expect(v6('0000000000000000FFFF00000100000A')).toBe('::ffff:10.0.0.1')
  })

  it('says when there is nothing to read it from', async () => {
    await expect(readPorts(createMadeUpSystem(root))).rejects.toThrow(/no table of sockets/)
  })
})

describe('disks', () => {
  it('tells each file system of the machine once, and none of a network or of the kernel', () => {
    const text = [
      '22 1 8:2 / / rw shared:1 - ext4 /dev/sda2 rw',
      '23 22 0:5 / /dev rw - devtmpfs devtmpfs rw',
      '30 22 8:2 /nix /nix rw - ext4 /dev/sda2 rw',
      '31 22 8:1 / /boot\\040dir rw - vfat /dev/sda1 rw',
      '40 22 0:40 / /srv rw - nfs4 server:/srv rw',
      '41 22 0:41 / /tank rw - zfs tank/data rw',
      '42 22 0:42 / /home rw - btrfs /dev/sdb rw',
      '43 22 0:42 /x /var/x rw - btrfs /dev/sdb rw',
      '44 22 7:0 / /snap rw - squashfs /dev/loop0 ro',
      'nonsense',
    ].join('\n')
    expect(parseMounts(text).map(({ path, kind }) => `${path} ${kind}`)).toEqual([
      '/ ext4',
      '/boot dir vfat',
      '/home btrfs',
      '/tank zfs',
    ])
    fc.assert(fc.property(fc.string(), any => void parseMounts(any)))
  })

  it('says how full a path’s file system is, and of one that is not there that it is not', async () => {
    const { disks } = await readDisks(real, { paths: [root, '/no/such/place'] }, 5_000, never)
    expect(disks[0]).toMatchObject({ path: root, error: '' })
    expect(disks[0]?.size).toBeGreaterThan(0n)
    expect((disks[0]?.free ?? 0n) <= (disks[0]?.size ?? 0n)).toBe(true)
    expect(disks.map(one => isFieldSet(one, FileSystemSchema.field.size))).toEqual([true, false])
    expect(disks[1]?.error).toBe('not there')
    await expect(readDisks(real, { paths: ['etc'] }, 5_000, never)).rejects.toThrow(/absolute/)
  })

  it('one that hangs costs its own answer only', async () => {
    const space: typeof real.space = path => (path === '/stuck' ? new Promise(() => {}) : real.space(path))
    const { disks } = await readDisks({ ...real, space }, { paths: ['/stuck', root] }, 200, never)
    expect(disks.map(({ error }) => error)).toEqual(['no answer within 160 ms', ''])
  })
})
