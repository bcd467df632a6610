import { randomInt } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { clone, create, toBinary } from '@bufbuild/protobuf'
import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type HubKeys, makeHubKeys } from '../../../agent/session/testing/hub.ts'
import { generateSigningKey } from '../../../shared/envelope/keys.ts'
import type { GetRevisionResponse } from '../../../shared/gen/muster/v1/agent_pb.ts'
import { EnvelopeSchema } from '../../../shared/gen/muster/v1/envelope_pb.ts'
import { ClosureFetchSchema, TargetSchema } from '../../../shared/gen/muster/v1/manifest_pb.ts'
import { Phase } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { manifestDigest } from '../../../shared/revision/read-manifest.ts'
import { type SampleRevision, sampleTarget } from '../../../shared/revision/testing/sample-fleet.ts'
import { packTree } from '../../../shared/tree/pack-tree.ts'
import { LyingCoordinator, responseOf, revisionOfToday } from '../../support/lying-coordinator.ts'
import { inWords } from './applying-fleet.ts'

// Every lie is told twice over in these tests: once whole and true, as the control that shows the node would have gone
// on, and once with the one thing changed. The node's tools write down that they were called.

let keys: HubKeys
let lying: LyingCoordinator
let tree: { readonly digest: string; readonly length: number }
let treeBytes: Buffer
const day = 86_400_000

beforeAll(async () => {
  keys = await makeHubKeys()
  const folder = await mkdtemp(join(tmpdir(), 'lt-'))
  await writeFile(join(folder, 'flake.nix'), '{ outputs = _: { }; }')
  await writeFile(join(folder, 'large'), 'x'.repeat(200_000))
  const file = join(folder, '../', `${folder.slice(-6)}.packed`)
  const packed = await packTree(folder, file)
  if (packed.kind === 'refused') throw new Error(packed.reason)
  tree = packed
  treeBytes = await readFile(file)
  await rm(folder, { recursive: true })
  await rm(file)
  lying = await LyingCoordinator.start(keys)
})
afterAll(() => lying?.[Symbol.asyncDispose]())

let number = 10
/** A good revision, each with a number of its own. */
const next = (
  change: Parameters<typeof revisionOfToday>[0] = {},
  key?: Parameters<typeof revisionOfToday>[1],
) => {
  number += 1
  return revisionOfToday({ number, tree, ...change }, key)
}

function flipBit(bytes: Uint8Array, bit = randomInt(bytes.length * 8)): Uint8Array {
  const copy = Uint8Array.from(bytes)
  copy[bit >> 3] = (copy[bit >> 3] ?? 0) ^ (1 << (bit & 7))
  return copy
}

/** What is told instead of the truth. */
interface Lie {
  readonly response?: (honest: GetRevisionResponse, revision: SampleRevision) => void
  readonly revision?: () => SampleRevision
  readonly order?: (revision: SampleRevision) => Parameters<LyingCoordinator['order']>[1]
  readonly tree?: Buffer
  readonly assignment?: { readonly host: string; readonly group?: string }
}

async function tell(lie: Lie) {
  const revision = lie.revision?.() ?? next()
  lying.answerTo(revision, lie.tree ?? treeBytes)
  // A tree that was checked before is not asked for again.
  if (lie.tree) await rm(join(lying.stateDir, 'trees'), { recursive: true })
  if (lie.response) {
    const response = responseOf(revision)
    lie.response(response, revision)
    lying.hub.revision = () => response
  }
  if (lie.assignment) lying.hub.newest?.send({ case: 'assignment', value: lie.assignment })
  try {
    return await lying.order(revision, lie.order?.(revision))
  } finally {
    if (lie.assignment) lying.hub.newest?.send({ case: 'assignment', value: { host: 'olaf' } })
  }
}

const envelopeOf = (response: GetRevisionResponse) => response.envelope ?? create(EnvelopeSchema)

describe('a coordinator that tells the truth', () => {
  it('is believed: the node takes the revision, checks the tree, and calls its tools', async () => {
    const outcome = await tell({})
    expect(inWords(outcome)).toBe('build failed')
    expect(outcome.phase).toBe(Phase.BUILD)
    expect(await lying.called()).toEqual([expect.stringMatching(/^nixos-rebuild build --flake path:/)])
    expect(JSON.parse(await lying.memory())).toMatchObject({ highest: number, host: 'olaf' })
  })
})

describe('a coordinator that lies is refused before anything is touched:', () => {
  const stranger = generateSigningKey()
  const lies: [name: string, words: RegExp, lie: Lie][] = [
    [
      'nothing at all',
      /^refused signature$/,
      { response: response => Object.assign(response, { envelope: undefined }) },
    ],
    [
      'no signatures',
      /^refused signature$/,
      { response: response => Object.assign(envelopeOf(response), { signatures: [] }) },
    ],
    [
      'a manifest of another type under the good signature',
      /^refused signature$/,
      {
        response: response =>
          Object.assign(envelopeOf(response), {
            payloadType: 'application/vnd.muster.trust-set.v1+protobuf',
          }),
      },
    ],
    [
      'T1: a signature that names another key',
      /^refused signature$/,
      {
        response: response => {
          for (const signature of envelopeOf(response).signatures) signature.keyId = stranger.keyId
        },
      },
    ],
    ['a forged signature', /^refused signature$/, { revision: () => next({}, stranger) }],
    [
      'a truncated manifest',
      /^refused signature$/,
      { response: r => Object.assign(envelopeOf(r), { payload: envelopeOf(r).payload.subarray(0, -1) }) },
    ],
    ['another fleet’s manifest', /^refused fleet$/, { revision: () => otherFleet() }],
    [
      'T5: an expired revision',
      /^refused expired$/,
      {
        revision: () =>
          next({ created: new Date(Date.now() - 2 * day), expires: new Date(Date.now() - 1_000) }),
      },
    ],
    [
      'a revision from the future',
      /^refused future$/,
      {
        revision: () =>
          next({ created: new Date(Date.now() + 600_000), expires: new Date(Date.now() + day) }),
      },
    ],
    [
      'a good revision beside an order for another one',
      /^refused order-mismatch$/,
      { order: revision => ({ manifestDigest: manifestDigest(flipBit(revision.payload)) }) },
    ],
    [
      'T4: a good manifest under another number',
      /^refused order-mismatch$/,
      { order: revision => ({ revision: BigInt(revision.manifest.number + 1) }) },
    ],
    [
      'the target of another host',
      /^refused target-mismatch$/,
      {
        revision: () => next({ targets: twoHosts() }),
        response: (r, revision) => Object.assign(r, { target: revision.targets[1]?.bytes ?? r.target }),
      },
    ],
    [
      'the target of another host, and that this node is that host',
      /^refused wrong-machine$/,
      {
        revision: () => next({ targets: twoHosts() }),
        response: (r, revision) => Object.assign(r, { target: revision.targets[1]?.bytes ?? r.target }),
        assignment: { host: 'bolt' },
      },
    ],
    [
      'that this node is another host, which no hardware ties to a machine',
      /^refused host-changed$/,
      {
        revision: () => next({ targets: [sampleTarget(), sampleTarget({ host: 'loose', binding: {} })] }),
        response: (r, revision) => Object.assign(r, { target: revision.targets[1]?.bytes ?? r.target }),
        assignment: { host: 'loose' },
      },
    ],
    [
      'that this node is of a group whose rule does not hold here',
      /^refused wrong-machine$/,
      {
        response: (r, revision) => Object.assign(r, { target: revision.targets[1]?.bytes ?? r.target }),
        assignment: { host: 'edge-1', group: 'edge' },
      },
    ],
    [
      'a target that was made after the signature',
      /^refused target-mismatch$/,
      {
        response: r => Object.assign(r, { target: toBinary(TargetSchema, sampleTarget({ role: 'worker' })) }),
      },
    ],
    [
      'the signed target with another store path',
      /^refused target-mismatch$/,
      {
        revision: () => next({ targets: [closureTarget('1')] }),
        response: r => Object.assign(r, { target: toBinary(TargetSchema, closureTarget('2')) }),
      },
    ],
    [
      'no target',
      /^refused (target-mismatch|malformed)$/,
      { response: r => Object.assign(r, { target: new Uint8Array() }) },
    ],
    [
      'a flipped bit in the tree',
      /^refused tree-digest$/,
      {
        get tree() {
          return Buffer.from(flipBit(treeBytes))
        },
      },
    ],
    [
      'a tree with something behind it',
      /^refused tree-length$/,
      {
        get tree() {
          return Buffer.concat([treeBytes, Buffer.alloc(512)])
        },
      },
    ],
    [
      'a tree that never ends in full',
      /^fetch failed$/,
      {
        get tree() {
          return treeBytes.subarray(0, -512)
        },
      },
    ],
    [
      'an order that has expired',
      /^refused expired$/,
      { order: () => ({ expires: timestampFromDate(new Date(Date.now() - 1_000)) }) },
    ],
    [
      'a target for another kind of machine',
      /^refused system$/,
      { revision: () => next({ targets: [sampleTarget({ system: 'aarch64-linux' })] }) },
    ],
  ]

  const twoHosts = () => [
    sampleTarget(),
    sampleTarget({ host: 'bolt', binding: { diskSerial: 'BOLTS-DISK' } }),
  ]
  const closureTarget = (digit: string) =>
    sampleTarget({
      way: {
        case: 'closure',
        value: create(ClosureFetchSchema, {
          storePath: `/nix/store/${digit.repeat(32)}-nixos-system-olaf-2`,
          substituters: ['https://cache.invalid'],
          publicKeys: ['home:key'],
          closureDigest: 'a'.repeat(64),
        }),
      },
    })
  const otherFleet = () => {
    const fleetId = 'f'.repeat(32)
    const targets = [clone(TargetSchema, sampleTarget())]
    for (const target of targets) target.fleetId = fleetId
    return next({ fleetId, targets })
  }

  it.each(lies)('%s', async (_, words, lie) => {
    const [machine, memory] = [await lying.machine(), await lying.memory()]
    const outcome = await tell(lie)
    expect(inWords(outcome)).toMatch(words)
    expect(outcome.reason).not.toBe('')
    expect(await lying.machine()).toEqual(machine)
    // Refused by its content, a revision is not remembered; the tree comes after the manifest was accepted.
    if (!/tree|fetch/.test(inWords(outcome))) expect(await lying.memory()).toBe(memory)
  })

  it('a bit that flipped anywhere in what was sent', async () => {
    const machine = await lying.machine()
    for (let count = 0; count < 16; count++) {
      const outcome = await tell({
        response: response => {
          const envelope = envelopeOf(response)
          const signature = envelope.signatures[0]
          const which = count % 4
          if (which === 0) envelope.payload = flipBit(envelope.payload)
          else if (which === 1 && signature) signature.signature = flipBit(signature.signature)
          else response.target = flipBit(response.target)
        },
      })
      expect(inWords(outcome)).toMatch(/^refused (signature|target-mismatch)$/)
    }
    expect(await lying.machine()).toEqual(machine)
  })

  it('T2, T11: an older revision below the floor, also after the agent was started anew', async () => {
    const old = next()
    expect(inWords(await tell({ revision: () => old }))).toBe('build failed')
    number += 1
    const raised = revisionOfToday({ number, tree, floor: number })
    expect(inWords(await tell({ revision: () => raised }))).toBe('build failed')
    const calls = (await lying.called()).length
    for (const restarted of [false, true]) {
      if (restarted) {
        await lying.program?.kill('SIGKILL')
        await lying.startAgent()
      }
      const outcome = await tell({ revision: () => old })
      expect(inWords(outcome)).toBe('refused rollback')
      expect(outcome.reason).toContain(`below ${number}`)
    }
    // Another revision under a number that was accepted is none of it either.
    const twin = revisionOfToday({ number, tree, floor: number, leastNixVersion: '1.0' })
    expect(inWords(await tell({ revision: () => twin }))).toBe('refused rollback')
    expect(await lying.called()).toHaveLength(calls)
  })

  it('an order whose id is a path: nothing is removed, nothing reported, and the next order is done', async () => {
    const revision = next()
    lying.answerTo(revision, treeBytes)
    for (const operationId of ['..', '../..', '../../root', '/', '.', '', 'x'.repeat(200)])
      lying.send(revision, { operationId })
    expect(inWords(await lying.order(revision))).toBe('build failed')
    expect(existsSync(join(lying.stateDir, 'key.pem'))).toBe(true)
    expect(existsSync(join(lying.dir, 'root/run'))).toBe(true)
    expect(lying.program?.running).toBe(true)
  })

  it('an acknowledgement of what never was: the node starts again with its journal whole', async () => {
    const revision = next()
    lying.answerTo(revision, treeBytes)
    await lying.order(revision, { operationId: 'acknowledged-too-much' })
    const value = { operationId: 'acknowledged-too-much', sequence: 2n ** 64n - 1n, outcome: true }
    lying.hub.newest?.send({ case: 'operationAck', value })
    await lying.order(revision)
    await lying.program?.kill('SIGKILL')
    await lying.startAgent()
    expect(inWords(await lying.order(revision))).toBe('build failed')
  })

  it('more orders than a node ever has: it takes a bounded number and lives on', async () => {
    const revision = next()
    lying.answerTo(revision, treeBytes)
    const orders: Parameters<typeof lying.send>[1][] = Array.from({ length: 300 }, (_, at) => ({
      operationId: `flood-${at}`,
    }))
    for (const order of orders) lying.send(revision, order)
    const last = () => lying.hub.newest?.of('operation').filter(({ value }) => value.outcome).length ?? 0
    await expect.poll(last, { timeout: 30_000 }).toBeGreaterThan(5)
    const journal = await readFile(join(lying.stateDir, 'journal.jsonl'), 'utf8')
    expect(new Set(journal.match(/"op":"flood-\d+"/g)).size).toBeLessThan(150)
    expect(lying.program?.running).toBe(true)
  })
})
