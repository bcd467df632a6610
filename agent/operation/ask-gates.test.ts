import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Target } from '../../shared/gen/muster/v1/manifest_pb.ts'
import { sampleTarget } from '../../shared/revision/testing/sample-fleet.ts'
import { inWords, NodeUnderTest } from './testing/node-under-test.ts'
import { sampleMachine } from './testing/sample-machine.ts'

let tree: string
beforeAll(async () => {
  tree = await mkdtemp(join(tmpdir(), 'tree-'))
  await writeFile(join(tree, 'flake.nix'), '{ outputs = _: { }; }')
  await writeFile(join(tree, 'well.sh'), '#!/bin/sh\n')
  await chmod(join(tree, 'well.sh'), 0o755)
})
afterAll(() => rm(tree, { recursive: true }))

const signal = new AbortController().signal
const inOrder = (node: NodeUnderTest) =>
  node.operations.askGates(signal).then(answers => answers.map(({ gate, verdict }) => `${gate} ${verdict}`))

/** A target that is proved by a script of the fleet directory. */
function withScript(name: string): Target {
  const target = sampleTarget()
  if (!target.safety) throw new Error('a target without safety')
  target.safety.gates = [
    {
      $typeName: 'muster.v1.Gate',
      name,
      probe: {
        case: 'script',
        value: { $typeName: 'muster.v1.ScriptProbe', path: 'well.sh', arguments: [] },
      },
    },
  ]
  return target
}

describe('the gates of a node', () => {
  it('are none before it had a revision, then those it was proved by, asked anew each time', async () => {
    const system = sampleMachine()
    await using node = await NodeUnderTest.start(system)
    expect(await inOrder(node)).toEqual([])
    let exitCode = 0
    let ran = 0
    const script = async () => {
      ran += 1
      return { exitCode }
    }
    const revision = await node.publish(tree, { targets: [withScript('web')] })
    const place = join(node.stateDir, 'trees', revision.manifest.manifest.treeDigest, 'well.sh')
    system.scripts.set(place, script)
    expect(inWords(await node.apply(revision))).toBe('succeeded')
    const before = ran
    expect(before).toBeGreaterThan(0)
    expect(await inOrder(node)).toEqual(['web healthy'])
    exitCode = 1
    expect(await inOrder(node)).toEqual(['web unhealthy'])
    exitCode = 75
    expect(await inOrder(node)).toEqual(['web unavailable'])
    expect(ran).toBe(before + 3)
    // They survive a restart of the agent.
    await node.stop()
    await node.start()
    exitCode = 0
    expect(await inOrder(node)).toEqual(['web healthy'])
  })

  it('cannot be asked where what it was proved by is gone: that is an error and never “none”', async () => {
    const system = sampleMachine()
    await using node = await NodeUnderTest.start(system)
    const revision = await node.publish(tree, { targets: [withScript('web')] })
    const place = join(node.stateDir, 'trees', revision.manifest.manifest.treeDigest, 'well.sh')
    system.scripts.set(place, () => ({ exitCode: 0 }))
    expect(inWords(await node.apply(revision))).toBe('succeeded')
    await rm(join(node.stateDir, 'trees'), { recursive: true })
    await expect(node.operations.askGates(signal)).rejects.toThrow('not kept any more')
  })
})
