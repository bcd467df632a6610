import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create } from '@bufbuild/protobuf'
import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { OrderSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { sha256Hex } from '../../shared/ids.ts'
import { decodeRecord, encodeRecord } from './journal-record.ts'
import { inWords, NodeUnderTest } from './testing/node-under-test.ts'
import { ScriptedSystem } from './testing/scripted-system.ts'

let tree: string
beforeAll(async () => {
  tree = await mkdtemp(join(tmpdir(), 'tree-'))
  await writeFile(join(tree, 'flake.nix'), '{ outputs = _: { }; }')
})
afterAll(() => rm(tree, { recursive: true }))

function machine(): ScriptedSystem {
  const system = new ScriptedSystem()
  system.links.set('/root/run/current-system', `/nix/store/${'0'.repeat(32)}-old`)
  system.scripts.set('nix-env', () => ({ stdout: ['nix-env (Nix) 2.8.0'] }))
  system.scripts.set('nixos-rebuild', () => ({ exitCode: 1, stderr: ['error: nothing is built here'] }))
  return system
}

const sizeOfJournal = async (node: NodeUnderTest) => (await stat(join(node.stateDir, 'journal.jsonl'))).size

describe('a coordinator that was taken over', () => {
  it('cannot hold an operation, and all behind it, with a download that stands still', async () => {
    await using node = await NodeUnderTest.start(machine(), { stallMs: 20, buildDeadlineMs: 300 })
    const revision = await node.publish(tree)
    node.download = async function* () {
      yield new Uint8Array([1])
      await new Promise(() => {}) // not even the signal ends it
    }
    const outcome = await node.apply(revision)
    expect(inWords(outcome)).toBe('fetch failed')
    expect(outcome.reason).toMatch(/tree not downloaded/)
  })

  it('nor with one that drips', async () => {
    await using node = await NodeUnderTest.start(machine(), { stallMs: 10_000, buildDeadlineMs: 200 })
    const revision = await node.publish(tree)
    node.download = async function* () {
      for (;;) {
        yield new Uint8Array(0)
        await new Promise(resolve => setTimeout(resolve, 5))
      }
    }
    expect(inWords(await node.apply(revision))).toBe('fetch failed')
  })

  it('cannot fill the disk with downloads that it breaks off', async () => {
    await using node = await NodeUnderTest.start(machine(), { stallMs: 1_000, buildDeadlineMs: 100 })
    const leftovers = join(node.stateDir, 'trees')
    for (const number of [1, 2, 3]) {
      await writeFile(join(tree, 'number'), String(number))
      const revision = await node.publish(tree, { number })
      node.download = async function* () {
        yield new Uint8Array([0])
      }
      expect(inWords(await node.apply(revision))).toBe('fetch failed')
      const packed = (await readdir(leftovers)).filter(name => name.endsWith('.packed'))
      expect(packed.length).toBeLessThanOrEqual(1)
    }
  })

  it('cannot fill the disk with orders that it never acknowledges', async () => {
    await using node = await NodeUnderTest.start(machine(), { allow: [] })
    const revision = await node.publish(tree)
    const give = async (from: number, count: number) => {
      for (let i = from; i < from + count; i++) {
        const id = await node.order(revision, `flood-${i}`)
        if (node.report(id)) await node.outcome(id)
      }
    }
    await give(0, 80)
    const before = await sizeOfJournal(node)
    expect(node.operations.history().length).toBe(64)
    await give(80, 20)
    expect(await sizeOfJournal(node)).toBe(before)
    // Acknowledged, there is room again.
    for (const { operationId, phases } of node.operations.reports()) {
      const sequence = phases.at(-1)?.sequence ?? 0n
      await node.operations.acknowledge({
        $typeName: 'muster.v1.OperationAck',
        operationId,
        sequence,
        outcome: true,
      })
    }
    await give(100, 1)
    expect(node.report('flood-100')).toBeDefined()
  })

  it('cannot write what it likes into the journal', async () => {
    await using node = await NodeUnderTest.start(machine(), { allow: [] })
    const before = await sizeOfJournal(node)
    for (const manifestDigest of ['x'.repeat(1_000_000), '', 'A'.repeat(64)]) {
      await node.operations.accept(
        create(OrderSchema, {
          operationId: 'op',
          revision: 1n,
          manifestDigest,
          expires: timestampFromDate(node.now),
        }),
      )
    }
    expect(await sizeOfJournal(node)).toBe(before)
  })

  it('cannot send an order that is written and then makes the journal unreadable', () => {
    const arbitrary = fc.record({
      seconds: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
      nanos: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
      small: fc.boolean(),
    })
    fc.assert(
      fc.property(arbitrary, fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (time, revision) => {
        const order = create(OrderSchema, {
          operationId: 'op',
          revision,
          manifestDigest: sha256Hex('x'),
          expires: { seconds: time.small ? time.seconds % 10n ** 11n : time.seconds, nanos: time.nanos },
        })
        let line: string
        try {
          line = encodeRecord({ kind: 'accepted', operation: 'op', sequence: 1, at: new Date(0), order })
        } catch {
          return // refused before anything was written
        }
        expect(decodeRecord(line)).toMatchObject({ kind: 'accepted' })
      }),
      { numRuns: 2_000 },
    )
  })
})
