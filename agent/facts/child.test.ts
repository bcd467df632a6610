import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fromBinary } from '@bufbuild/protobuf'
import { build } from 'esbuild'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { FactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import { sha256Hex } from '../../shared/ids.ts'
import { createRealSystem } from '../system/real-system.ts'
import type { System } from '../system/system.ts'
import { collectFactsInChild, evaluateRuleInChild, type FactsChildConfig } from './collect-in-child.ts'

const here = (path: string) => new URL(path, import.meta.url).pathname
const system = createRealSystem({ root: '/', path: '/usr/bin:/bin:/usr/sbin:/sbin' })
let folder: string
let script: string

/** A bundle with nothing but the child's entry, as the agent's own bundle has it. */
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'muster-child-'))
  script = join(folder, 'child.mjs')
  await build({
    stdin: {
      contents: `
        import { runFactsChild } from ${JSON.stringify(here('./child.ts'))}
        const { stdin, stdout, stderr, argv, env } = process
        process.exitCode = await runFactsChild({ argv: argv.slice(2), path: env.PATH ?? '', stdin, stdout, stderr })
      `,
      resolveDir: here('../..'),
      loader: 'ts',
    },
    bundle: true,
    platform: 'node',
    format: 'esm',
    outfile: script,
    logLevel: 'error',
    banner: { js: "import{createRequire}from'module';const require=createRequire(import.meta.url);" },
  })
})
afterAll(() => rm(folder, { recursive: true }))

const config = (root?: string): FactsChildConfig => ({
  system,
  command: [process.execPath, script],
  root: root === undefined ? undefined : here(`../../test/fixtures/roots/${root}`),
  deadlineMs: 30_000,
})

describe('the facts child', () => {
  test('prints serialised facts of a made-up root, the same each time', async () => {
    const one = await collectFactsInChild(config('nvme-server'))
    const two = await collectFactsInChild(config('nvme-server'))
    expect(fromBinary(FactsSchema, one.bytes)).toMatchObject({
      simulated: true,
      system: { serial: '7XK2Q14' },
    })
    expect(one.digest).toBe(sha256Hex(one.bytes))
    expect(two.digest).toBe(one.digest)
  })

  test('reads this machine when no root is given', async () => {
    const { bytes } = await collectFactsInChild(config())
    const facts = fromBinary(FactsSchema, bytes)
    expect(facts.simulated).toBe(false)
    expect(facts.cpu?.threads).toBeGreaterThan(0n)
  })

  test('that fails, or prints no facts, is an error and not empty facts', async () => {
    const failing = join(folder, 'failing.mjs')
    await writeFile(failing, 'process.stderr.write("no luck"); process.exitCode = 3')
    await expect(collectFactsInChild({ ...config(), command: [process.execPath, failing] })).rejects.toThrow(
      'reading of facts: exit code 3: no luck',
    )
    const chatty = join(folder, 'chatty.mjs')
    await writeFile(chatty, 'process.stdout.write("x".repeat(2e5))')
    await expect(collectFactsInChild({ ...config(), command: [process.execPath, chatty] })).rejects.toThrow(
      'more than',
    )
    await expect(collectFactsInChild({ ...config(), command: ['/absent/node'] })).rejects.toThrow('not found')
  })

  test('has time as a whole, and each of its tools less, however much that is', async () => {
    const told: string[] = []
    const system: System = {
      ...config().system,
      run: async (_program, args) => {
        told.push(args.at(-1) ?? '')
        throw new Error('enough')
      },
    }
    for (const deadlineMs of [10_000, 30_000, 120_000])
      await expect(collectFactsInChild({ ...config(), system, deadlineMs })).rejects.toThrow('enough')
    expect(told).toEqual(['8000', '24000', '24000'])
  })

  test('ends at its deadline', async () => {
    const sleeping = join(folder, 'sleeping.mjs')
    await writeFile(sleeping, 'setInterval(() => {}, 1000)')
    await expect(
      collectFactsInChild({ ...config(), command: [process.execPath, sleeping], deadlineMs: 300 }),
    ).rejects.toThrow('not done within 300 ms')
  })
})

describe('a rule in the child', () => {
  test('is answered over the machine’s own facts, with what a name is made of', async () => {
    const rule = "facts.system.product == 'PowerEdge R660' && facts.disks.exists(d, d.transport == 'nvme')"
    expect(await evaluateRuleInChild(config('nvme-server'), rule)).toEqual({
      rule,
      kind: 'match',
      reason: 'the rule holds for the facts of this machine',
      values: { serial: '7XK2Q14', uuid: '4c4c4544-0058-4b10-8032-b7c04f513134', mac: 'b0:7b:25:aa:10:01' },
    })
    expect(await evaluateRuleInChild(config('raspberry'), 'facts.cpu.threads > 8')).toMatchObject({
      kind: 'no-match',
    })
  })

  test('that needs what the machine cannot read is an error, never a no', async () => {
    expect(await evaluateRuleInChild(config('broken'), "facts.system.serial == 'x'")).toMatchObject({
      kind: 'error',
      reason: expect.stringContaining('serial'),
      values: { mac: 'a8:a1:59:11:22:33' },
    })
    expect(await evaluateRuleInChild(config('broken'), "labels.zone == 'x'")).toMatchObject({ kind: 'error' })
    expect(await evaluateRuleInChild(config('broken'), 'facts.(')).toMatchObject({ kind: 'error' })
    expect(await evaluateRuleInChild({ ...config(), command: ['/absent/node'] }, 'true')).toMatchObject({
      kind: 'error',
    })
  })
})
