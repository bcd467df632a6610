import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create } from '@bufbuild/protobuf'
import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { OrderSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { KubernetesTargetSchema, type Target } from '../../shared/gen/muster/v1/manifest_pb.ts'
import { Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import { type SampleRevision, sampleTarget } from '../../shared/revision/testing/sample-fleet.ts'
import { type PartOfSystem, ScriptedKubernetes } from '../kubernetes/testing/scripted-kubernetes.ts'
import type { OperationsConfig } from './context.ts'
import { inWords, NodeUnderTest } from './testing/node-under-test.ts'
import { bootAnew, CURRENT, NEW, OLD, sampleMachine, switchProgram } from './testing/sample-machine.ts'
import type { ScriptedSystem } from './testing/scripted-system.ts'

let tree: string
beforeAll(async () => {
  tree = await mkdtemp(join(tmpdir(), 'tree-'))
  await writeFile(join(tree, 'flake.nix'), '{ outputs = _: { }; }')
})
afterAll(() => rm(tree, { recursive: true }))

interface Made extends AsyncDisposable {
  readonly system: ScriptedSystem
  readonly node: NodeUnderTest
  readonly kubernetes: ScriptedKubernetes
  readonly hold: string
}

async function made(
  old: PartOfSystem,
  next: PartOfSystem,
  config: Partial<OperationsConfig> = {},
): Promise<Made> {
  const system = sampleMachine()
  const kubernetes = await ScriptedKubernetes.on(system, old, next)
  const node = await NodeUnderTest.start(system, { allow: ['apply', 'upgrade', 'rollback'], ...config })
  await node.stop()
  node.kubernetes = kubernetes
  await node.start()
  return {
    system,
    node,
    kubernetes,
    hold: join(node.stateDir, 'cluster/hold'),
    [Symbol.asyncDispose]: () => node[Symbol.asyncDispose](),
  }
}

const phasesOf = (node: NodeUnderTest, id: string) => node.report(id)?.phases.map(({ phase }) => phase) ?? []
const newMinor = [{ version: '1.34.3' }, { version: '1.35.4' }] as const

describe('a system that brings another Kubernetes', () => {
  it('keeps it from being started until it is confirmed, and then restarts it once', async () => {
    await using world = await made(...newMinor)
    const { node, system, kubernetes, hold } = world
    const seen: string[] = []
    const look = async (when: string) =>
      seen.push(
        `${when}: ${existsSync(hold) ? (await readFile(hold, 'utf8')).trim() : 'free'} ${kubernetes.runs}`,
      )
    const forward = system.scripts.get(switchProgram(NEW))
    system.scripts.set(switchProgram(NEW), async (...args) => {
      await look(args[0][0] ?? '')
      return (await forward?.(...args)) ?? {}
    })
    node.confirm = async () => {
      await look('confirm')
      return { confirmed: true, reason: '' }
    }
    kubernetes.onRestart = async () => void (await look('restart'))
    const id = await node.order(await node.publish(tree))
    const outcome = await node.outcome(id)
    expect(inWords(outcome)).toBe('succeeded')
    expect(phasesOf(node, id).slice(-3)).toEqual([Phase.CONFIRM, Phase.PROMOTE, Phase.KUBERNETES])
    expect(seen).toEqual([
      `test: change ${id} 1.34.3`,
      `confirm: change ${id} 1.34.3`,
      `boot: change ${id} 1.34.3`,
      'restart: free 1.35.4',
    ])
    expect(kubernetes.acts).toEqual(['snapshot', 'restart'])
    expect(kubernetes.snapshots[0]?.name).toBe(`before-${id}`)
    const warnings = node.report(id)?.plan?.warnings ?? []
    expect(warnings.join()).toContain('Kubernetes changes (1.34.3, then 1.35.4)')
  })

  it('is one, too, where only what its unit reads at its start is another', async () => {
    const same = { version: '1.34.3', life: 'apart' } as const
    await using world = await made(same, { ...same, config: 'kubelet-arg: [max-pods=200]' })
    const { node, kubernetes, hold } = world
    node.confirm = async () => {
      expect(existsSync(hold)).toBe(true)
      return { confirmed: true, reason: '' }
    }
    const id = await node.order(await node.publish(tree))
    expect(inWords(await node.outcome(id))).toBe('succeeded')
    expect(phasesOf(node, id).at(-1)).toBe(Phase.KUBERNETES)
    expect(kubernetes.acts).toEqual(['restart'])
    expect(node.report(id)?.plan).toMatchObject({ kubernetesRestarts: true })
    expect(node.report(id)?.plan?.warnings.join()).toContain(
      'Kubernetes changes, with /etc/rancher/k3s/config.yaml: not by the switch',
    )
  })

  it('lets the old one start again when it goes back, and touches it no further', async () => {
    await using world = await made(...newMinor)
    const { node, kubernetes, hold } = world
    node.confirm = async () => ({ confirmed: false, reason: 'no' })
    const revision = await node.publish(tree, { targets: [unconfirmed()] })
    expect(inWords(await node.apply(revision))).toBe('unconfirmed')
    expect(existsSync(hold)).toBe(false)
    expect(kubernetes.acts.filter(act => act !== 'snapshot')).toEqual([
      'systemctl reset-failed k3s.service',
      'systemctl start --no-block k3s.service',
    ])
    expect(kubernetes.runs).toBe('1.34.3')
  })

  it('is let go of where the switch touched nothing', async () => {
    await using world = await made(...newMinor)
    world.system.scripts.set(switchProgram(NEW), () => ({ exitCode: 11, stderr: ['Could not acquire lock'] }))
    expect(inWords(await world.node.apply(await world.node.publish(tree)))).toBe('busy')
    expect(existsSync(world.hold)).toBe(false)
    expect(world.kubernetes.acts.at(-1)).toBe('systemctl start --no-block k3s.service')
  })

  it('takes nothing back for a Kubernetes that fails: the node is held, with the newest snapshot named', async () => {
    await using world = await made(...newMinor, { kubernetesDeadlineMs: 50 })
    const { node, system, kubernetes } = world
    kubernetes.onRestart = () => {
      kubernetes.broken = 'etcd'
    }
    const id = await node.order(await node.publish(tree))
    const outcome = await node.outcome(id)
    expect(inWords(outcome)).toBe('activation failed')
    expect(outcome).toMatchObject({ phase: Phase.KUBERNETES, storePath: NEW, runs: NEW })
    expect(outcome.reason).toContain('k3s.service is failed (exit-code)')
    expect(outcome.reason).toContain(`newest snapshot: before-${id}`)
    expect(system.links.get(CURRENT)).toBe(NEW)
    const { held, quarantined } = node.operations.nodeStatus()
    expect(held?.reason).toContain('Kubernetes 1.35.4 was started')
    expect(held?.reason).toContain(`before-${id}`)
    expect(quarantined).toEqual([])
    expect(inWords(await node.apply(await node.publish(tree, { number: 6 })))).toBe('refused held')
  })

  it.each([
    ['before it was restarted', 'systemctl', 2],
    ['after it', 'proof', 1],
  ])('goes on with it when the agent is killed %s', async (_, where, restarts) => {
    await using world = await made(...newMinor)
    const { node, kubernetes } = world
    let killed: Promise<void> | undefined
    const kill = async () => {
      killed ??= node.kill()
      if (where === 'systemctl') throw new Error('this process was killed')
    }
    if (where === 'systemctl') {
      kubernetes.onRestart = async () => {
        kubernetes.onRestart = () => {}
        await kill()
      }
    } else {
      kubernetes.broken = 'not yet'
    }
    const id = await node.order(await node.publish(tree))
    if (where === 'proof') {
      await untilJournal(node, 'kubernetes-started')
      await kill()
    }
    while (!killed) await new Promise(resolve => setTimeout(resolve, 5))
    await killed
    kubernetes.broken = undefined
    await node.start()
    expect(inWords(await node.outcome(id))).toBe('succeeded')
    expect(kubernetes.acts.filter(act => act === 'restart')).toHaveLength(restarts)
    expect(phasesOf(node, id).filter(phase => phase === Phase.KUBERNETES)).toHaveLength(1)
  })

  it('is gone on with after a power cut between the promotion and the start', async () => {
    await using world = await made(...newMinor)
    const { node, system, kubernetes, hold } = world
    let cut = false
    kubernetes.onRestart = async () => {
      if (cut) return
      cut = true
      void node.kill()
      throw new Error('this process was killed')
    }
    const id = await node.order(await node.publish(tree))
    while (!cut) await new Promise(resolve => setTimeout(resolve, 5))
    await node.units.cut()
    await node.stop()
    bootAnew(system)
    expect([system.links.get(CURRENT), existsSync(hold)]).toEqual([NEW, false])
    await node.start()
    expect(inWords(await node.outcome(id))).toBe('succeeded')
    expect(kubernetes.runs).toBe('1.35.4')
  })

  it.each<[string, PartOfSystem, PartOfSystem, string, string]>([
    ['goes back a minor', { version: '1.35.4' }, { version: '1.34.3' }, 'refused skew', 'does not go back'],
    ['skips a minor', { version: '1.34.3' }, { version: '1.36.0' }, 'refused skew', 'go to 1.35 before'],
    ['does not say its version', { version: '1.34.3' }, { unit: 'x' }, 'refused skew', 'write version'],
    [
      'makes it another member',
      { version: '1.34.3' },
      { version: '1.34.3', role: 'worker' },
      'refused kubernetes',
      '`muster leave olaf`',
    ],
    [
      'is of another cluster',
      { version: '1.34.3' },
      { version: '1.34.3', cluster: 'b' },
      'refused kubernetes',
      'cluster: home, then b',
    ],
  ])('is refused on a server when it %s', async (_, old, next, words, reason) => {
    await using world = await made(old, next)
    const { node, system, kubernetes, hold } = world
    kubernetes.runs = old.version ?? undefined
    const outcome = await node.apply(await node.publish(tree))
    expect([inWords(outcome), outcome.reason]).toEqual([words, expect.stringContaining(reason)])
    expect([system.links.get(CURRENT), existsSync(hold), kubernetes.acts]).toEqual([OLD, false, []])
  })

  it('is refused on a server that the datastore cannot do without now', async () => {
    await using world = await made(...newMinor)
    world.kubernetes.alone = '2 of 3 voters are healthy'
    const outcome = await world.node.apply(await world.node.publish(tree))
    expect([inWords(outcome), outcome.reason]).toEqual([
      'refused quorum',
      expect.stringContaining('2 of 3 voters are healthy'),
    ])
    expect([world.system.links.get(CURRENT), existsSync(world.hold)]).toEqual([OLD, false])
  })

  it('waits before the restart where another server failed meanwhile, and restarts when that is well', async () => {
    await using world = await made(...newMinor)
    const { node, kubernetes } = world
    let looks = 0
    node.confirm = async () => {
      kubernetes.onWhyNotStop = () => {
        looks += 1
        return looks < 3 ? '1 of 3 voters would answer without it' : undefined
      }
      return { confirmed: true, reason: '' }
    }
    expect(inWords(await node.apply(await node.publish(tree)))).toBe('succeeded')
    expect([looks, kubernetes.acts]).toEqual([3, ['snapshot', 'restart']])
  }, 30_000)

  it('restarts nothing where it stays so: what runs goes on, and the node is held until somebody looks', async () => {
    await using world = await made(...newMinor, { kubernetesDeadlineMs: 50 })
    const { node, kubernetes, hold } = world
    node.confirm = async () => {
      kubernetes.alone = '1 of 3 voters would answer without it'
      return { confirmed: true, reason: '' }
    }
    const outcome = await node.apply(await node.publish(tree))
    expect(inWords(outcome)).toBe('activation failed')
    expect(outcome.reason).toContain('Kubernetes was not restarted: 1 of 3 voters would answer without it')
    expect([kubernetes.runs, kubernetes.acts, existsSync(hold)]).toEqual(['1.34.3', ['snapshot'], false])
    expect(node.operations.nodeStatus().held?.reason).toContain('Kubernetes was not restarted')
  })

  it('is refused where no snapshot can be made before, and on a worker that the API server is too old for', async () => {
    await using world = await made(...newMinor)
    world.kubernetes.snapshotFails = true
    const outcome = await world.node.apply(await world.node.publish(tree))
    expect([inWords(outcome), outcome.reason]).toEqual([
      'refused no-snapshot',
      expect.stringContaining('no majority'),
    ])
    expect(existsSync(world.hold)).toBe(false)

    const worker = { role: 'worker' }
    await using other = await made({ ...worker, version: '1.34.3' }, { ...worker, version: '1.35.4' })
    other.kubernetes.api = '1.34.3'
    expect(inWords(await other.node.apply(await other.node.publish(tree)))).toBe('refused skew')
    other.kubernetes.api = '1.35.4'
    expect(inWords(await other.node.apply(await other.node.publish(tree, { number: 6 })))).toBe('succeeded')
    expect(other.kubernetes.acts).toEqual(['restart'])
  })

  it('leaves it alone where it stays as it is, or where it is not ours', async () => {
    for (const [next, ours] of [
      [{ version: '1.34.3', servers: { n2: '10.91.0.11' } }, true],
      [{ version: '1.36.0' }, false],
    ] as const) {
      await using world = await made({ version: '1.34.3' }, next)
      world.kubernetes.ours = ours
      const id = await world.node.order(await world.node.publish(tree))
      expect(inWords(await world.node.outcome(id))).toBe('succeeded')
      expect(phasesOf(world.node, id)).not.toContain(Phase.KUBERNETES)
      expect([world.kubernetes.acts, existsSync(world.hold)]).toEqual([[], false])
    }
  })

  it('does not start what somebody else holds down', async () => {
    await using world = await made(...newMinor)
    const { node, kubernetes, hold } = world
    await mkdir(join(hold, '..'), { recursive: true })
    await writeFile(hold, '')
    expect(inWords(await node.apply(await node.publish(tree)))).toBe('succeeded')
    expect(kubernetes.acts).toEqual(['snapshot'])
    expect(await readFile(hold, 'utf8')).toBe('')
  })
})

const PACKAGE = `/nix/store/${'3'.repeat(32)}-muster-kubernetes-k3s-1.35.4`
const PROFILE = '/root/nix/var/nix/profiles/muster-kubernetes'
const ATTRIBUTE = 'nixosConfigurations.olaf.config.muster.kubernetes.profile.package'
const apart = { life: 'apart', version: '1.34.3' } as const

function upgradeTarget(version = '1.35.4', change: Partial<Target> = {}): Target {
  const way = { case: 'source', value: { attribute: ATTRIBUTE } } as const
  return {
    ...sampleTarget(),
    kubernetes: create(KubernetesTargetSchema, { version, apart: true, way }),
    ...change,
  }
}

/** A machine whose Kubernetes lives apart, with what builds and sets its profile. */
async function madeApart(old: PartOfSystem = apart, config: Partial<OperationsConfig> = {}): Promise<Made> {
  const world = await made(old, old, { ...config })
  const { links, scripts } = world.system
  links.set(PROFILE, 'muster-kubernetes-1-link')
  links.set(`${PROFILE}-1-link`, PACKAGE.replace('1.35.4', '1.34.3'))
  scripts.set('nix', (args, cwd) => {
    if (args.includes('build')) links.set(join(cwd ?? '', 'result'), PACKAGE)
    return {}
  })
  const systems = scripts.get('nix-env')
  scripts.set('nix-env', (args, ...rest) => {
    const [, profile, verb, value = ''] = args
    if (profile !== PROFILE) return systems?.(args, ...rest) ?? {}
    if (verb === '--set') {
      links.set(`${PROFILE}-2-link`, value)
      links.set(PROFILE, 'muster-kubernetes-2-link')
    }
    return {}
  })
  return world
}

async function upgrade({ node }: Made, revision: SampleRevision, fetchOnly = false): Promise<string> {
  const id = `up-${revision.manifest.number}-${fetchOnly}`
  await node.operations.accept(
    create(OrderSchema, {
      operationId: id,
      revision: BigInt(revision.manifest.number),
      manifestDigest: revision.manifest.digest,
      expires: timestampFromDate(new Date(node.now.getTime() + 3_600_000)),
      action: { case: 'upgrade', value: { fetchOnly } },
    }),
  )
  return id
}

describe('a move of Kubernetes alone', () => {
  it('builds the package, makes a snapshot, moves the profile and restarts; the system stays', async () => {
    await using world = await madeApart()
    const { node, system, kubernetes } = world
    const revision = await node.publish(tree, { targets: [upgradeTarget()] })
    const fetched = await node.outcome(await upgrade(world, revision, true))
    expect([inWords(fetched), fetched.reason]).toEqual([
      'succeeded',
      expect.stringContaining(`${PACKAGE} is here`),
    ])
    expect(kubernetes.acts).toEqual([])

    const id = await upgrade(world, revision)
    const outcome = await node.outcome(id)
    expect(inWords(outcome)).toBe('succeeded')
    expect(outcome).toMatchObject({ storePath: PACKAGE, runs: OLD })
    expect(phasesOf(node, id)).toEqual([
      ...[Phase.VERIFY, Phase.PREFLIGHT, Phase.FETCH, Phase.BUILD, Phase.PLAN, Phase.ARM, Phase.KUBERNETES],
    ])
    expect(kubernetes.acts).toEqual(['snapshot', 'restart'])
    expect(kubernetes.runs).toBe('1.35.4')
    expect(system.links.get(`${PROFILE}-1-link`)).toContain('1.34.3')
    expect(system.commands.filter(line => line.includes('switch-to-configuration'))).toEqual([])
    const build = system.commands.find(line => line.includes(' build ')) ?? ''
    expect(build).toMatch(
      new RegExp(`build path:\\S+/trees/[0-9a-f]{64}#${ATTRIBUTE.replaceAll('.', '\\.')} --out-link result`),
    )
    expect(system.nixSettings).toContain('accept-flake-config = false')

    const again = await node.outcome(
      await upgrade(world, await node.publish(tree, { number: 6, targets: [upgradeTarget()] })),
    )
    expect(again.reason).toContain('already; nothing was done')
    expect(kubernetes.acts).toEqual(['snapshot', 'restart'])
    // It reached no system that one could go back to.
    await node.operations.accept(
      create(OrderSchema, {
        operationId: 'back',
        expires: timestampFromDate(new Date(node.now.getTime() + 3_600_000)),
        action: { case: 'rollback', value: { operationId: id } },
      }),
    )
    expect(inWords(await node.outcome('back'))).toBe('refused not-reached')
  })

  it('leaves its profile where it is when another server failed meanwhile', async () => {
    await using world = await madeApart(apart, { kubernetesDeadlineMs: 50 })
    const { node, system, kubernetes } = world
    let looks = 0
    kubernetes.onWhyNotStop = () => {
      looks += 1
      return looks === 1 ? undefined : '1 of 3 voters would answer without it'
    }
    const outcome = await node.outcome(
      await upgrade(world, await node.publish(tree, { targets: [upgradeTarget()] })),
    )
    expect(inWords(outcome)).toBe('refused quorum')
    expect([system.links.get(PROFILE), kubernetes.acts]).toEqual(['muster-kubernetes-1-link', ['snapshot']])
    expect(node.operations.nodeStatus().held).toBeUndefined()
  })

  it('that fails stays, and holds the node', async () => {
    await using world = await madeApart(apart, { kubernetesDeadlineMs: 50 })
    const { node, system, kubernetes } = world
    kubernetes.onRestart = () => {
      kubernetes.broken = 'x'
    }
    const id = await upgrade(world, await node.publish(tree, { targets: [upgradeTarget()] }))
    const outcome = await node.outcome(id)
    expect([inWords(outcome), outcome.phase]).toEqual(['activation failed', Phase.KUBERNETES])
    expect(node.operations.nodeStatus().held?.reason).toContain(`newest snapshot: before-${id}`)
    expect(system.links.get(PROFILE)).toBe('muster-kubernetes-2-link')
  })

  it('is gone on with when the agent is killed, and restarts nothing twice', async () => {
    await using world = await madeApart()
    const { node, kubernetes } = world
    kubernetes.onRestart = () => {
      kubernetes.broken = 'not yet'
    }
    const id = await upgrade(world, await node.publish(tree, { targets: [upgradeTarget()] }))
    await untilJournal(node, 'kubernetes-started')
    await node.kill()
    kubernetes.broken = undefined
    await node.start()
    expect(inWords(await node.outcome(id))).toBe('succeeded')
    expect(kubernetes.acts).toEqual(['snapshot', 'restart'])
  })

  it('puts the first one in its place, which nothing starts before a join', async () => {
    await using world = await madeApart()
    const { node, system, kubernetes } = world
    kubernetes.ours = false
    const id = await upgrade(world, await node.publish(tree, { targets: [upgradeTarget()] }))
    expect(inWords(await node.outcome(id))).toBe('succeeded')
    expect(kubernetes.acts).toEqual([])
    expect(system.links.get(`${PROFILE}-2-link`)).toBe(PACKAGE)
  })

  it.each<[string, (world: Made) => void, PartOfSystem, Partial<Target>, string, string]>([
    [
      'for a cluster made by hand',
      ({ kubernetes, system }) => {
        kubernetes.ours = false
        system.files.set('/var/lib/rancher/k3s/server/db/state.db', '')
      },
      apart,
      {},
      'refused not-adopted',
      '`muster cluster adopt home`',
    ],
    [
      'where Kubernetes comes with the system',
      () => {},
      { version: '1.34.3' },
      {},
      'refused kubernetes',
      'apply the revision first',
    ],
    [
      'for another cluster than the system says',
      () => {},
      { ...apart, cluster: 'b' },
      {},
      'refused kubernetes',
      'server of b by its system',
    ],
    [
      'over a minor',
      ({ kubernetes }) => {
        kubernetes.runs = '1.33.1'
      },
      apart,
      {},
      'refused skew',
      'go to 1.34 before',
    ],
    [
      'to what is not what the revision names',
      () => {},
      apart,
      upgradeTarget('1.35.5'),
      'build failed',
      'holds Kubernetes 1.35.4, the revision names 1.35.5',
    ],
    [
      'while the datastore needs this server',
      ({ kubernetes }) => {
        kubernetes.alone = '2 of 3'
      },
      apart,
      {},
      'refused quorum',
      '2 of 3',
    ],
    [
      'without a snapshot',
      ({ kubernetes }) => {
        kubernetes.snapshotFails = true
      },
      apart,
      {},
      'refused no-snapshot',
      'no majority',
    ],
  ])('is refused %s, and nothing is touched', async (_, change, old, target, words, reason) => {
    await using world = await madeApart(old)
    change(world)
    const revision = await world.node.publish(tree, { targets: [upgradeTarget('1.35.4', target)] })
    const outcome = await world.node.outcome(await upgrade(world, revision))
    expect([inWords(outcome), outcome.reason]).toEqual([words, expect.stringContaining(reason)])
    expect(world.system.links.get(PROFILE)).toBe('muster-kubernetes-1-link')
    expect(world.kubernetes.acts.filter(act => act !== 'snapshot')).toEqual([])
  })

  it('needs the node’s leave', async () => {
    await using world = await madeApart(apart, { allow: ['apply'] })
    const revision = await world.node.publish(tree, { targets: [upgradeTarget()] })
    expect(inWords(await world.node.outcome(await upgrade(world, revision)))).toBe('refused not-allowed')
  })
})

/** A machine whose Kubernetes is to be restarted, and the order for it. */
async function madeForRestart(config: Partial<OperationsConfig> = {}) {
  const world = await made({ version: '1.34.3' }, { version: '1.34.3' }, { allow: ['restart'], ...config })
  const restart = async (operationId: string) => {
    const expires = timestampFromDate(new Date(world.node.now.getTime() + 3_600_000))
    const action = { case: 'restart', value: {} } as const
    await world.node.operations.accept(create(OrderSchema, { operationId, expires, action }))
    return operationId
  }
  return { ...world, restart, [Symbol.asyncDispose]: () => world[Symbol.asyncDispose]() }
}

describe('an order to restart Kubernetes', () => {
  it('restarts it once and waits until it is well; nothing else of the machine is touched', async () => {
    await using world = await madeForRestart()
    const id = await world.restart('re-1')
    const outcome = await world.node.outcome(id)
    expect([inWords(outcome), outcome.reason]).toEqual(['succeeded', 'Kubernetes was restarted and is well'])
    expect(phasesOf(world.node, id)).toEqual([Phase.VERIFY, Phase.PREFLIGHT, Phase.KUBERNETES])
    expect([world.kubernetes.acts, world.kubernetes.runs]).toEqual([['restart'], '1.34.3'])
    expect(world.system.links.get(CURRENT)).toBe(OLD)
    // The same order again is done already.
    await world.restart('re-1')
    await world.node.outcome(await world.restart('re-2'))
    expect(world.kubernetes.acts).toEqual(['restart', 'restart'])
  })

  it('that is not well afterwards has failed, and holds nobody: it may be restarted again', async () => {
    await using world = await madeForRestart({ kubernetesDeadlineMs: 50 })
    world.kubernetes.broken = 'x'
    const outcome = await world.node.outcome(await world.restart('re-1'))
    expect([inWords(outcome), outcome.phase]).toEqual(['activation failed', Phase.KUBERNETES])
    expect(outcome.reason).toContain('Kubernetes was restarted and is not well')
    expect(world.node.operations.nodeStatus().held).toBeUndefined()
    world.kubernetes.broken = undefined
    expect(inWords(await world.node.outcome(await world.restart('re-2')))).toBe('succeeded')
  })

  it('is refused where another server failed since it began, and nothing is touched', async () => {
    await using world = await madeForRestart({ kubernetesDeadlineMs: 50 })
    let looks = 0
    world.kubernetes.onWhyNotStop = () => {
      looks += 1
      return looks === 1 ? undefined : '1 of 3 voters would answer without it'
    }
    const outcome = await world.node.outcome(await world.restart('re-1'))
    expect([inWords(outcome), outcome.reason]).toEqual([
      'refused quorum',
      expect.stringContaining('1 of 3 voters would answer without it; what runs was not touched'),
    ])
    expect(world.kubernetes.acts).toEqual([])
    expect(world.node.operations.nodeStatus().held).toBeUndefined()
  })

  it('is gone on with when the agent is killed, and restarts nothing twice', async () => {
    await using world = await madeForRestart()
    const { node, kubernetes } = world
    kubernetes.broken = 'not yet'
    const id = await world.restart('re-1')
    await untilJournal(node, 'kubernetes-started')
    await node.kill()
    kubernetes.broken = undefined
    await node.start()
    expect(inWords(await node.outcome(id))).toBe('succeeded')
    expect(kubernetes.acts).toEqual(['restart'])
  })

  it.each<[string, (world: Made) => void | Promise<void>, Partial<OperationsConfig>, string, string]>([
    ['without the node’s leave', () => {}, { allow: ['apply', 'reboot'] }, 'refused not-allowed', '`allow`'],
    [
      'where none of this fleet runs',
      ({ kubernetes }) => {
        kubernetes.ours = false
      },
      {},
      'refused kubernetes',
      'none to restart',
    ],
    [
      'while the datastore needs this server',
      ({ kubernetes }) => {
        kubernetes.alone = '2 of 3'
      },
      {},
      'refused quorum',
      '2 of 3',
    ],
    [
      'while somebody keeps it down',
      async ({ hold }) => {
        await mkdir(join(hold, '..'), { recursive: true })
        await writeFile(hold, '')
      },
      {},
      'refused kubernetes',
      'kept down',
    ],
  ])('is refused %s, and nothing is touched', async (_, change, config, words, reason) => {
    await using world = await madeForRestart(config)
    await change(world)
    const outcome = await world.node.outcome(await world.restart('re-1'))
    expect([inWords(outcome), outcome.reason]).toEqual([words, expect.stringContaining(reason)])
    expect(world.kubernetes.acts).toEqual([])
  })

  it('is refused once it has expired', async () => {
    await using world = await madeForRestart()
    const expires = timestampFromDate(new Date(world.node.now.getTime() - 1_000))
    const action = { case: 'restart', value: {} } as const
    await world.node.operations.accept(create(OrderSchema, { operationId: 're-1', expires, action }))
    expect(inWords(await world.node.outcome('re-1'))).toBe('refused expired')
    expect(world.kubernetes.acts).toEqual([])
  })
})

function unconfirmed(): Target {
  const target = sampleTarget()
  if (target.safety)
    target.safety.confirmWithin = { $typeName: 'google.protobuf.Duration', seconds: 5n, nanos: 0 }
  return target
}

async function untilJournal(node: NodeUnderTest, kind: string): Promise<void> {
  while (!(await node.journal()).includes(`"${kind}"`)) await new Promise(resolve => setTimeout(resolve, 5))
}
