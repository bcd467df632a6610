// What commands that change something write for programs: real files and keys against a real gRPC server.
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { parse } from 'yaml'
import { RESULT_FIELDS, type ResultName } from './output/show-result.ts'
import { runMuster } from './testing/run-muster.ts'
import { startSmallCoordinator } from './testing/small-coordinator.ts'

it('is the fields that the reference tells, and nothing else, in every format', async () => {
  await using coordinator = await startSmallCoordinator()
  const home = await mkdtemp(join(tmpdir(), 'muster-results-'))
  const dir = join(home, 'fleet')
  const told = new Set<string>()
  const muster = (...words: string[]) =>
    runMuster(words, { settings: { socket: coordinator.socket, configHome: join(home, 'config') } })
  const writes = async (name: ResultName, expected: object, ...words: string[]) => {
    const ran = await muster(...words, '-o', 'json')
    expect({ words, code: ran.code, err: ran.err }).toMatchObject({ words, code: 0 })
    const record: Record<string, unknown> = JSON.parse(ran.out)
    expect(Object.keys(record), words.join(' ')).toEqual(RESULT_FIELDS[name])
    expect(record, words.join(' ')).toMatchObject(expected)
    told.add(name)
  }
  try {
    await writes('init', { directory: dir, name: 'fleet' }, 'init', dir)
    const [fleetId = ''] = await readdir(join(home, 'config/fleets'))
    const trust = join(home, 'config/fleets', fleetId, 'trust.bin')
    await writes('trust set', { trustNumber: 1 }, 'trust', 'set', trust)
    await writes('trust confirm', {}, 'trust', 'confirm')
    await writes('publish', { number: 1, unchanged: false, file: null }, 'publish', dir)
    const file = join(home, 'renewal')
    await writes('publish', { number: 2, file }, 'publish', dir, '--renew', '--offline', '--export', file)
    await writes('import', { number: 2, unchanged: false, cacheFiles: 0 }, 'import', file)
    await writes('trust rotate keys', { trustNumber: 2, keys: 1 }, 'trust', 'rotate', 'keys')
    await writes('trust rotate ca', { trustNumber: 3 }, 'trust', 'rotate', 'ca', 'add')
    await writes('trust rotate ca', { trustNumber: 3 }, 'trust', 'rotate', 'ca', 'switch')
    await writes('trust rotate ca', { trustNumber: 4 }, 'trust', 'rotate', 'ca', 'drop')
    const { out } = await muster('token', 'create', '--ttl', '1h', '--uses', '1', '-o', 'json')
    const { id }: { id: string } = JSON.parse(out)
    await writes('token revoke', { id, revoked: true }, 'token', 'revoke', id)
    await writes('unbind', { host: 'olaf' }, 'unbind', 'olaf')
    await writes(
      'operator add',
      { name: 'ann', withKey: true },
      'operator',
      'add',
      'ann',
      '--out',
      join(home, 'ann'),
    )
    await writes('operator remove', { name: 'ann', removed: true }, 'operator', 'remove', 'ann')
    await writes('lock', { kind: 'lock', host: 'olaf', why: 'w' }, 'lock', 'olaf', '--why', 'w')
    await writes('unlock', { host: 'olaf', removed: true }, 'unlock', 'olaf')
    await writes(
      'pin',
      { host: 'olaf', revision: 1, why: 'w' },
      'pin',
      'olaf',
      '1',
      '--why',
      'w',
      '--until',
      '2w',
    )
    await writes('unpin', { host: 'olaf', removed: true }, 'unpin', 'olaf')
    await writes('rollout accept', {}, 'rollout', 'accept', '--why', 'w')
    const copy = join(home, 'backup')
    await writes('backup', { file: copy, bytes: expect.any(Number) }, 'backup', copy)
    await writes('restore', { file: copy }, 'restore', copy, '--yes')
    await writes('version', {}, 'version')
    expect(parse((await muster('version', '-o', 'yaml')).out)).toEqual(
      JSON.parse((await muster('version', '-o', 'json')).out),
    )
    expect((await muster('version', '-o', 'csv')).out).toMatch(/^version\r\n[\d.]+\r\n$/)
    // It needs a profile, which speaks to a coordinator elsewhere.
    expect(Object.keys(RESULT_FIELDS).filter(name => !told.has(name))).toEqual(['operator renew'])
  } finally {
    await rm(home, { recursive: true, force: true })
  }
}, 240_000)
