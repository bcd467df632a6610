// init, check, trust, publish, diff, export and import, with real files, keys and git, against a real gRPC server.
import { execFileSync } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { hostname, tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { sha256Hex } from '../shared/ids.ts'
import { VERSION } from '../shared/version.ts'
import { exitCodes } from './exit-codes.ts'
import { type Ran, runMuster } from './testing/run-muster.ts'
import { type SmallCoordinator, startSmallCoordinator } from './testing/small-coordinator.ts'

let coordinator: SmallCoordinator
let home: string
let dir: string
let fleetFolder: string

function muster(...words: string[]): Promise<Ran> {
  return runMuster(words, { settings: { socket: coordinator.socket, configHome: join(home, 'config') } })
}

function git(...args: string[]): string {
  const who = ['-c', 'user.name=t', '-c', 'user.email=t@t']
  return execFileSync('git', [...who, ...args], { cwd: dir, stdio: 'pipe', encoding: 'utf8' })
}

async function addHost(name: string, lines = ''): Promise<void> {
  const file = join(dir, 'fleet.toml')
  await writeFile(file, `${await readFile(file, 'utf8')}\n[hosts.${name}]\n${lines}`)
}

beforeAll(async () => {
  coordinator = await startSmallCoordinator()
  home = await mkdtemp(join(tmpdir(), 'muster-home-'))
  dir = join(home, 'fleet dir')
})
afterAll(async () => {
  await coordinator[Symbol.asyncDispose]()
  await rm(home, { recursive: true, force: true })
})

const GATE = { field: 'gate own', from: null, to: 'job checks/own.json' }

describe('from an empty folder to a published revision', () => {
  it('init writes a directory that check finds good, and keys that only their owner can read', async () => {
    const made = await muster('init', dir)
    expect(made).toMatchObject({ code: 0, err: '' })
    expect(made.out).toMatch(/Trust pin +[0-9a-f]{64}/)
    expect((await readdir(dir)).sort()).toEqual([
      '.gitignore',
      'README.md',
      'flake.nix',
      'fleet.toml',
      'hosts',
    ])
    const [fleetId] = await readdir(join(home, 'config/fleets'))
    fleetFolder = join(home, 'config/fleets', fleetId ?? '')
    for (const file of ['signing.key', 'recovery.key', 'trust.bin']) {
      expect((await stat(join(fleetFolder, file))).mode & 0o777).toBe(0o600)
    }
    expect(made.out).not.toContain('PRIVATE')
    expect(await muster('check', dir)).toMatchObject({ code: 0, err: '' })
  })

  it('init refuses to overwrite and leaves nothing behind', async () => {
    const before = await readFile(join(dir, 'fleet.toml'), 'utf8')
    const again = await muster('init', dir)
    expect(again.code).toBe(exitCodes.conflict.code)
    expect(again.err).toContain('fleet.toml')
    expect(await readFile(join(dir, 'fleet.toml'), 'utf8')).toBe(before)
    expect(await readdir(join(home, 'config/fleets'))).toHaveLength(1)
    const nowhere = await muster('init', join(home, 'other'), '--recovery-key', join(home, 'no/such/key'))
    expect(nowhere.code).toBe(exitCodes.notFound.code)
    expect(await readdir(join(home, 'config/fleets'))).toHaveLength(1)
    await expect(stat(join(home, 'other'))).rejects.toThrow('ENOENT')
  })

  it('check names every problem with its place and ends with 1', async () => {
    const bad = join(home, 'bad')
    await muster('init', bad, '--name', 'bad')
    await writeFile(join(bad, 'fleet.toml'), '[fleet]\nname = "x"\nid = 5\nwrong = 1\n')
    const checked = await muster('check', bad)
    expect(checked.code).toBe(1)
    expect(checked.out).toMatch(/bad\/fleet\.toml:3:\d+: error: fleet\.id: /)
    expect(checked.out).toMatch(/bad\/fleet\.toml:4:\d+: error: fleet\.wrong: /)
    const json: unknown = JSON.parse((await muster('check', bad, '-o', 'json')).out)
    expect(json).toContainEqual(expect.objectContaining({ line: 4, severity: 'error', path: 'fleet.wrong' }))
    expect((await muster('check', join(home, 'nothing'))).code).toBe(exitCodes.notFound.code)
    const file = await muster('check', join(dir, 'fleet.toml'))
    expect(file).toMatchObject({ code: exitCodes.usage.code, err: expect.stringContaining('is a file') })
  })

  it('check finds what publish would refuse to pack', async () => {
    const odd = join(home, 'odd')
    await muster('init', odd)
    await symlink('/etc/hostname', join(odd, 'absolute'))
    const checked = await muster('check', odd)
    expect(checked).toMatchObject({
      code: 1,
      out: expect.stringMatching(/^error: absolute: an absolute link/m),
    })
    expect(checked.out).not.toContain('is good')
    const json: unknown = JSON.parse((await muster('check', odd, '-o', 'json')).out)
    expect(json).toMatchObject([
      { file: odd, severity: 'error', message: expect.stringContaining('absolute') },
    ])
  })

  it('check finds a secret in any file, by its place, and does not show it', async () => {
    const open = join(home, 'open')
    await muster('init', open)
    const secret = `K10${'0f'.repeat(32)}::server:${'ab'.repeat(16)}`
    await writeFile(join(open, 'extra.nix'), `{\n  services.k3s.token = "${secret}";\n}\n`)
    const checked = await muster('check', open)
    expect(checked).toMatchObject({ code: 1, err: expect.stringContaining('a secret lies in its files') })
    expect(checked.out).toMatch(/open\/extra\.nix:2:25: error: this looks like a k3s token; /)
    expect(`${checked.out}${checked.err}`).not.toContain(secret)
    expect(checked.out).not.toContain('is good')
    await writeFile(join(open, 'extra.nix'), `{ } # muster:no-secret ${secret}\n`)
    expect(await muster('check', open)).toMatchObject({ code: 0 })
  })

  it('check finds what is wrong with a CEL rule', async () => {
    const ruled = join(home, 'ruled')
    await muster('init', ruled)
    const file = join(ruled, 'fleet.toml')
    const text = await readFile(file, 'utf8')
    await writeFile(file, `${text}\n[groups.g]\nadmit = "facts.x =="\nname = "g-{serial}"\n`)
    const checked = await muster('check', ruled)
    expect(checked.code).toBe(1)
    expect(checked.out).toContain('groups.g.admit')
    expect(checked.out).toContain('\n  facts.x ==\n          ^\n')
    await writeFile(file, `${text}\n[groups.g]\nadmit = "facts.sytem.product == 'x'"\nname = "g-{serial}"\n`)
    expect((await muster('check', ruled)).out).toContain('did you mean system?')
  })

  it('publish without a trust set at the coordinator says what to do', async () => {
    const early = await muster('publish', dir)
    expect(early.code).toBe(exitCodes.refused.code)
    expect(early.err).toContain('muster trust set')
  })

  it('trust set makes the keys count, and trust show tells them', async () => {
    expect(await muster('trust', 'set', join(fleetFolder, 'trust.bin'))).toMatchObject({ code: 0 })
    const shown = await muster('trust', 'show')
    expect(shown.out).toContain(coordinator.trust()?.digest)
    expect(shown.out).not.toContain('word alone')
  })

  it('publish refuses a dirty tree, and takes a clean one', async () => {
    await addHost('olaf', 'serial = "SN1"\n')
    git('init', '-q')
    const dirty = await muster('publish', dir)
    expect(dirty.code).toBe(exitCodes.refused.code)
    expect(dirty.err).toContain('--allow-dirty')
    expect(coordinator.revisions).toHaveLength(0)
    const lock = '{ "nodes": { "root": {} }, "root": "root", "version": 7 }\n'
    await writeFile(join(dir, 'flake.lock'), lock)
    git('add', '-A')
    git('commit', '-qm', 'first')
    const published = await muster('publish', dir)
    expect(published).toMatchObject({ code: 0 })
    expect(published.out).toContain('revision 1 is published')
    const provenance = coordinator.revisions[0]?.manifest.manifest.provenance
    expect(provenance).toMatchObject({
      dirty: false,
      commit: git('rev-parse', 'HEAD').trim(),
      lockDigest: sha256Hex(lock),
      publisher: `${userInfo().username}@${hostname()}`,
      tool: `muster ${VERSION}`,
    })
  })

  it('the same directory again publishes nothing', async () => {
    const again = await muster('publish', dir, '-o', 'json')
    expect(JSON.parse(again.out)).toMatchObject({ number: 1, unchanged: true })
    expect(coordinator.revisions).toHaveLength(1)
  })

  it('diff shows hosts and files that would change', async () => {
    await addHost('anna')
    await writeFile(join(dir, 'hosts/olaf.nix'), '{ }\n')
    const changed = await muster('diff', dir)
    expect(changed.code).toBe(0)
    expect(changed.out).toContain('+ host anna')
    expect(changed.out).toContain('+ hosts/olaf.nix')
    expect(changed.out).toContain('~ fleet.toml')
    expect(changed.out).not.toContain('host olaf')
    expect(await muster('publish', dir, '--allow-dirty')).toMatchObject({ code: 0 })
    expect((await muster('diff', '1', '2')).out).toContain('+ host anna')
    expect((await muster('diff', '2')).out).toContain('are the same')
    expect((await muster('diff', dir)).out).toContain('are the same')
    expect((await muster('diff', dir, '1', '-o', 'json')).out).toContain('"anna"')
    expect((await muster('diff', '7')).code).toBe(exitCodes.notFound.code)
  })

  it('check and diff name the command for a host that is dropped', async () => {
    const file = join(dir, 'fleet.toml')
    const text = await readFile(file, 'utf8')
    await writeFile(file, text.replace('[hosts.anna]', ''))
    expect((await muster('check', dir)).out).toContain('`muster remove anna`')
    const note = {
      severity: 'note',
      path: 'hosts.anna',
      line: null,
      message: expect.stringContaining('remove'),
    }
    expect(JSON.parse((await muster('check', dir, '-o', 'json')).out)).toMatchObject([note])
    expect((await muster('check', dir, '-o', 'yaml')).out).toContain('`muster remove anna`')
    expect((await muster('check', dir, '-o', 'csv')).out).toMatch(/,note,hosts\.anna,.*`muster remove anna`/)
    expect((await muster('diff', dir)).out).toContain('`muster remove anna`')
    await writeFile(file, text)
  })

  it('diff explains gates, and publish refuses one whose script or Job no machine would get', async () => {
    const files = ['fleet.toml', '.gitignore'].map(name => join(dir, name))
    const before = await Promise.all(files.map(file => readFile(file, 'utf8')))
    await mkdir(join(dir, 'checks'))
    await writeFile(join(dir, 'checks/own.sh'), '#!/bin/sh\n', { mode: 0o755 })
    const text = before[0]?.replace(
      '[defaults]',
      '[gates.own]\nscript = "checks/own.sh"\n\n[defaults]\ngates = ["own"]',
    )
    await writeFile(join(dir, 'fleet.toml'), text ?? '')
    expect(await muster('check', dir)).toMatchObject({ code: 0, err: '' })
    expect((await muster('diff', dir)).out).toMatch(/gate own.*script checks\/own\.sh/)
    await writeFile(join(dir, '.gitignore'), `${before[1]}\nchecks/\n`)
    const refused = await muster('publish', dir, '--allow-dirty')
    expect(refused.code).toBe(exitCodes.refused.code)
    expect(refused.err).toContain('gate own: checks/own.sh is no executable file of the revision')
    const job =
      '[gates.own]\njob = "checks/own.json"\n\n[clusters.lab]\ndistribution = "k3s"\ngates = ["own"]\n\n[hosts.srv]\nrole = "server"\ncluster = "lab"\n\n[defaults]'
    await writeFile(join(dir, 'fleet.toml'), before[0]?.replace('[defaults]', job) ?? '')
    const template = { spec: { containers: [] } }
    const object = { apiVersion: 'batch/v1', kind: 'Job', metadata: { name: 'own' }, spec: { template } }
    await writeFile(join(dir, 'checks/own.json'), JSON.stringify(object))
    expect((await muster('diff', dir)).out).toContain('\nClusters\n+ cluster lab\n')
    const json = JSON.parse((await muster('diff', dir, '-o', 'json')).out)
    expect(json.clusters).toMatchObject([
      { kind: 'cluster', name: 'lab', change: 'added', fields: expect.arrayContaining([GATE]) },
    ])
    expect((await muster('diff', dir, '-o', 'csv')).out).toMatch(/^cluster,lab,added,/m)
    const unpacked = await muster('publish', dir, '--allow-dirty')
    expect(unpacked.code).toBe(exitCodes.refused.code)
    expect(unpacked.err).toContain('gate own: checks/own.json is no file of the revision')
    await Promise.all(files.map((file, index) => writeFile(file, before[index] ?? '')))
    await rm(join(dir, 'checks'), { recursive: true })
  })

  it('renew signs the same tree anew, and sends no tree', async () => {
    const renewed = await muster('publish', dir, '--renew', '--expires-in', '30d', '--allow-dirty')
    expect(renewed).toMatchObject({ code: 0, err: '' })
    const [, second, third] = coordinator.revisions
    expect(third?.manifest.number).toBe(3)
    expect(third?.manifest.manifest.treeDigest).toBe(second?.manifest.manifest.treeDigest)
    const days = (Number(third?.manifest.expires) - Number(third?.manifest.created)) / 86_400_000
    expect(days).toBe(30)
  })

  it('a floor never falls and never passes the number', async () => {
    expect((await muster('publish', dir, '--allow-dirty', '--floor', '9')).code).toBe(exitCodes.usage.code)
    expect(await muster('publish', dir, '--allow-dirty', '--floor', '3')).toMatchObject({ code: 0 })
    expect(coordinator.revisions.at(-1)?.manifest).toMatchObject({ number: 4, floor: 3 })
    const lower = await muster('publish', dir, '--allow-dirty', '--floor', '2')
    expect(lower.err).toContain('never falls')
  })

  it('a coordinator that shows less than was seen before is not followed', async () => {
    const kept = coordinator.revisions.splice(2)
    const older = await muster('publish', dir, '--allow-dirty')
    expect(older.code).toBe(exitCodes.refused.code)
    expect(older.err).toContain('--accept-older')
    coordinator.revisions.push(...kept)
  })

  it('a key that others can read is refused', async () => {
    await chmod(join(fleetFolder, 'signing.key'), 0o644)
    const lax = await muster('publish', dir, '--allow-dirty')
    expect(lax.code).toBe(exitCodes.refused.code)
    expect(lax.err).toContain('chmod 600')
    await chmod(join(fleetFolder, 'signing.key'), 0o600)
  })

  it('another operator’s key is refused before anything is sent', async () => {
    const before = coordinator.revisions.length
    const [other] = (await readdir(join(home, 'config/fleets'))).filter(id => !fleetFolder.endsWith(id))
    const key = join(home, 'config/fleets', other ?? '', 'signing.key')
    const refused = await muster('publish', dir, '--allow-dirty', '--key', key)
    expect(refused.code).toBe(exitCodes.refused.code)
    expect(refused.err).toContain('machines would refuse')
    expect(coordinator.revisions).toHaveLength(before)
  })

  it('export writes one file that import publishes elsewhere, as it was signed', async () => {
    await addHost('third')
    const file = join(home, 'third.muster')
    expect(await muster('publish', dir, '--allow-dirty', '--export', file)).toMatchObject({ code: 0 })
    const published = coordinator.revisions.pop()
    const imported = await muster('import', file)
    expect(imported).toMatchObject({ code: 0 })
    expect(coordinator.revisions.at(-1)?.manifest.digest).toBe(published?.manifest.digest)
    expect((await muster('import', file)).out).toContain('is there already')
    expect((await muster('import', file, '--cache', join(home, 'c'))).code).toBe(exitCodes.usage.code)
  })

  it('trust rotate keys replaces the signing key, and publishing goes on', async () => {
    const old = await readFile(join(fleetFolder, 'signing.key'), 'utf8')
    const rotated = await muster('trust', 'rotate', 'keys')
    expect(rotated).toMatchObject({ code: 0, err: '' })
    expect(coordinator.trust()?.number).toBe(2)
    expect(await readFile(join(fleetFolder, 'signing.key'), 'utf8')).not.toBe(old)
    expect(await readFile(join(fleetFolder, 'signing.key.1'), 'utf8')).toBe(old)
    expect(await muster('publish', dir, '--renew', '--allow-dirty')).toMatchObject({ code: 0 })
  })

  it('the recovery key replaces every signing key', async () => {
    await rm(join(fleetFolder, 'signing.key'))
    const lost = await muster('publish', dir, '--renew')
    expect(lost.code).toBe(exitCodes.notFound.code)
    const key = join(fleetFolder, 'recovery.key')
    expect(await muster('trust', 'rotate', 'keys', '--recovery-key', key)).toMatchObject({ code: 0, err: '' })
    expect(coordinator.trust()).toMatchObject({ number: 3, keys: { length: 1 } })
    expect(await muster('publish', dir, '--renew')).toMatchObject({ code: 0 })
  })

  it('a second person may sign, or must, or may no more', async () => {
    const { publicKey, privateKey } = generateKeyPairSync('ed25519')
    const [pub, key] = [join(home, 'ann.pub'), join(home, 'ann.key')]
    await writeFile(pub, publicKey.export({ type: 'spki', format: 'pem' }))
    await writeFile(key, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 })
    const own = join(fleetFolder, 'signing.key')
    expect((await muster('trust', 'rotate', 'keys', '--add', key)).err).toContain('private key')
    expect(await muster('trust', 'rotate', 'keys', '--add', pub, '--comment', 'ann')).toMatchObject({
      code: 0,
      err: '',
    })
    expect(await muster('publish', dir, '--renew', '--key', key)).toMatchObject({ code: 0 })
    expect(await muster('trust', 'rotate', 'keys', '--threshold', '2')).toMatchObject({ code: 0 })
    expect((await muster('publish', dir, '--renew')).code).toBe(exitCodes.refused.code)
    expect(await muster('publish', dir, '--renew', '--key', own, '--key', key)).toMatchObject({ code: 0 })
    expect(
      (await muster('trust', 'rotate', 'keys', '--remove', 'zzzz', '--key', own, '--key', key)).code,
    ).toBe(exitCodes.notFound.code)
    const annId = coordinator.trust()?.keys[1]?.keyId ?? ''
    // Who rotates replaces the own key, in whatever order the keys are named.
    const before = await readFile(own, 'utf8')
    expect((await muster('trust', 'rotate', 'keys', '--key', key)).err).toContain(`${own} (key `)
    expect(await muster('trust', 'rotate', 'keys', '--key', key, '--key', own)).toMatchObject({
      code: 0,
      out: expect.stringMatching(/destroy the old key \(.*signing\.key\.\d+\)/),
    })
    expect(coordinator.trust()?.keys.map(({ keyId }) => keyId)).toContain(annId)
    expect(await readFile(own, 'utf8')).not.toBe(before)
    const removed = await muster(
      'trust',
      'rotate',
      'keys',
      '--remove',
      annId.slice(0, 8),
      '--key',
      own,
      '--key',
      key,
    )
    expect(removed).toMatchObject({ code: 0 })
    expect(coordinator.trust()).toMatchObject({ keys: { length: 1 }, set: { threshold: 1 } })
  })

  it('the authority is replaced in three steps, each with its trust set', async () => {
    expect(await muster('trust', 'rotate', 'ca', 'add')).toMatchObject({ code: 0, err: '' })
    expect(coordinator.trust()?.set.caPins).toEqual(['c'.repeat(64), 'e'.repeat(64)])
    expect(await muster('trust', 'rotate', 'ca', 'switch')).toMatchObject({ code: 0, err: '' })
    expect(await muster('trust', 'rotate', 'ca', 'drop')).toMatchObject({ code: 0, err: '' })
    expect(coordinator.trust()?.set.caPins).toEqual(['e'.repeat(64)])
    const more = await muster('trust', 'rotate', 'ca', 'drop')
    expect(more.err).toContain('no authority that could be dropped')
  })

  it('an authority is dropped only with the keys for its trust set, and a drop that was cut off is finished', async () => {
    const { publicKey } = generateKeyPairSync('ed25519')
    const pub = join(home, 'bob.pub')
    await writeFile(pub, publicKey.export({ type: 'spki', format: 'pem' }))
    expect(await muster('trust', 'rotate', 'keys', '--add', pub, '--threshold', '2')).toMatchObject({
      code: 0,
    })
    const pins = () => coordinator.authorities.map(({ pin }) => pin)
    coordinator.authorities.unshift({ pin: 'd'.repeat(64), current: false, certificatePem: '' })
    const short = await muster('trust', 'rotate', 'ca', 'drop')
    expect(short).toMatchObject({ code: exitCodes.refused.code, err: expect.stringContaining('must sign') })
    expect(pins()).toEqual(['d'.repeat(64), 'e'.repeat(64)])
    // The recovery key stands for both. This run dies when the authority is gone, and before its set is pushed.
    const key = ['--recovery-key', join(fleetFolder, 'recovery.key')]
    expect(await muster('trust', 'rotate', 'ca', 'add', ...key)).toMatchObject({ code: 0 })
    expect(coordinator.trust()?.set.caPins).toHaveLength(2)
    coordinator.authorities.splice(0, 1)
    const finished = await muster('trust', 'rotate', 'ca', 'drop', ...key)
    expect(finished).toMatchObject({ code: 0, err: '', out: expect.stringContaining('lists one authority') })
    expect(coordinator.trust()?.set.caPins).toEqual(['e'.repeat(64)])
    expect(await muster('trust', 'rotate', 'keys', ...key)).toMatchObject({ code: 0 })
  })

  it('goes on where machines are when the coordinator lost its revisions', async () => {
    const last = coordinator.revisions.at(-1)?.manifest
    coordinator.loseRevisions()
    const published = await muster('publish', dir, '--allow-dirty')
    expect(published.err).toContain('the coordinator has no revisions')
    expect(coordinator.revisions.at(-1)?.manifest.number).toBe((last?.number ?? 0) + 1)
  })

  it('signs offline into a file, and takes it to the coordinator later', async () => {
    const file = join(home, 'offline.muster')
    await addHost('fourth')
    const before = coordinator.revisions.length
    expect(await muster('publish', dir, '--allow-dirty', '--offline', '--export', file)).toMatchObject({
      code: 0,
    })
    expect(coordinator.revisions).toHaveLength(before)
    expect(await muster('import', file)).toMatchObject({ code: 0 })
    expect(coordinator.revisions).toHaveLength(before + 1)
    expect((await muster('publish', dir, '--offline')).code).toBe(exitCodes.usage.code)
  })

  it('two operators who publish from the same revision: one wins, the other is told', async () => {
    const other = join(home, 'second')
    execFileSync('cp', ['-r', join(home, 'config'), other])
    await addHost('fifth')
    coordinator.meanwhile = async () => {
      const first = await runMuster(['publish', dir, '--allow-dirty', '--floor', '5'], {
        settings: { socket: coordinator.socket, configHome: other },
      })
      expect(first).toMatchObject({ code: 0 })
    }
    const slower = await muster('publish', dir, '--allow-dirty', '--floor', '4')
    expect(slower.code).toBe(exitCodes.conflict.code)
    expect(slower.err).toContain('was published meanwhile')
    expect(coordinator.revisions.at(-1)?.manifest.floor).toBe(5)
  })

  it('check and diff name the command for a host that changes cluster, role or distribution', async () => {
    const file = join(dir, 'fleet.toml')
    const text = await readFile(file, 'utf8')
    const write = ({ distribution = 'k3s', role = 'worker', cluster = 'main' }) =>
      writeFile(
        file,
        `${text}
[clusters]
main = { distribution = "${distribution}" }
other = { distribution = "k3s" }
[hosts]
s1 = { role = "server", cluster = "main" }
s2 = { role = "server", cluster = "other" }
w1 = { role = "${role}", cluster = "${cluster}" }
`,
      )
    await write({})
    expect(await muster('publish', dir, '--allow-dirty')).toMatchObject({ code: 0 })
    expect((await muster('check', dir)).out).not.toContain('muster leave')
    for (const change of [{ distribution: 'k0s' }, { role: 'server' }, { cluster: 'other' }]) {
      await write(change)
      const [field] = Object.keys(change)
      const note = `host w1 changes its ${field} but stays in its cluster as it is; \`muster leave w1\` takes it out first`
      for (const verb of ['check', 'diff']) expect((await muster(verb, dir)).out, verb).toContain(note)
      const told: unknown = JSON.parse((await muster('check', dir, '-o', 'json')).out)
      expect(told).toContainEqual(
        expect.objectContaining({ severity: 'note', message: expect.stringContaining(note) }),
      )
      expect(told).toContainEqual(
        expect.objectContaining({
          severity: 'warning',
          message: expect.stringMatching(/^cluster main: no /),
        }),
      )
    }
    await writeFile(file, text)
  })

  it('a host with another system is no part of a revision, nor of a diff', async () => {
    const file = join(dir, 'fleet.toml')
    const text = await readFile(file, 'utf8')
    await addHost('nas', 'os = "external"\n')
    expect((await muster('diff', dir)).out).not.toContain('host nas')
    expect((await muster('check', dir)).out).not.toContain('nas')
    const published = await muster('publish', dir, '--allow-dirty')
    expect(published).toMatchObject({ code: 0, err: expect.stringContaining('nas runs another system') })
    expect((await muster('diff', dir)).out).toContain('are the same')
    await writeFile(file, text)
  })
})
