import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create } from '@bufbuild/protobuf'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { RebootPolicy, SafetySchema } from '../../shared/gen/muster/v1/manifest_pb.ts'
import { Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import { sampleTarget } from '../../shared/revision/testing/sample-fleet.ts'
import { durationFromMs } from '../../shared/time.ts'
import { type PartOfSystem, ScriptedKubernetes } from '../kubernetes/testing/scripted-kubernetes.ts'
import type { OperationsConfig } from './context.ts'
import { rearmUnder } from './testing/boot-under-test.ts'
import { inWords, NodeUnderTest } from './testing/node-under-test.ts'
import { bootAnew, CURRENT, NEW, OLD, sampleMachine, switchProgram } from './testing/sample-machine.ts'
import type { ScriptedSystem } from './testing/scripted-system.ts'

let tree: string
beforeAll(async () => {
  tree = await mkdtemp(join(tmpdir(), 'tree-'))
  await writeFile(join(tree, 'flake.nix'), '{ outputs = _: { }; }')
})
afterAll(() => rm(tree, { recursive: true }))

const SAME = { version: '1.34.3', role: 'worker' } as const
const OLD_ONE: PartOfSystem = { ...SAME, runtime: 'old' }
const NEW_ONE: PartOfSystem = { ...SAME, runtime: 'new' }

type Verb = OperationsConfig['allow'][number]

interface Made extends AsyncDisposable {
  readonly system: ScriptedSystem
  readonly node: NodeUnderTest
  readonly kubernetes: ScriptedKubernetes
  /** Each restart of the runtime, with the system that ran then. */
  readonly restarts: string[]
  /** Called at each restart; what it says is why that fails. */
  onRestart: () => Promise<string | undefined> | string | undefined
}

async function made(old = OLD_ONE, next = NEW_ONE, allow: readonly Verb[] = ['apply']): Promise<Made> {
  const system = sampleMachine()
  const kubernetes = await ScriptedKubernetes.on(system, old, next)
  const node = await NodeUnderTest.start(system, { allow, kubernetesDeadlineMs: 100 })
  await node.stop()
  node.kubernetes = kubernetes
  await node.start()
  const world: Made = {
    system,
    node,
    kubernetes,
    restarts: [],
    onRestart: () => undefined,
    [Symbol.asyncDispose]: () => node[Symbol.asyncDispose](),
  }
  const systemctl = system.scripts.get('systemctl')
  system.scripts.set('systemctl', async (...args) => {
    const [[verb, unit]] = args
    if (verb === 'restart' && unit === 'containerd.service') {
      world.restarts.push(system.links.get(CURRENT) === NEW ? 'new' : 'old')
      const problem = await world.onRestart()
      if (problem !== undefined) return { exitCode: 1, stderr: [problem] }
    }
    return (await systemctl?.(...args)) ?? {}
  })
  return world
}

describe('a system that brings another container runtime', () => {
  it('restarts it once, after the switch and before anything is proved', async () => {
    await using world = await made()
    const { node, restarts } = world
    const seen: string[] = []
    world.onRestart = () => {
      seen.push(`restart in ${world.system.links.get(CURRENT)}`)
      return undefined
    }
    node.confirm = async () => {
      seen.push('confirm')
      return { confirmed: true, reason: '' }
    }
    const id = await node.order(await node.publish(tree))
    expect(inWords(await node.outcome(id))).toBe('succeeded')
    expect(seen).toEqual([`restart in ${NEW}`, 'confirm'])
    expect(restarts).toEqual(['new'])
    const report = node.report(id)
    expect(report?.plan).toMatchObject({
      restarts: ['containerd.service'],
      runtimeRestarts: true,
      kubernetesRestarts: false,
    })
    expect(report?.plan?.warnings.join()).toContain(
      'the container runtime changes, with /etc/containerd/config.toml: containerd.service restarts right after the switch',
    )
    // It is no other Kubernetes.
    expect(report?.phases.map(({ phase }) => phase)).not.toContain(Phase.KUBERNETES)
  })

  it('goes back with it when it does not start', async () => {
    await using world = await made()
    world.onRestart = () => (world.restarts.length === 1 ? 'Job for containerd.service failed' : undefined)
    const outcome = await world.node.apply(await world.node.publish(tree))
    expect([inWords(outcome), outcome.reason]).toEqual([
      'rolled back',
      expect.stringContaining('the container runtime of the new system does not start'),
    ])
    expect(outcome.reason).toContain('Job for containerd.service failed')
    expect([world.restarts, world.system.links.get(CURRENT)]).toEqual([['new', 'old'], OLD])
    expect(world.node.operations.nodeStatus().quarantined).toHaveLength(1)
  })

  it('goes back with it when it starts and is not ready', async () => {
    await using world = await made()
    world.onRestart = () => {
      world.kubernetes.runtimeReady = world.restarts.length !== 1
      return undefined
    }
    const outcome = await world.node.apply(await world.node.publish(tree))
    expect(inWords(outcome)).toBe('rolled back')
    expect(outcome.reason).toContain('the container runtime at unix:///run/containerd/containerd.sock')
    expect(outcome.reason).toContain('does not say RuntimeReady (made-up)')
    expect(world.restarts).toEqual(['new', 'old'])
  })

  it('goes back with it when its node is not Ready', async () => {
    await using world = await made()
    world.kubernetes.readNode = async () =>
      world.restarts.length === 0
        ? { kind: 'ready' }
        : { kind: 'not-ready', reason: 'node olaf is not Ready (why)' }
    const outcome = await world.node.apply(await world.node.publish(tree))
    expect([inWords(outcome), outcome.reason]).toEqual([
      'rolled back',
      expect.stringContaining('node olaf is not Ready (why)'),
    ])
  })

  it('fails to go back where the old one does not start any more', async () => {
    await using world = await made()
    world.onRestart = () => 'it is gone'
    const outcome = await world.node.apply(await world.node.publish(tree))
    expect([inWords(outcome), outcome.reason]).toEqual([
      'rollback failed',
      expect.stringContaining('its container runtime did not come back'),
    ])
    expect(world.system.links.get(CURRENT)).toBe(OLD)
  }, 60_000)

  it('leaves it alone where the switch touched nothing', async () => {
    await using world = await made()
    world.system.scripts.set(switchProgram(NEW), () => ({ exitCode: 11, stderr: ['Could not acquire lock'] }))
    expect(inWords(await world.node.apply(await world.node.publish(tree)))).toBe('busy')
    expect(world.restarts).toEqual([])
  })

  it('leaves it alone, and says so in its plan, where the cluster is nobody’s of ours', async () => {
    await using world = await made()
    world.kubernetes.ours = false
    const id = await world.node.order(await world.node.publish(tree))
    expect(inWords(await world.node.outcome(id))).toBe('succeeded')
    expect(world.node.report(id)?.plan).toMatchObject({ restarts: [], runtimeRestarts: false })
    expect(world.restarts).toEqual([])
  })

  it('goes on when the agent is killed while it restarts', async () => {
    await using world = await made()
    let killed: Promise<void> | undefined
    world.onRestart = () => {
      killed ??= world.node.kill()
      return undefined
    }
    const id = await world.node.order(await world.node.publish(tree))
    while (!killed) await new Promise(resolve => setTimeout(resolve, 5))
    await killed
    await world.node.start()
    expect(inWords(await world.node.outcome(id))).toBe('succeeded')
    expect(world.restarts).toEqual(['new', 'new'])
  })

  it('needs no restart after a power cut: the boot started the old one', async () => {
    await using world = await made()
    let cut = false
    world.onRestart = () => {
      if (!cut) {
        cut = true
        void world.node.kill()
      }
      return undefined
    }
    const id = await world.node.order(await world.node.publish(tree))
    while (!cut) await new Promise(resolve => setTimeout(resolve, 5))
    await world.node.units.cut()
    await world.node.stop()
    bootAnew(world.system)
    await world.node.start()
    expect(inWords(await world.node.outcome(id))).toBe('rolled back')
    expect(world.restarts).toEqual(['new'])
  })

  it.each([
    [true, 'succeeded', [NEW]],
    [false, 'rolled back', [NEW, OLD]],
  ] as const)(
    'that is booted into is proved and restarted by nobody: ready %s',
    async (ready, words, boots) => {
      await using world = await made(OLD_ONE, NEW_ONE, ['apply', 'reboot'])
      const { system, node, kubernetes } = world
      system.files.set(join(NEW, 'init-interface-version'), 'other\n')
      let asked = 0
      node.units.onReboot = async () => {
        asked += 1
      }
      const safety = create(SafetySchema, {
        soak: durationFromMs(0),
        confirmWithin: durationFromMs(20_000),
        reboot: RebootPolicy.REQUIRED,
        noTrial: true,
      })
      const id = await node.order(await node.publish(tree, { targets: [sampleTarget({ safety })] }))
      for (const [number, toplevel] of boots.entries()) {
        await vi.waitUntil(() => asked > number, { timeout: 60_000 })
        await node.kill()
        await node.units.cut()
        bootAnew(system, toplevel)
        kubernetes.runtimeReady = ready
        await rearmUnder(node)
        await node.start()
      }
      const outcome = await node.outcome(id)
      expect([inWords(outcome), world.restarts]).toEqual([words, []])
      if (!ready) expect(outcome.reason).toContain('does not say RuntimeReady')
      await node.units.idle()
    },
  )

  it('is refused where it would be another program: its pods would run on beside the new ones', async () => {
    await using world = await made(OLD_ONE, { ...NEW_ONE, endpoint: 'unix:///var/run/crio/crio.sock' })
    const outcome = await world.node.apply(await world.node.publish(tree))
    expect([inWords(outcome), outcome.reason]).toEqual([
      'refused kubernetes',
      expect.stringContaining('container runtime: unix:///run/containerd/containerd.sock'),
    ])
  })
})
