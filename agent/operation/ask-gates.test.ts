import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create } from '@bufbuild/protobuf'
import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { OrderSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import type { Target } from '../../shared/gen/muster/v1/manifest_pb.ts'
import { sampleTarget } from '../../shared/revision/testing/sample-fleet.ts'
import { ScriptedKubernetes } from '../kubernetes/testing/scripted-kubernetes.ts'
import { inWords, NodeUnderTest } from './testing/node-under-test.ts'
import { CURRENT, NEW, OLD, sampleMachine, switchProgram } from './testing/sample-machine.ts'

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

  it('are none while nothing was brought there: neither those of what was only planned, nor of what went back', async () => {
    const system = sampleMachine()
    await using node = await NodeUnderTest.start(system)
    const revision = await node.publish(tree, { targets: [withScript('web')] })
    const place = join(node.stateDir, 'trees', revision.manifest.manifest.treeDigest, 'well.sh')
    system.scripts.set(place, () => ({ exitCode: 1 }))
    const order = create(OrderSchema, {
      operationId: 'planned',
      revision: BigInt(revision.manifest.number),
      manifestDigest: revision.manifest.digest,
      expires: timestampFromDate(new Date(node.now.getTime() + 3_600_000)),
      action: { case: 'apply', value: { planOnly: true } },
    })
    await node.operations.accept(order)
    expect(inWords(await node.outcome('planned'))).toBe('succeeded')
    expect(await inOrder(node)).toEqual([])
    expect(inWords(await node.apply(revision))).toBe('rolled back')
    expect(await inOrder(node)).toEqual([])
  })

  it('are those of a system that stays though its Kubernetes failed', async () => {
    const system = sampleMachine()
    const kubernetes = await ScriptedKubernetes.on(system, { version: '1.34.3' }, { version: '1.35.4' })
    await using node = await NodeUnderTest.start(system, { kubernetesDeadlineMs: 50 })
    await node.stop()
    node.kubernetes = kubernetes
    await node.start()
    kubernetes.onRestart = () => {
      kubernetes.broken = 'etcd'
    }
    const revision = await node.publish(tree, { targets: [withScript('web')] })
    const place = join(node.stateDir, 'trees', revision.manifest.manifest.treeDigest, 'well.sh')
    system.scripts.set(place, () => ({ exitCode: 0 }))
    expect(inWords(await node.apply(revision))).toBe('activation failed')
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

describe('a change that went back', () => {
  it('says what the gates of the system that runs again say of it', async () => {
    const system = sampleMachine()
    await using node = await NodeUnderTest.start(system)
    const first = await node.publish(tree, { targets: [withScript('web')] })
    const place = join(node.stateDir, 'trees', first.manifest.manifest.treeDigest, 'well.sh')
    let exitCode = 0
    system.scripts.set(place, () => ({ exitCode }))
    expect(inWords(await node.apply(first))).toBe('succeeded')
    // The next one is the system of before, and breaks something that going back does not mend.
    system.scripts.set('nixos-rebuild', (_, cwd) => {
      system.links.set(join(cwd ?? '', 'result'), OLD)
      return { stdout: [OLD] }
    })
    system.scripts.set(switchProgram(OLD), () => {
      system.links.set(CURRENT, OLD)
      return { exitCode: 2, stderr: ['activating the configuration...', 'Failed to run activate script'] }
    })
    const back = await node.apply(await node.publish(tree, { number: 6 }))
    expect(inWords(back)).toBe('rolled back')
    expect([back.reason, system.links.get(CURRENT)]).toEqual([
      expect.stringMatching(/all its gates are healthy$/),
      NEW,
    ])
    const retry = create(OrderSchema, { action: { case: 'retry', value: {} } })
    await node.outcome(await node.operations.acceptLocal(retry))
    exitCode = 1
    const again = await node.apply(await node.publish(tree, { number: 7 }))
    expect([inWords(again), again.reason]).toEqual([
      'rolled back',
      expect.stringMatching(/its gates: web unhealthy \(/),
    ])
  }, 60_000)
})
