import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ClosureFetchSchema } from '../../shared/gen/muster/v1/manifest_pb.ts'
import { closureDigest } from '../../shared/revision/closure-digest.ts'
import { sampleTarget } from '../../shared/revision/testing/sample-fleet.ts'
import { expectUntouched } from './testing/expect-machine.ts'
import { inWords, NodeUnderTest } from './testing/node-under-test.ts'
import { NEW, sampleMachine } from './testing/sample-machine.ts'
import type { Script } from './testing/scripted-system.ts'

let tree: string
beforeAll(async () => {
  tree = await mkdtemp(join(tmpdir(), 'tree-'))
  await writeFile(join(tree, 'flake.nix'), '{ outputs = _: { }; }')
})
afterAll(() => rm(tree, { recursive: true }))

describe('a closure', () => {
  const digest = closureDigest([{ path: NEW, narHash: `sha256:${'a'.repeat(64)}` }]) ?? ''
  const closure = (over: MessageInitShape<typeof ClosureFetchSchema> = {}) =>
    sampleTarget({
      way: {
        case: 'closure',
        value: create(ClosureFetchSchema, {
          storePath: NEW,
          substituters: ['https://cache.home'],
          publicKeys: ['home:key'],
          closureDigest: digest,
          ...over,
        }),
      },
    })
  const storeWith =
    (hash: string): Script =>
    args => {
      if (args.includes('--requisites')) return { stdout: [NEW] }
      if (args.includes('--hash')) return { stdout: [hash] }
      return {}
    }

  const storeThat = (fails: string, why: string): Script => {
    const good = storeWith(`sha256:${'a'.repeat(64)}`)
    return (args, cwd) => (args.includes(fails) ? { exitCode: 1, stderr: [why] } : good(args, cwd))
  }

  async function fetched(target: ReturnType<typeof closure>, script: Script) {
    const system = sampleMachine()
    system.scripts.set('nix-store', script)
    await using node = await NodeUnderTest.start(system)
    return { outcome: await node.apply(await node.publish(tree, { targets: [target] })), system }
  }

  it('is fetched by its name from the places and with the keys that the manifest names', async () => {
    const { outcome, system } = await fetched(closure(), storeWith(`sha256:${'a'.repeat(64)}`))
    expect(inWords(outcome)).toBe('succeeded')
    const fetch = system.commands.find(line => line.includes('--realise')) ?? ''
    expect(fetch).toContain(`--realise ${NEW}`)
    expect(fetch).toContain('--option substituters https://cache.home')
    expect(fetch).toContain('--option trusted-public-keys home:key')
    expect(fetch).toContain('--option require-sigs true')
    expect(fetch).toContain('--option max-jobs 0')
    expect(system.commands.some(line => line.startsWith('nixos-rebuild'))).toBe(false)
  })

  it.each([
    [
      'holds something else than was published',
      storeWith(`sha256:${'b'.repeat(64)}`),
      /is not what was published/,
    ],
    ['cannot be described', storeWith('sha256:what'), /is not what was published/],
    ['cannot be read', storeThat('--hash', 'error: disk I/O error'), /cannot be read/],
    ['is not there', storeThat('--realise', 'error: path is not valid'), /path is not valid/],
  ] as const)('that %s is not activated', async (_, script, reason) => {
    const { outcome, system } = await fetched(closure(), script)
    expect(inWords(outcome)).toBe('fetch failed')
    expect(outcome.reason).toMatch(reason)
    expectUntouched(system)
  })
})
