import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { durationFromMs, timestampFromDate } from '@bufbuild/protobuf/wkt'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { OperationAckSchema, OrderSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { GateSchema, SafetySchema } from '../../shared/gen/muster/v1/manifest_pb.ts'
import { OutcomeClass, OutcomeSchema, Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import { outcomeName } from '../../shared/operation-names.ts'
import { verifyOutcome } from '../../shared/outcome/signed-outcome.ts'
import { sampleTarget } from '../../shared/revision/testing/sample-fleet.ts'
import { unavailable } from '../../shared/rpc/rpc-error.ts'
import { ScriptedKubernetes } from '../kubernetes/testing/scripted-kubernetes.ts'
import type { AgentUnit } from '../units/units.ts'
import { cutTooOften } from './conclude.ts'
import type { OperationsConfig } from './context.ts'
import { foldJournal, type OperationState } from './fold.ts'
import type { NewRecord } from './journal-record.ts'
import { chooseRollback } from './phases/rollback.ts'
import { writeProof } from './proof-file.ts'
import { inWords, NodeUnderTest } from './testing/node-under-test.ts'
import {
  bootAnew,
  bootDefault,
  CURRENT,
  goodSwitch,
  NEW,
  OLD,
  sampleMachine,
  switchProgram,
} from './testing/sample-machine.ts'
import type { ScriptedSystem } from './testing/scripted-system.ts'

let tree: string
beforeAll(async () => {
  tree = await mkdtemp(join(tmpdir(), 'tree-'))
  await writeFile(join(tree, 'flake.nix'), '{ outputs = _: { }; }')
})
afterAll(() => rm(tree, { recursive: true }))

type Action = NonNullable<MessageInitShape<typeof OrderSchema>['action']>
const ALL = ['apply', 'rollback', 'reboot']
const start = (system: ScriptedSystem, config: Partial<OperationsConfig> = {}) =>
  NodeUnderTest.start(system, { allow: ALL, ...config })

async function local(node: NodeUnderTest, action: Action) {
  return await node.outcome(await node.operations.acceptLocal(create(OrderSchema, { action })))
}
const hasty = (confirmMs: number) =>
  sampleTarget({
    safety: create(SafetySchema, { soak: durationFromMs(0), confirmWithin: durationFromMs(confirmMs) }),
  })

/** From here on what is built is the old system. */
function buildsOld(system: ScriptedSystem): void {
  system.scripts.set('nixos-rebuild', (_, cwd) => {
    system.links.set(join(cwd ?? '', 'result'), OLD)
    return { stdout: [OLD] }
  })
}

describe('an order to a node', () => {
  it('to hold has it obey nothing else, over a restart, until it resumes', async () => {
    await using node = await start(sampleMachine())
    const revision = await node.publish(tree)
    expect(inWords(await local(node, { case: 'hold', value: { reason: 'disk is being copied' } }))).toBe(
      'succeeded',
    )
    await node.stop()
    await node.start()
    const refused = await node.apply(revision)
    expect(inWords(refused)).toBe('refused held')
    expect(refused.reason).toContain('disk is being copied')
    for (const action of ['rollback', 'reboot'] as const) {
      expect(inWords(await local(node, { case: action, value: {} }))).toBe('refused held')
    }
    expect(node.operations.nodeStatus().held?.reason).toBe('disk is being copied')
    expect((await local(node, { case: 'resume', value: {} })).reason).toBe('obeys again')
    expect((await local(node, { case: 'resume', value: {} })).reason).toBe('obeyed already')
    expect(inWords(await node.apply(revision))).toBe('succeeded')
  })

  it('T56: to retry lets what failed be tried again, whatever number it came under', async () => {
    const system = sampleMachine()
    system.scripts.set(switchProgram(NEW), () => ({
      exitCode: 2,
      stderr: ['activating the configuration...'],
    }))
    await using node = await start(system)
    expect(inWords(await node.apply(await node.publish(tree)))).toBe('rolled back')
    const again = await node.publish(tree, { number: 9 })
    expect(inWords(await node.apply(again))).toBe('refused quarantined')
    expect(node.operations.nodeStatus().quarantined).toMatchObject([{ storePath: NEW, revision: 5n }])
    await node.stop()
    await node.start()
    expect(inWords(await node.apply(again))).toBe('refused quarantined')
    system.scripts.set(switchProgram(NEW), goodSwitch(system, NEW))
    expect((await local(node, { case: 'retry', value: {} })).reason).toContain('1 systems')
    expect(inWords(await node.apply(again))).toBe('succeeded')
  })

  it('N5: to roll back leads to one place, however often it comes', async () => {
    const system = sampleMachine()
    await using node = await start(system)
    const id = await node.order(await node.publish(tree))
    await node.outcome(id)
    const before: Action = { case: 'rollback', value: { operationId: id, before: true } }
    // Below the floor of what it accepted: what came from no revision at all is older than all.
    expect(inWords(await local(node, before))).toBe('refused below-floor')
    expect(system.links.get(CURRENT)).toBe(NEW)
    const reached = await local(node, { case: 'rollback', value: { operationId: id, before: false } })
    expect(reached.reason).toContain('nothing was done')
    expect(inWords(await local(node, { case: 'rollback', value: { operationId: 'none' } }))).toBe(
      'refused unknown-operation',
    )
  })

  it('to roll back below the floor is refused by the node itself, whoever gives it, and touches nothing', async () => {
    const system = sampleMachine()
    await using node = await start(system)
    const first = await node.order(await node.publish(tree))
    await node.outcome(first)
    buildsOld(system)
    const second = await node.order(await node.publish(tree, { number: 6, floor: 6 }))
    expect(inWords(await node.outcome(second))).toBe('succeeded')
    const switched = () => system.commands.filter(line => /switch-to|--set/.test(line)).length
    const before = switched()
    const action: Action = { case: 'rollback', value: { operationId: first } }
    const expires = timestampFromDate(new Date(node.now.getTime() + 3_600_000))
    await node.operations.accept(create(OrderSchema, { operationId: 'back', action, expires }))
    expect(inWords(await node.outcome('back'))).toBe('refused below-floor')
    expect(inWords(await local(node, action))).toBe('refused below-floor')
    expect(system.links.get(CURRENT)).toBe(OLD)
    expect(switched()).toBe(before)
  })

  it('N5: that names what an earlier operation reached goes there by path, and then nowhere further', async () => {
    const system = sampleMachine()
    await using node = await start(system)
    const first = await node.order(await node.publish(tree))
    await node.outcome(first)
    buildsOld(system)
    const second = await node.order(await node.publish(tree, { number: 6 }))
    expect(inWords(await node.outcome(second))).toBe('succeeded')
    expect(system.links.get(CURRENT)).toBe(OLD)
    const order: Action = { case: 'rollback', value: { operationId: second, before: true } }
    for (const word of [`runs ${NEW}`, 'nothing was done', 'nothing was done']) {
      const outcome = await local(node, order)
      expect([inWords(outcome), outcome.reason]).toEqual(['succeeded', expect.stringContaining(word)])
      expect([system.links.get(CURRENT), bootDefault(system)]).toEqual([NEW, NEW])
    }
    expect(system.commands.join('\n')).not.toContain('--rollback')
  })

  it('to roll back says which gates of that time it does not ask: scripts, whose tree is another', async () => {
    const system = sampleMachine()
    await using node = await start(system)
    const first = await node.order(await node.publish(tree))
    await node.outcome(first)
    buildsOld(system)
    const second = await node.order(await node.publish(tree, { number: 6 }))
    await node.outcome(second)
    const target = hasty(60_000)
    const gate = create(GateSchema, { name: 'own', probe: { case: 'script', value: { path: 'own.sh' } } })
    target.safety?.gates.push(gate)
    await writeProof(node.stateDir, first, target, '')
    const back = await local(node, { case: 'rollback', value: { operationId: second, before: true } })
    expect(inWords(back)).toBe('succeeded')
    const [newest] = node.operations.history()
    expect(newest?.phases[0]?.detail).toBe(`back to ${NEW}; script gates not asked: own`)
    expect(node.output.join()).toContain(
      'script gates not asked: own: the tree that they are in is not kept on this machine any more',
    )
  })

  it.each([
    [0, 'succeeded', NEW],
    [1, 'rolled back', OLD],
  ])('to roll back is proved by the scripts of what it goes to: %i', async (exitCode, words, runs) => {
    const system = sampleMachine()
    await using node = await start(system)
    const target = hasty(60_000)
    const gate = create(GateSchema, { name: 'own', probe: { case: 'script', value: { path: 'own.sh' } } })
    target.safety?.gates.push(gate)
    const revision = await node.publish(tree, { targets: [target] })
    const place = join(node.stateDir, 'trees', revision.manifest.manifest.treeDigest, 'own.sh')
    let answer = 0
    const asked: number[] = []
    system.scripts.set(place, () => {
      asked.push(answer)
      return { exitCode: answer }
    })
    const first = await node.order(revision)
    expect(inWords(await node.outcome(first))).toBe('succeeded')
    // Others come and go meanwhile, more than are kept for their own sake.
    for (const number of [6, 7, 8, 9, 10]) {
      await writeFile(join(tree, 'more'), String(number))
      system.scripts.set('nixos-rebuild', (_, cwd) => {
        system.links.set(join(cwd ?? '', 'result'), OLD)
        return { stdout: [OLD] }
      })
      await node.outcome(await node.order(await node.publish(tree, { number })))
    }
    expect(system.links.get(CURRENT)).toBe(OLD)
    asked.length = 0
    const shorter = hasty(8_000)
    shorter.safety?.gates.push(gate)
    await writeProof(node.stateDir, first, shorter, revision.manifest.manifest.treeDigest)
    answer = exitCode
    const back = await local(node, { case: 'rollback', value: { operationId: first } })
    expect([inWords(back), system.links.get(CURRENT)]).toEqual([words, runs])
    expect(asked.length).toBeGreaterThan(0)
    expect(new Set(asked)).toEqual(new Set([exitCode]))
    if (exitCode === 1) expect(back.reason).toContain('gate own')
  })

  it.each<[string, (node: NodeUnderTest) => void, RegExp]>([
    ['never comes', () => {}, /did not boot anew within 1 s/],
    [
      'is refused',
      node => {
        node.units.reboot = async () => ({ kind: 'failed', reason: 'inhibited by a person' })
      },
      /the reboot was refused: inhibited/,
    ],
  ])('T52: to reboot fail where the boot %s', async (_, arrange, reason) => {
    await using node = await NodeUnderTest.start(sampleMachine(), { allow: ALL, bootDeadlineMs: 1_000 })
    arrange(node)
    const outcome = await node.outcome(
      await node.operations.acceptLocal(create(OrderSchema, { action: { case: 'reboot', value: {} } })),
    )
    expect(inWords(outcome)).toBe('activation failed')
    expect(outcome.reason).toMatch(reason)
  })

  it.each<Action>([
    { case: 'apply', value: {} },
    { case: 'apply', value: { planOnly: true } },
    { case: 'upgrade', value: {} },
    { case: 'rollback', value: { operationId: 'first', before: true } },
    { case: 'reboot', value: {} },
    { case: 'restart', value: {} },
    { case: 'hold', value: { reason: 'late' } },
    { case: 'resume', value: {} },
    { case: 'retry', value: {} },
  ])('is not begun once it has expired, whatever it is: $case $value', async action => {
    const system = sampleMachine()
    await using node = await start(system, { allow: [...ALL, 'upgrade', 'restart'] })
    const revision = await node.publish(tree, { floor: 1 })
    await node.outcome(await node.order(revision, 'first'))
    let boots = 0
    node.units.onReboot = async () => {
      boots += 1
    }
    const { number, digest } = revision.manifest
    const told = { operationId: 'late', revision: BigInt(number), manifestDigest: digest, action }
    await node.operations.accept(create(OrderSchema, { ...told, expires: timestampFromDate(node.now) }))
    const outcome = await node.outcome('late')
    expect(inWords(outcome)).toBe('refused expired')
    expect(outcome.reason).toContain('before it could be begun')
    expect([system.links.get(CURRENT), boots]).toEqual([NEW, 0])
    expect(node.operations.nodeStatus().held).toBeUndefined()
  })

  it('of root is not begun either when it had to wait for more than its hour', async () => {
    const system = sampleMachine()
    await using node = await start(system)
    await node.outcome(await node.order(await node.publish(tree, { floor: 1 }), 'first'))
    const { facts } = node
    let goOn = () => {}
    const waiting = new Promise<void>(resolve => {
      goOn = resolve
    })
    node.readFacts = async () => {
      await waiting
      return facts
    }
    await node.order(await node.publish(tree, { number: 6, floor: 1 }), 'second')
    const action: Action = { case: 'rollback', value: { operationId: 'first', before: true } }
    const id = await node.operations.acceptLocal(create(OrderSchema, { action }))
    node.now = new Date(node.now.getTime() + 3_600_000)
    goOn()
    expect(inWords(await node.outcome(id))).toBe('refused expired')
    expect(system.links.get(CURRENT)).toBe(NEW)
  })

  it('to hold that was done in time stands, however late the agent comes to tell of it', async () => {
    const system = sampleMachine()
    await using node = await start(system)
    const read = system.readLink.bind(system)
    let broken = true
    // What runs is read for the outcome, after the hold is on disk.
    system.readLink = async path => {
      const [newest] = node.operations.history()
      if (broken && newest?.phases[0]?.ended) throw new Error('broken by the test')
      return await read(path)
    }
    const action: Action = { case: 'hold', value: { reason: 'disk' } }
    const id = await node.operations.acceptLocal(create(OrderSchema, { action }))
    await expect.poll(() => node.lines.join()).toContain('operation broke off')
    node.now = new Date(node.now.getTime() + 7_200_000)
    broken = false
    expect(inWords(await node.outcome(id))).toBe('succeeded')
    expect(node.operations.nodeStatus().held?.reason).toBe('disk')
  })

  it('to reboot is refused, as every other, while the clock is wrong or not set', async () => {
    await using node = await start(sampleMachine())
    let boots = 0
    node.units.onReboot = async () => {
      boots += 1
    }
    node.skewMs = 3_600_000
    expect(inWords(await local(node, { case: 'reboot', value: {} }))).toBe('refused clock')
    node.skewMs = undefined
    node.now = new Date(node.now.getTime() - 86_400_000)
    expect(inWords(await local(node, { case: 'reboot', value: {} }))).toBe('refused clock')
    expect(boots).toBe(0)
  })

  it('T52: to reboot ends in another boot, and not before', async () => {
    const system = sampleMachine()
    await using node = await start(system)
    const id = await node.operations.acceptLocal(
      create(OrderSchema, { action: { case: 'reboot', value: {} } }),
    )
    await expect.poll(() => node.report(id)?.phases).toMatchObject([{ phase: Phase.REBOOT }])
    expect(node.report(id)?.outcome).toBeUndefined()
    await node.stop()
    bootAnew(system)
    await node.start()
    const outcome = await node.outcome(id)
    expect([inWords(outcome), outcome.storePath]).toEqual(['succeeded', OLD])
  })

  /** A server of a cluster of this fleet; how often it asked for its boot. */
  async function server(why: (look: number) => string | undefined, kubernetesDeadlineMs = 60_000) {
    const system = sampleMachine()
    const node = await start(system, { kubernetesDeadlineMs })
    const part = { version: '1.34.3' }
    const kubernetes = await ScriptedKubernetes.on(system, part, part)
    await node.stop()
    node.kubernetes = kubernetes
    await node.start()
    const seen = { looks: 0, boots: 0 }
    kubernetes.onWhyNotStop = () => {
      seen.looks += 1
      return why(seen.looks)
    }
    node.units.onReboot = async () => {
      seen.boots += 1
    }
    return { node, system, kubernetes, seen }
  }

  it('to reboot a server waits while its datastore cannot do without it, and boots when it can', async () => {
    const { node, system, seen } = await server(look => (look < 3 ? '1 of 3 voters would answer' : undefined))
    await using _ = node
    const id = await node.operations.acceptLocal(
      create(OrderSchema, { action: { case: 'reboot', value: {} } }),
    )
    await expect.poll(() => seen.boots, { timeout: 15_000 }).toBe(1)
    expect(seen.looks).toBe(3)
    await node.stop()
    bootAnew(system)
    // A boot that was asked for is not asked about again.
    seen.looks = 0
    await node.start()
    expect([inWords(await node.outcome(id)), seen.looks]).toEqual(['succeeded', 0])
  }, 30_000)

  it('to reboot a server is refused where it stays so, and the machine runs on', async () => {
    const { node, seen } = await server(() => '1 of 2 voters would answer without it', 50)
    await using _ = node
    const outcome = await local(node, { case: 'reboot', value: {} })
    expect([inWords(outcome), seen.boots]).toEqual(['refused quorum', 0])
    expect(outcome.reason).toContain('may not boot anew now: 1 of 2 voters would answer without it')
    expect(node.output.join()).toContain('the reboot waits on this node: 1 of 2 voters would answer')
  })

  it.each([
    ['whose datastore does not say', () => Promise.reject(new Error('no answer'))],
    ['that is none of this fleet’s', async () => false],
  ])('to reboot a server %s waits for nothing', async (_name, isOurs) => {
    const { node, kubernetes, seen } = await server(() => 'no')
    await using _ = node
    kubernetes.isOurs = isOurs
    await node.operations.acceptLocal(create(OrderSchema, { action: { case: 'reboot', value: {} } }))
    await expect.poll(() => seen).toEqual({ looks: 0, boots: 1 })
  })

  it('of root on the machine itself can not be to apply, and needs no coordinator', async () => {
    await using node = await start(sampleMachine(), { allow: [] })
    node.connected = false
    await expect(node.operations.acceptLocal(create(OrderSchema))).rejects.toThrow(
      /comes from the coordinator alone/,
    )
    expect(inWords(await local(node, { case: 'hold', value: {} }))).toBe('succeeded')
    expect(inWords(await local(node, { case: 'reboot', value: {} }))).toBe('refused not-allowed')
  })

  it('of root waits for none of a coordinator’s that waits for that very coordinator, and is counted with none', async () => {
    const system = sampleMachine()
    await using node = await start(system)
    const revision = await node.publish(tree)
    const { answer } = node
    node.answer = () => {
      throw unavailable('the coordinator is away')
    }
    const first = await node.order(revision, 'op-first')
    for (let count = 0; count < 40; count++) await node.order(revision, `op-${count}`)
    await expect.poll(() => node.report(first)?.phases.length).toBe(1)
    expect(inWords(await local(node, { case: 'hold', value: { reason: 'stop!' } }))).toBe('succeeded')
    expect(node.operations.nodeStatus().held?.reason).toBe('stop!')
    expect(node.report(first)?.outcome).toBeUndefined()
    expect(inWords(await local(node, { case: 'resume', value: {} }))).toBe('succeeded')
    // What was broken off is begun again.
    node.answer = answer
    expect(inWords(await node.outcome(first))).toBe('succeeded')
    expect(system.links.get(CURRENT)).toBe(NEW)
  })

  it('of root waits for the end of what is armed', async () => {
    await using node = await start(sampleMachine())
    let confirmed = false
    node.confirm = async () => ({ confirmed, reason: 'not yet' })
    const id = await node.order(await node.publish(tree))
    const phase = () => node.report(id)?.phases.at(-1)?.phase
    await expect.poll(phase, { timeout: 10_000 }).toBe(Phase.CONFIRM)
    const hold = await node.operations.acceptLocal(
      create(OrderSchema, { action: { case: 'hold', value: {} } }),
    )
    confirmed = true
    expect(inWords(await node.outcome(hold))).toBe('succeeded')
    expect(inWords(await node.outcome(id))).toBe('succeeded')
    expect(node.operations.history()[1]?.phases.filter(({ phase }) => phase === Phase.VERIFY)).toHaveLength(1)
  })

  it('of a coordinator under an id that root’s have is passed over', async () => {
    await using node = await start(sampleMachine())
    await node.order(await node.publish(tree), 'local-0123456789abcdef')
    expect(node.operations.history()).toEqual([])
  })
})

describe('a change that waits for its coordinator', () => {
  const silent = async () => ({ confirmed: false, reason: 'who?' })

  it('is taken back, and named, where somebody switched by hand meanwhile, and is no success', async () => {
    const system = sampleMachine()
    await using node = await start(system)
    const byHand = `/nix/store/${'9'.repeat(32)}-by-hand`
    const asked: string[] = []
    node.confirm = async ({ storePath = '' }) => {
      asked.push(storePath)
      if (asked.length === 1) system.links.set(CURRENT, byHand)
      // As the coordinator judges it (N34), once it is told the truth.
      return { confirmed: asked.length > 2, reason: 'not yet' }
    }
    const outcome = await node.apply(await node.publish(tree, { targets: [hasty(60_000)] }))
    expect(asked).toEqual([NEW, byHand, byHand])
    expect(inWords(outcome)).toBe('rolled back')
    expect(outcome.reason).toContain(`${byHand} runs, to which this operation did not switch`)
    expect([system.links.get(CURRENT), bootDefault(system)]).toEqual([OLD, OLD])
    expect(node.operations.nodeStatus().quarantined).toEqual([])
  })

  it('is taken back as unconfirmed, is not to blame, and may come again', async () => {
    const system = sampleMachine()
    await using node = await start(system)
    const good = node.confirm
    node.confirm = silent
    const revision = await node.publish(tree, { targets: [hasty(5_000)] })
    expect(inWords(await node.apply(revision))).toBe('unconfirmed')
    expect([system.links.get(CURRENT), bootDefault(system)]).toEqual([OLD, OLD])
    node.confirm = good
    expect(inWords(await node.apply(revision))).toBe('succeeded')
  })

  const OWN = `/nix/store/${'2'.repeat(32)}-muster-agent/bin/muster-agent`
  const DROP_IN = '/run/systemd/system/muster-agent.service.d/debug.conf'
  const unit = (program: string): AgentUnit => ({
    kind: 'unit',
    program,
    files: ['/etc/systemd/system/muster-agent.service', DROP_IN],
  })

  it.each(['coordinator', 'gates'])(
    'T36: is taken back, whether %s would confirm it, where systemd starts another program than it names as the agent',
    async by => {
      const system = sampleMachine()
      await using node = await start(system)
      let asked = 0
      node.confirm = async () => {
        asked += 1
        return { confirmed: true, reason: '' }
      }
      node.units.agent = unit('/nix/store/old-muster-agent/bin/muster-agent')
      const target = hasty(60_000)
      if (target.safety) target.safety.confirmLocally = by === 'gates'
      const revision = await node.publish(tree, { targets: [target] })
      const outcome = await node.apply(revision)
      expect(inWords(outcome)).toBe('rolled back')
      expect(outcome.reason).toContain(`(${OWN}) was never started: systemd starts /nix/store/old-muster`)
      expect(outcome.reason).toContain(`in its place, by ${DROP_IN}; take that away`)
      expect([system.links.get(CURRENT), bootDefault(system), asked]).toEqual([OLD, OLD, 0])
      expect(node.operations.nodeStatus().quarantined).toEqual([])
      // A drop-in that leaves the program alone is none of this.
      node.units.agent = unit(OWN)
      expect(inWords(await node.apply(revision))).toBe('succeeded')
    },
  )

  it('asks again which program runs where that cannot be told, and confirms nothing meanwhile', async () => {
    await using node = await start(sampleMachine())
    node.units.agent = { kind: 'unknown', reason: 'systemctl show: timed out' }
    const id = await node.order(await node.publish(tree, { targets: [hasty(30_000)] }))
    await expect.poll(() => node.takeOutput() ?? node.output.join()).toContain('not confirmed yet: systemctl')
    expect(await node.journal()).not.toContain('"kind":"confirmed"')
    node.units.agent = unit(OWN)
    expect(inWords(await node.outcome(id))).toBe('succeeded')
  })

  it('is confirmed by root on the machine, for the operation that waits and no other', async () => {
    await using node = await start(sampleMachine())
    node.confirm = silent
    const id = await node.order(await node.publish(tree, { targets: [hasty(30_000)] }))
    const waits = () => node.report(id)?.phases.at(-1)?.phase
    expect(() => node.operations.confirmByHand('')).toThrow(/no operation waits/)
    await expect.poll(waits).toBe(Phase.CONFIRM)
    expect(() => node.operations.confirmByHand('another')).toThrow(/does not wait to be confirmed/)
    await expect
      .poll(() => {
        try {
          return node.operations.confirmByHand('')
        } catch {
          return ''
        }
      })
      .toBe(id)
    expect(inWords(await node.outcome(id))).toBe('succeeded')
    expect(await node.journal()).toContain('"by":"hand"')
  })

  /** A node that has gone from NEW to OLD, and the order of root's that takes it back to NEW, which has five seconds to be confirmed. */
  async function goneOn(system: ScriptedSystem) {
    const node = await start(system)
    const targets = [hasty(5_000)]
    const first = await node.order(await node.publish(tree, { targets }))
    expect(inWords(await node.outcome(first))).toBe('succeeded')
    buildsOld(system)
    expect(inWords(await node.apply(await node.publish(tree, { targets, number: 6 })))).toBe('succeeded')
    node.confirm = silent
    return { node, back: { case: 'rollback', value: { operationId: first } } as const }
  }

  it('is confirmed by its gates alone where root ordered it while the coordinator is away', async () => {
    const system = sampleMachine()
    const { node, back } = await goneOn(system)
    await using _ = node
    node.connected = false
    expect(inWords(await local(node, back))).toBe('succeeded')
    expect(system.links.get(CURRENT)).toBe(NEW)
    expect(await node.journal()).toContain('"by":"gates"')
  })

  it('goes back, also where root ordered it, when the coordinator heard of it before it fell silent', async () => {
    const system = sampleMachine()
    const { node, back } = await goneOn(system)
    await using _ = node
    const { operations } = node
    operations.onChange(() => {
      const told = operations.reports().find(({ operationId }) => operationId.startsWith('local-'))
      const sequence = told?.phases.at(-1)?.sequence
      if (!told || sequence === undefined || !node.connected) return
      node.connected = false
      const { operationId } = told
      void operations.acknowledge(create(OperationAckSchema, { operationId, sequence }))
    })
    expect(inWords(await local(node, back))).toBe('unconfirmed')
    expect(system.links.get(CURRENT)).toBe(OLD)
  })

  it('waits longer for one that restarts as it said, once and within the bound', async () => {
    await using node = await start(sampleMachine(), { restartBoundMs: 4_000 })
    node.confirm = silent
    const startedMs = performance.now()
    const id = await node.order(await node.publish(tree, { targets: [hasty(5_000)] }))
    await expect.poll(() => node.report(id)?.phases.at(-1)?.phase).toBe(Phase.CONFIRM)
    await node.operations.coordinatorRestarts(3_600_000)
    await node.operations.coordinatorRestarts(3_600_000)
    expect((await node.journal()).match(/"kind":"extended","byMs":4000/g)).toHaveLength(1)
    expect(inWords(await node.outcome(id))).toBe('unconfirmed')
    const tookMs = performance.now() - startedMs
    expect(tookMs).toBeGreaterThan(8_500)
    expect(tookMs).toBeLessThan(30_000)
  })
})

it('an outcome is signed with the machine’s key, over this very operation', async () => {
  await using node = await start(sampleMachine())
  const id = await node.order(await node.publish(tree))
  const outcome = await node.outcome(id)
  const signed = node.report(id)?.signedOutcome
  if (!signed) throw new Error('the outcome is not signed')
  const verdict = verifyOutcome(node.publicKey, signed)
  if (verdict.kind !== 'verified') throw new Error(verdict.reason)
  expect(verdict.statement).toMatchObject({ operationId: id, revision: 5n, machine: node.machineId })
  expect(verdict.statement.outcome).toMatchObject({
    class: OutcomeClass.SUCCEEDED,
    runs: NEW,
    reason: outcome.reason,
  })
  const altered = { ...signed, statement: signed.statement.map((byte, at) => (at === 40 ? byte ^ 1 : byte)) }
  expect(verifyOutcome(node.publicKey, altered).kind).toBe('refused')
})

const ROUND = { kind: 'armed', round: 1, mode: 'switch', bootId: 'boot-1', failedBefore: [] } as const

/** Operations that ended, oldest first. */
function states(
  ends: readonly {
    kind: OutcomeClass
    storePath?: string
    previous?: string
    first?: OutcomeClass
    revision?: number
    phase?: Phase
    action?: Action
    /** Whether it came as far as a way back that was armed. */
    armed?: boolean
  }[],
): OperationState[] {
  const records = ends.flatMap(
    (
      { kind, storePath = NEW, previous = OLD, first, revision = 1, armed = true, phase, action },
      index,
    ): NewRecord[] => {
      const operation = `op-${index}`
      const order = create(OrderSchema, {
        operationId: operation,
        revision: BigInt(revision),
        ...(action && { action }),
      })
      const outcome = create(OutcomeSchema, {
        class: kind,
        ...(phase !== undefined && { phase }),
        ...(first !== undefined && { firstCause: first }),
      })
      return [
        { operation, kind: 'accepted', order },
        { operation, kind: 'target', host: 'olaf', targetDigest: '', previous },
        { operation, kind: 'system', storePath },
        ...(armed ? [{ ...ROUND, operation, target: storePath }] : []),
        { operation, kind: 'outcome', outcome },
      ]
    },
  )
  return [
    ...foldJournal(records.map((record, at) => ({ ...record, sequence: at + 1, at: new Date(0) }))).values(),
  ]
}

describe('the system to go back to', () => {
  const { SUCCEEDED, ROLLED_BACK, DEGRADED } = OutcomeClass
  const three = states([
    { kind: SUCCEEDED, storePath: 'a', previous: 'factory', revision: 3 },
    { kind: DEGRADED, storePath: 'b', previous: 'a', revision: 4 },
    { kind: ROLLED_BACK, storePath: 'c', previous: 'b', revision: 5 },
    { kind: SUCCEEDED, storePath: 'a', previous: 'b', revision: 0 },
  ])
  const choose = (operationId: string, before: boolean, floor = 1) => {
    const choice = chooseRollback({ operationId, before }, three, floor)
    return choice.kind === 'found' ? `${choice.storePath} as ${choice.provedBy ?? 'nothing'}` : choice.class
  }

  it.each([
    ['op-1', false, 1, 'b as op-1'],
    ['op-1', true, 1, 'a as op-0'],
    ['op-0', true, 1, 'factory as nothing'],
    ['op-2', false, 1, 'not-reached'],
    ['op-2', true, 1, 'b as op-1'],
    ['op-9', false, 1, 'unknown-operation'],
    ['op-1', false, 4, 'b as op-1'],
    ['op-1', true, 4, 'below-floor'],
    ['op-0', true, 2, 'below-floor'],
    // One that went back brought nothing of its own.
    ['op-3', false, 3, 'a as op-0'],
    ['op-3', true, 4, 'b as op-1'],
  ] as const)('of %s (before: %s, floor %i) is %s', (operation, before, floor, expected) => {
    expect(choose(operation, before, floor)).toBe(expected)
    expect(choose(operation, before, floor)).toBe(expected)
  })
})

it('goes back to a system whose Kubernetes failed, for it stayed, and to none that was only planned', () => {
  const { SUCCEEDED, ACTIVATION_FAILED } = OutcomeClass
  const past = states([
    { kind: SUCCEEDED, storePath: 'a', previous: 'factory', revision: 3 },
    { kind: ACTIVATION_FAILED, phase: Phase.KUBERNETES, storePath: 'b', previous: 'a', revision: 4 },
    { kind: SUCCEEDED, storePath: 'c', previous: 'b', revision: 5 },
    { kind: ACTIVATION_FAILED, phase: Phase.ACTIVATE, storePath: 'd', previous: 'c', revision: 6 },
    {
      kind: SUCCEEDED,
      phase: Phase.PLAN,
      storePath: 'e',
      previous: 'c',
      revision: 7,
      action: { case: 'apply', value: { planOnly: true } } as const,
      armed: false,
    },
  ])
  const choose = (operationId: string, before: boolean) => chooseRollback({ operationId, before }, past, 4)
  expect(choose('op-1', false)).toMatchObject({ storePath: 'b', revision: 4, provedBy: 'op-1' })
  expect(choose('op-2', true)).toMatchObject({ storePath: 'b', revision: 4, provedBy: 'op-1' })
  for (const operation of ['op-3', 'op-4']) {
    expect(choose(operation, false)).toMatchObject({ class: 'not-reached' })
  }
})

describe('a target with which the machine was cut off', () => {
  const { ROLLED_BACK, UNKNOWN, ACTIVATION_FAILED, SUCCEEDED, REFUSED, BUSY } = OutcomeClass
  const cut = { kind: ROLLED_BACK, first: UNKNOWN }
  const plan = { kind: SUCCEEDED, armed: false }
  const retried = { ...plan, storePath: '', action: { case: 'retry', value: {} } as const }
  const now = {
    class: ROLLED_BACK,
    refusal: '',
    reason: '',
    phase: Phase.RETURN,
    storePath: NEW,
    firstCause: UNKNOWN,
  }

  it.each<[string, Parameters<typeof states>[0], boolean]>([
    ['once', [], false],
    ['twice', [cut], false],
    ['three times', [cut, cut], true],
    ['three times, with another target between', [cut, { ...cut, storePath: 'x' }, cut], true],
    ['three times, planned before each', [plan, cut, plan, cut, plan], true],
    ['three times, with what came to nothing between', [cut, { kind: REFUSED }, cut, { kind: BUSY }], true],
    ['with a success between', [cut, { kind: SUCCEEDED }, cut], false],
    ['three times, and was to be tried again before the last', [cut, cut, retried], false],
    ['twice, after it was to be tried again', [cut, cut, retried, cut], false],
    ['three times, after it was to be tried again', [cut, retried, cut, cut], true],
    ['three times, while an order to try again was refused', [cut, { ...retried, kind: REFUSED }, cut], true],
    ['with another failure between', [cut, { kind: ROLLED_BACK, first: ACTIVATION_FAILED }, cut], false],
  ])('%s', (_, before, blamed) => {
    expect(cutTooOften(now, states(before))).toBe(blamed)
    expect(cutTooOften({ ...now, class: OutcomeClass.UNCONFIRMED }, states(before))).toBe(false)
    expect(outcomeName(now.class)).toBe('rolled back')
  })
})
