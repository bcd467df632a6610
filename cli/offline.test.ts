// publish --export and --offline, and import, where something goes wrong on the way; with real files and keys against a real gRPC server.
import { mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { decodeEnvelope } from '../shared/envelope/decode-envelope.ts'
import { readManifest } from '../shared/revision/read-manifest.ts'
import { exitCodes } from './exit-codes.ts'
import { readExport, readPart } from './fleets/export-file.ts'
import { type Ran, runMuster } from './testing/run-muster.ts'
import { type SmallCoordinator, startSmallCoordinator } from './testing/small-coordinator.ts'

let coordinator: SmallCoordinator
let home: string
let dir: string

const muster = (...words: string[]): Promise<Ran> =>
  runMuster(words, { settings: { socket: coordinator.socket, configHome: join(home, 'config') } })
const publish = (...words: string[]) => muster('publish', dir, ...words)
const offline = (name: string, ...words: string[]) =>
  publish('--offline', '--export', join(home, name), ...words)

async function addHost(name: string): Promise<void> {
  const file = join(dir, 'fleet.toml')
  await writeFile(file, `${await readFile(file, 'utf8')}\n[hosts.${name}]\n`)
}

/** Number and digest of what a file holds. */
async function exported(name: string): Promise<{ number: number; digest: string }> {
  const path = join(home, name)
  const part = (await readExport(path)).find(({ kind }) => kind === 'envelope')
  const chunks: Buffer[] = []
  if (part) for await (const chunk of readPart(path, part)) chunks.push(chunk)
  const read = readManifest(decodeEnvelope(Buffer.concat(chunks))?.payload ?? new Uint8Array())
  if (read.kind === 'refused') throw new Error(read.reason)
  return { number: read.manifest.number, digest: read.manifest.digest }
}

beforeEach(async () => {
  coordinator = await startSmallCoordinator()
  home = await mkdtemp(join(tmpdir(), 'muster-home-'))
  dir = join(home, 'fleet')
  expect(await muster('init', dir)).toMatchObject({ code: 0 })
  const [fleetId] = await readdir(join(home, 'config/fleets'))
  expect(await muster('trust', 'set', join(home, 'config/fleets', fleetId ?? '', 'trust.bin'))).toMatchObject(
    {
      code: 0,
    },
  )
  await addHost('olaf')
  expect(await publish()).toMatchObject({ code: 0 })
})
afterEach(async () => {
  await coordinator[Symbol.asyncDispose]()
  await rm(home, { recursive: true, force: true })
})

it('an unchanged directory is exported as the revision that says it already: nothing else was published', async () => {
  const again = await publish('--export', join(home, 'e1'))
  expect(again).toMatchObject({
    code: 0,
    out: expect.stringContaining('revision 1 already says exactly this'),
  })
  expect(await exported('e1')).toEqual({ number: 1, digest: coordinator.revisions[0]?.manifest.digest })
  expect((await muster('import', join(home, 'e1'))).out).toContain('revision 1 is there already')
})

it('a file that cannot be written is told before anything is signed, built or published', async () => {
  await addHost('anna')
  for (const words of [[], ['--offline']]) {
    const nowhere = await publish(...words, '--export', join(home, 'no/such/folder/x'))
    expect(nowhere.code).toBe(exitCodes.notFound.code)
    expect(nowhere.err).toContain('its folder does not exist')
    const noFolder = await publish(...words, '--export', join(dir, 'fleet.toml/x'))
    expect(noFolder.err).toContain('cannot be written')
    const there = await publish(...words, '--export', join(dir, 'fleet.toml'))
    expect(there.code).toBe(exitCodes.conflict.code)
    expect(`${nowhere.out}${there.out}`).toBe('')
  }
  expect(coordinator.revisions).toHaveLength(1)
  // No number was used up.
  expect(await offline('o2')).toMatchObject({ code: 0 })
  expect(await exported('o2')).toMatchObject({ number: 2 })
  expect(await muster('import', join(home, 'o2'))).toMatchObject({ code: 0 })
})

it('the same directory offline once more is the same revision, and one more after a change', async () => {
  expect((await offline('same')).out).toContain('revision 1 already says exactly this')
  expect(await exported('same')).toMatchObject({ number: 1 })
  await addHost('anna')
  expect((await offline('a')).out).toContain('revision 2 is signed')
  expect((await offline('b')).out).toContain('revision 2 already says exactly this')
  expect(await exported('b')).toEqual(await exported('a'))
  await addHost('bolt')
  await offline('c')
  for (const [name, number] of [['b', 2] as const, ['a', 2] as const, ['c', 3] as const]) {
    expect((await muster('import', join(home, name))).out, name).toContain(`revision ${number} is`)
  }
  expect(coordinator.revisions.map(({ manifest }) => manifest.number)).toEqual([1, 2, 3])
})

it('import names the revision that is missing in between, and the way out leads on', async () => {
  for (const [host, name] of [['anna', 'o2'] as const, ['bolt', 'o3'] as const, ['cleo', 'o4'] as const]) {
    await addHost(host)
    await offline(name)
  }
  const late = await muster('import', join(home, 'o4'))
  expect(late.code).toBe(exitCodes.conflict.code)
  expect(late.err).toMatch(/revision 4 follows revision 3 .*the newest here is 1: import 2 to 3 first/)
  expect((await muster('import', join(home, 'o3'))).err).toContain('import 2 first')
  // The files were lost: where the coordinator is reached it goes on from what that has.
  expect(await publish('--accept-older')).toMatchObject({ code: 0 })
  expect(coordinator.revisions.at(-1)?.manifest.number).toBe(2)
  expect((await muster('import', join(home, 'o3'))).err).toContain('revision 2 here is another one')
  expect((await muster('import', join(home, 'o2'))).err).toContain('the newest here is 2 already')
})

describe('a site that is renewed by files', () => {
  const renew = (name: string, ...words: string[]) =>
    publish('--renew', '--offline', '--export', join(home, name), ...words)
  const numbers = () => coordinator.revisions.map(({ manifest }) => manifest.number)

  it('takes the newest revision signed anew, which lasts longer and names the one before', async () => {
    const [before] = coordinator.revisions
    expect((await renew('r2', '--expires-in', '200d')).out).toMatch(/^revision 2 is signed .*\n.*take it to/)
    const parts = await readExport(join(home, 'r2'))
    expect(parts.map(({ kind }) => kind)).toEqual(['envelope', 'target'])
    expect(await muster('import', join(home, 'r2'))).toMatchObject({
      code: 0,
      out: expect.stringContaining('revision 2 is published'),
    })
    const after = coordinator.revisions.at(-1)
    expect(after?.manifest.manifest.predecessor).toBe(before?.manifest.digest)
    expect(after?.manifest.manifest.treeDigest).toBe(before?.manifest.manifest.treeDigest)
    expect(after?.manifest.expires.getTime()).toBeGreaterThan(before?.manifest.expires.getTime() ?? Infinity)
    expect((await muster('import', join(home, 'r2'))).out).toContain('revision 2 is there already')
    // A directory that changed goes on from there.
    await addHost('anna')
    await offline('o3')
    expect(await muster('import', join(home, 'o3'))).toMatchObject({ code: 0 })
    expect(numbers()).toEqual([1, 2, 3])
  })

  it('goes on only from the very revision that was renewed', async () => {
    await renew('r2')
    await renew('r3')
    const gap = await muster('import', join(home, 'r3'))
    expect(gap.code).toBe(exitCodes.conflict.code)
    expect(gap.err).toContain('import 2 first')
    // Somebody else published there meanwhile.
    await addHost('anna')
    expect(await publish('--accept-older')).toMatchObject({ code: 0 })
    const late = await muster('import', join(home, 'r2'))
    expect(late.code).toBe(exitCodes.conflict.code)
    expect(late.err).toContain('the newest here is 2 already')
    expect(numbers()).toEqual([1, 2])
  })

  it('needs the revision whose tree it keeps', async () => {
    await renew('r2')
    coordinator.loseRevisions()
    const lost = await muster('import', join(home, 'r2'))
    expect(lost.code).toBe(exitCodes.refused.code)
    expect(coordinator.revisions).toEqual([])
  })

  it('also takes a renewal that comes with its tree, where it was published at another coordinator', async () => {
    const [first] = coordinator.revisions
    expect(await publish('--renew', '--export', join(home, 'r2'))).toMatchObject({ code: 0 })
    expect(await publish('--export', join(home, 'again'))).toMatchObject({ code: 0 })
    for (const name of ['r2', 'again']) {
      // The other coordinator.
      coordinator.revisions.splice(0, coordinator.revisions.length, ...(first ? [first] : []))
      expect((await muster('import', join(home, name))).out, name).toContain('revision 2 is published')
      expect(numbers()).toEqual([1, 2])
    }
  })

  it('misses none when the signing is cut off before its file is there', async () => {
    await renew('r2')
    await rename(join(home, 'r2'), join(home, 'r2.partial'))
    expect((await renew('r2')).out).toContain('revision 2 is signed')
    expect(await exported('r2')).toMatchObject({ number: 2 })
    // What is left of a file that was cut before is none.
    await writeFile(join(home, 'r3.partial'), (await readFile(join(home, 'r2'))).subarray(0, -40))
    expect((await renew('r3')).out).toContain('revision 3 is signed')
    expect((await renew('r3')).code).toBe(exitCodes.conflict.code)
    for (const name of ['r2', 'r3']) await muster('import', join(home, name))
    expect(numbers()).toEqual([1, 2, 3])
  })

  it('is told as data, and nothing else stands there', async () => {
    expect(JSON.parse((await renew('r2', '-o', 'json')).out)).toMatchObject({
      number: 2,
      file: join(home, 'r2'),
    })
    expect(JSON.parse((await offline('o2', '-o', 'json')).out)).toMatchObject({ number: 2, unchanged: true })
    await muster('import', join(home, 'r2'))
    expect(
      JSON.parse((await publish('--renew', '--export', join(home, 'r3'), '-o', 'json')).out),
    ).toMatchObject({ number: 3 })
  })
})

it('nothing is published with a secret in a file that every node could read', async () => {
  const secret = `K10${'0f'.repeat(32)}::server:${'ab'.repeat(16)}`
  await addHost('otto')
  await writeFile(join(dir, 'token.txt'), `${secret}\n`)
  const refused = await publish()
  expect(refused).toMatchObject({
    code: exitCodes.refused.code,
    err: expect.stringContaining('token.txt:1:1: error: this looks like a k3s token'),
  })
  expect(refused.err).not.toContain(secret)
  await rm(join(dir, 'token.txt'))
  expect(await publish()).toMatchObject({ code: 0 })
})
