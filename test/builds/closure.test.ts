import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { inWords } from '../../agent/operation/testing/node-under-test.ts'
import { ClosureFetchSchema } from '../../shared/gen/muster/v1/manifest_pb.ts'
import { Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import { sampleTarget } from '../../shared/revision/testing/sample-fleet.ts'
import { hasNix, nixEnvironment } from '../nix/nix-library.ts'
import {
  allAt,
  buildSystem,
  digestOfClosure,
  freshFlake,
  nix,
  nixMachine,
  nixStore,
  removeAll,
  temporaryFolder,
} from './nix-machine.ts'

// The node fetches what was built elsewhere: real Nix, real signatures, a store in a folder. Each system is deleted from
// the node's store before the node is told to fetch it.

interface Key {
  readonly file: string
  readonly publicKey: string
}

function makeKey(name: string): Key {
  const file = join(temporaryFolder(), 'key')
  const secret = nix('key', 'generate-secret', '--key-name', name)
  writeFileSync(file, secret, { mode: 0o600 })
  const publicKey = execFileSync('nix', ['key', 'convert-secret-to-public'], {
    input: secret,
    env: nixEnvironment,
    encoding: 'utf8',
  })
  return { file, publicKey: publicKey.trim() }
}

let key: Key
let other: Key
beforeAll(() => {
  if (!hasNix) return
  key = makeKey('here-1')
  other = makeKey('other-1')
})
afterAll(removeAll)

interface Published {
  readonly storePath: string
  readonly closureDigest: string
  readonly cache: string
}

/** Builds a host's system, signs it, copies it to a store in a folder, and forgets it here. */
function publishClosure(host: string, signer: Key | undefined): Published {
  const storePath = buildSystem(freshFlake(), host)
  const cache = join(temporaryFolder(), 'cache')
  if (signer) nix('store', 'sign', '--key-file', signer.file, '--recursive', storePath)
  nix('copy', '--to', `file://${cache}`, storePath)
  const closureDigest = digestOfClosure(storePath)
  nixStore('--delete', storePath)
  if (existsSync(storePath)) throw new Error(`${storePath} is still there`)
  return { storePath, closureDigest, cache }
}

async function applied(published: Published, over: MessageInitShape<typeof ClosureFetchSchema> = {}) {
  const machine = await nixMachine()
  await using node = machine.node
  const { storePath, closureDigest, cache } = published
  const value = create(ClosureFetchSchema, {
    storePath,
    closureDigest,
    substituters: [`file://${cache}`],
    publicKeys: [key.publicKey],
    ...over,
  })
  const targets = [sampleTarget({ way: { case: 'closure', value } })]
  const id = await node.order(await node.publish(freshFlake(), { targets }))
  const outcome = await node.outcome(id)
  const roots = existsSync(storePath) ? nixStore('--query', '--roots', storePath) : ''
  return { machine, outcome, roots, root: join(node.stateDir, 'roots', id), output: node.output.join('\n') }
}

describe.skipIf(!hasNix)(`closures ${hasNix ? '' : 'skipped: the command nix is missing'}`, () => {
  it('are fetched, checked and switched to; the node builds nothing and keeps a root on disk (T35)', async () => {
    const published = publishClosure('bolt', key)
    const { outcome, machine, roots, root, output } = await applied(published)
    expect(inWords(outcome)).toBe('succeeded')
    expect(outcome.storePath).toBe(published.storePath)
    expect(machine.state()).toEqual(allAt(published.storePath))
    expect(roots).toContain(root)
    expect(output).toContain(`copying path '${published.storePath}' from 'file://`)
    expect(output).not.toContain('building')
  })

  it.each([
    ['exit4', 'rolled back'],
    ['noagent', 'refused no-agent'],
    ['nodeadman', 'refused no-dead-man'],
    ['foreign', 'refused system'],
    ['newinterface', 'reboot required'],
  ])('of host %s end as a build on the node would: %s', async (host, words) => {
    const { outcome, machine } = await applied(publishClosure(host, key))
    expect(inWords(outcome)).toBe(words)
    expect(machine.state()).toEqual(allAt(machine.before))
  })

  it.each<[string, () => Promise<Awaited<ReturnType<typeof applied>>>, RegExp]>([
    [
      'signed by another key',
      async () => await applied(publishClosure('bolt', other)),
      /signature|don't know how to build|build/,
    ],
    [
      'signed by nobody',
      async () => await applied(publishClosure('bolt', undefined)),
      /signature|don't know how to build|build/,
    ],
    [
      'signed, where the manifest names another key',
      async () => await applied(publishClosure('bolt', key), { publicKeys: [other.publicKey] }),
      /signature|don't know how to build|build/,
    ],
    [
      'that no store has',
      async () => await applied({ ...publishClosure('bolt', key), cache: temporaryFolder() }),
      /./,
    ],
    [
      'that is not what was published',
      async () => await applied(publishClosure('bolt', key), { closureDigest: '0'.repeat(64) }),
      /is not what was published/,
    ],
  ])('%s are not activated', async (_, run, reason) => {
    const { outcome, machine } = await run()
    expect(inWords(outcome)).toBe('fetch failed')
    expect(outcome.phase).toBe(Phase.FETCH)
    expect(outcome.reason).toMatch(reason)
    expect(machine.state()).toEqual(allAt(machine.before))
  })

  it('that were damaged on the way are not taken', async () => {
    const published = publishClosure('bolt', key)
    const name = published.storePath.slice('/nix/store/'.length, '/nix/store/'.length + 32)
    const info = readFileSync(join(published.cache, `${name}.narinfo`), 'utf8')
    const nar = join(published.cache, /^URL: (\S+)$/m.exec(info)?.[1] ?? '')
    expect(readdirSync(join(published.cache, 'nar')).length).toBeGreaterThan(1)
    const bytes = readFileSync(nar)
    bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1
    writeFileSync(nar, bytes)
    const { outcome, machine } = await applied(published)
    expect(inWords(outcome)).toBe('fetch failed')
    expect(existsSync(published.storePath)).toBe(false)
    expect(machine.state()).toEqual(allAt(machine.before))
  })

  it('whose narinfo names another system are not taken: the signature ties name to content', async () => {
    const [good, evil] = [publishClosure('bolt', key), publishClosure('noagent', key)]
    const infoOf = ({ cache, storePath }: Published) => join(cache, `${storePath.slice(11, 43)}.narinfo`)
    const swapped = readFileSync(infoOf(evil), 'utf8').replace(
      /^StorePath: .*$/m,
      `StorePath: ${good.storePath}`,
    )
    writeFileSync(infoOf(good), swapped)
    execFileSync('cp', ['-r', `${evil.cache}/nar`, good.cache])
    const { outcome, machine } = await applied(good)
    expect(inWords(outcome)).toBe('fetch failed')
    expect(machine.state()).toEqual(allAt(machine.before))
  })
})
