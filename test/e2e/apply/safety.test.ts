import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fromJson } from '@bufbuild/protobuf'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { liveMadeUpUnits } from '../../../scripts/made-up-units.ts'
import { OutcomeClass, OutcomeSchema } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { hasNix } from '../../nix/nix-library.ts'
import { events, until, untilMachine } from '../../support/shown.ts'
import { ApplyingFleet, allAt, inWords, type JournalLine, type NixNode } from './applying-fleet.ts'

const SOAK_MS = 4_000
/** What stands in fleet.toml of a host whose proof takes long enough to do something meanwhile. */
const slowly = (host: string) =>
  `disk = { serial = "DISK-${host}" }\nsoak = "${SOAK_MS / 1_000}s"\nconfirm-within = "12s"`

let applying: ApplyingFleet
const nodes = new Map<string, NixNode>()
const node = (host: string): NixNode => {
  const found = nodes.get(host)
  if (!found) throw new Error(`no node ${host}`)
  return found
}

beforeAll(async () => {
  if (!hasNix) return
  // A session outlives some seconds of silence here, so that what is under way when they end still arrives.
  applying = await ApplyingFleet.start({ heartbeatSeconds: 5, restartExpectedSeconds: 30 })
  await applying.publish()
  for (const host of ['olaf', 'bolt', 'exit4', 'slow', 'slowswitch', 'rejected'])
    nodes.set(host, await applying.addNode(host))
})
afterAll(async () => {
  const states = [...nodes.values()].map(({ agent }) => agent.stateDir)
  await applying?.[Symbol.asyncDispose]()
  // Nothing of a machine that is gone runs on.
  for (const state of states) expect(await liveMadeUpUnits(state)).toEqual([])
})

const signal = (name: 'SIGSTOP' | 'SIGCONT') => applying.fleet.coordinator?.child.kill(name)

async function recorded(
  host: string,
  id: string,
  what: string,
  accept: (line: JournalLine) => boolean,
): Promise<JournalLine> {
  return await until(`${what} in the journal of ${host}`, async () =>
    (await node(host).journal()).find(line => line.op === id && accept(line)),
  )
}

const ofKind = (kind: string) => (line: JournalLine) => line.kind === kind

/** How an operation ended by the node's own journal, whether or not anybody was told. */
async function endOnNode(host: string, id: string) {
  const line = await recorded(host, id, 'the end', ofKind('outcome'))
  return fromJson(OutcomeSchema, JSON.parse(JSON.stringify(line.outcome)))
}

/** The node's own word for what it holds on to. */
async function quarantined(host: string): Promise<readonly string[]> {
  const said = await node(host).agent.local('status', '--json')
  const status: { node?: { quarantined?: { storePath: string }[] } } = JSON.parse(said.stdout)
  return (status.node?.quarantined ?? []).map(({ storePath }) => storePath)
}

/** The changes that a host was ordered. */
async function applied(host: string): Promise<readonly string[]> {
  const { operations } = await applying.fleet.api.listOperations({ ref: host, limit: 100 })
  return operations.filter(({ action }) => action === 'apply').map(({ operationId }) => operationId)
}

describe.skipIf(!hasNix)(`a change that fails ${hasNix ? '' : 'skipped: the command nix is missing'}`, () => {
  it('T30, T56: goes back by itself, is not tried again under another number, and is after `retry`', async () => {
    const directory = applying.flake('the-same-content')
    await applying.publish({ directory })
    const before = node('exit4').state()
    const first = await applying.apply('exit4')
    expect(inWords(first)).toBe('rolled back')
    expect(first.firstCause).toBe(OutcomeClass.ACTIVATION_FAILED)
    expect(first.runs).toBe(before.current)
    expect(node('exit4').state()).toEqual(before)
    expect(await quarantined('exit4')).toEqual([first.storePath])

    // Another tree, another number, and the same system.
    await writeFile(join(directory, 'notes'), 'of no consequence\n')
    await applying.publish({ directory })
    const again = await applying.apply('exit4')
    expect(inWords(again)).toBe('refused quarantined')
    expect(again.storePath).toBe(first.storePath)

    const earlier = new Set(await applied('exit4'))
    expect(inWords(await applying.done('exit4', { case: 'retry', value: {} }))).toBe('succeeded')
    expect(await quarantined('exit4')).toEqual([])
    // It was left behind for its quarantine alone, so it catches up by itself.
    const caughtUp = await until('it catches up', async () =>
      (await applied('exit4')).find(id => !earlier.has(id)),
    )
    const tried = await applying.outcome(caughtUp)
    expect(inWords(tried)).toBe('rolled back')
    expect(node('exit4').state()).toEqual(before)
  })

  it('before anything was touched: fails without a way back to walk', async () => {
    await applying.publish()
    const before = node('rejected').state()
    const [id = ''] = await applying.order(['rejected'])
    const outcome = await applying.outcome(id)
    expect(inWords(outcome)).toBe('activation failed')
    expect(outcome.reason).toContain('nothing was touched')
    expect(node('rejected').state()).toEqual(before)
    expect((await node('rejected').journal()).filter(line => line.op === id && line.phase === 14)).toEqual([])
  })

  it('is told under the node’s own signature, which `muster verify` checks without the coordinator', async () => {
    const { fleet } = applying
    const evidence = await fleet.ok('evidence', 'exit4')
    const file = join(fleet.dir, 'evidence.json')
    await writeFile(file, evidence)
    const verify = (path: string) =>
      fleet.musterWith(
        { env: { MUSTER_SOCKET: '/nowhere' } },
        'verify',
        path,
        '--trust-pin',
        applying.operator.trustPin,
      )
    const good = await verify(file)
    expect(good, good.stderr).toMatchObject({ code: 0 })
    expect(good.stdout).toContain('rolled back')
    // A letter in the signature of one outcome.
    const forged = evidence.replace(
      /("signed": ?\{[^}]*"signature": ?")(.)/,
      (_, head: string, letter: string) => {
        return `${head}${letter === 'A' ? 'B' : 'A'}`
      },
    )
    expect(forged).not.toBe(evidence)
    await writeFile(file, forged)
    const bad = await verify(file)
    expect(bad).toMatchObject({ code: 1 })
    expect(`${bad.stdout}${bad.stderr}`).toContain('signature')
  })
})

describe.skipIf(!hasNix)(`orders ${hasNix ? '' : 'skipped: the command nix is missing'}`, () => {
  it('a plan alone: tells what would change, and touches nothing', async () => {
    await applying.publish()
    const before = node('bolt').state()
    const [id = ''] = await applying.give(['bolt'], { case: 'apply', value: { planOnly: true } })
    const outcome = await applying.outcome(id)
    expect(inWords(outcome)).toBe('succeeded')
    expect(outcome.reason).toMatch(/^planned: switch;.*nothing that runs was touched$/)
    expect(node('bolt').state()).toEqual(before)
    expect((await node('bolt').journal()).filter(line => line.op === id && line.kind === 'armed')).toEqual([])
  })

  it('N5: to roll back lead to the same system, however often they are given', async () => {
    await applying.publish()
    const first = await applying.apply('bolt')
    await applying.publish()
    const [id = ''] = await applying.order(['bolt'])
    expect(inWords(await applying.outcome(id))).toBe('succeeded')
    const back = { case: 'rollback', value: { operationId: id, before: true } } as const
    for (const words of [/^runs /, /^already runs /]) {
      const outcome = await applying.done('bolt', back)
      expect(inWords(outcome)).toBe('succeeded')
      expect(outcome.reason).toMatch(words)
      expect(outcome.storePath).toBe(first.storePath)
      expect(node('bolt').state()).toEqual(allAt(first.storePath))
    }
    // Forward again is the same kind of order: to what that operation reached.
    const forward = await applying.done('bolt', { case: 'rollback', value: { operationId: id } })
    expect(inWords(forward)).toBe('succeeded')
    expect(node('bolt').state()).toEqual(allAt(forward.storePath))
    expect(forward.storePath).not.toBe(first.storePath)
  })

  it('to roll back, without a name, leave out what found its system running: the node goes one system back and no further', async () => {
    const directory = applying.flake('the-same-for-olaf')
    const before = node('bolt').state().current
    await applying.publish({ directory })
    expect((await applying.apply('bolt')).reason).toMatch(/^runs /)
    for (const orders of ['the coordinator', 'root'] as const) {
      const runs = node('bolt').state()
      await writeFile(join(directory, 'notes'), `of no consequence to a system, for ${orders}\n`)
      await applying.publish({ directory })
      expect((await applying.apply('bolt')).reason).toMatch(/^already runs .*nothing was done$/)
      if (orders === 'the coordinator') {
        const back = await applying.done('bolt', { case: 'rollback', value: {} })
        expect([inWords(back), back.storePath]).toEqual(['succeeded', before])
        expect(node('bolt').state()).toEqual(allAt(before))
        expect((await applying.apply('bolt')).storePath).toBe(runs.current)
        continue
      }
      const local = await node('bolt').agent.local('rollback')
      const [, id = ''] = /^operation (\S+): rollback/.exec(local.stdout) ?? []
      expect(inWords(await endOnNode('bolt', id))).toBe('succeeded')
      expect(node('bolt').state()).toEqual(allAt(before))
    }
  })

  it('are refused by a node that is held, by the coordinator and by the node, until it is resumed', async () => {
    await applying.publish()
    const before = node('bolt').state()
    const held = await applying.done('bolt', { case: 'hold', value: { reason: 'somebody works on it' } })
    expect(inWords(held)).toBe('succeeded')
    await untilMachine(applying.fleet, 'bolt', 'held', ({ conditions }) =>
      conditions.some(condition => condition.class === 'held'),
    )
    await expect(applying.apply('bolt')).rejects.toThrow(/on hold \(somebody works on it/)
    // Root's own verbs on the machine are held as well.
    const local = await node('bolt').agent.local('rollback')
    const [, id = ''] = /^operation (\S+): rollback/.exec(local.stdout) ?? []
    const refused = await endOnNode('bolt', id)
    expect(inWords(refused)).toBe('refused held')
    expect(node('bolt').state()).toEqual(before)

    expect(inWords(await applying.done('bolt', { case: 'resume', value: {} }))).toBe('succeeded')
    await until('it takes orders again', async () => await applying.order(['bolt']).catch(() => undefined))
    const [again = ''] = await applying.order(['bolt'])
    expect(inWords(await applying.outcome(again))).toBe('succeeded')
  })

  it('by root on the machine work while the coordinator is away', async () => {
    await applying.publish()
    expect(inWords(await applying.apply('olaf'))).toBe('succeeded')
    const before = node('olaf').state()
    await applying.publish()
    expect(inWords(await applying.apply('olaf'))).toBe('succeeded')
    signal('SIGSTOP')
    try {
      const { stdout } = await node('olaf').agent.local('rollback')
      const [, id = ''] = /^operation (\S+): rollback/.exec(stdout) ?? []
      // Nobody else has a part in it, and nobody has to say so twice.
      expect(inWords(await endOnNode('olaf', id))).toBe('succeeded')
      expect(node('olaf').state()).toEqual(before)
      expect((await recorded('olaf', id, 'who confirmed', ofKind('confirmed'))).by).toBe('gates')
    } finally {
      signal('SIGCONT')
    }
  })
})

describe.skipIf(!hasNix)(
  `a coordinator that does not answer ${hasNix ? '' : 'skipped: the command nix is missing'}`,
  () => {
    it('may have its word spoken by root on the machine', async () => {
      const lines = 'disk = { serial = "DISK-slowswitch" }\nsoak = "0s"\nconfirm-within = "60s"'
      await applying.publish({ directory: applying.flake(undefined, { slowswitch: lines }) })
      const [id = ''] = await applying.order(['slowswitch'])
      await recorded('slowswitch', id, 'the switch', line => line.kind === 'started' && line.phase === 8)
      signal('SIGSTOP')
      try {
        await recorded(
          'slowswitch',
          id,
          'the wait for a confirmation',
          line => line.kind === 'started' && line.phase === 11,
        )
        // Nobody else could answer for it.
        expect((await node('slowswitch').agent.local('confirm', id)).stdout).toContain(`${id} is confirmed`)
        expect(inWords(await endOnNode('slowswitch', id))).toBe('succeeded')
        expect((await recorded('slowswitch', id, 'who confirmed', ofKind('confirmed'))).by).toBe('hand')
      } finally {
        signal('SIGCONT')
      }
    })

    it('N35: for longer than the confirm time: the node returns, holds nothing against the system, and it is ordered again', async () => {
      const lines = 'disk = { serial = "DISK-slowswitch" }\nsoak = "0s"\nconfirm-within = "12s"'
      await applying.publish({ directory: applying.flake(undefined, { slowswitch: lines }) })
      const before = node('slowswitch').state()
      const [id = ''] = await applying.order(['slowswitch'])
      await recorded('slowswitch', id, 'the switch', line => line.kind === 'started' && line.phase === 8)
      signal('SIGSTOP')
      try {
        const outcome = await endOnNode('slowswitch', id)
        expect(inWords(outcome)).toBe('unconfirmed')
        expect(outcome.reason).toContain('the coordinator did not answer in time')
        expect(node('slowswitch').state()).toEqual(before)
        expect(await quarantined('slowswitch')).toEqual([])
      } finally {
        signal('SIGCONT')
      }
      expect(inWords(await applying.outcome(id))).toBe('unconfirmed')
      // The rollout that it belongs to waits a while, and orders it again by itself.
      const { rollouts } = await applying.fleet.rollouts.listRollouts({ open: true })
      const waits = await until('wait of the rollout', async () => {
        for (const { id: rollout } of rollouts) {
          const shown = await applying.fleet.rollouts.getRollout({ id: rollout })
          const host = shown.rollout?.hosts.find(one => one.host === 'slowswitch')
          const retry = host?.waits.find(wait => wait.gate === 'retry')
          if (retry) return { rollout, retry }
        }
        return undefined
      })
      expect(waits.retry.opens).toMatch(/^it is 20/)
      await applying.fleet.rollouts.abortRollout({ id: waits.rollout })
    })

    it('N12: until the time is up: its late word confirms nothing', async () => {
      await applying.publish({ directory: applying.flake(undefined, { slow: slowly('slow') }) })
      const { agent, state } = node('slow')
      const before = state()
      const sessions = () => agent.logs().filter(({ msg }) => msg === 'session opened').length
      const opened = sessions()
      const [id = ''] = await applying.order(['slow'])
      await recorded('slow', id, 'the new system', ofKind('activated'))
      await until('the session of another agent process', () => (sessions() > opened ? true : undefined))
      signal('SIGSTOP')
      try {
        const verdict = join(agent.stateDir, 'ops', id, '1/verdict')
        await until('what was decided', async () => (await stat(verdict)).isFile() || undefined)
        // It was asked before the time was up, and answers now.
        expect((await node('slow').journal()).some(line => line.op === id && line.phase === 11)).toBe(true)
      } finally {
        signal('SIGCONT')
      }
      const outcome = await applying.outcome(id)
      expect(inWords(outcome)).toBe('unconfirmed')
      expect(outcome.runs).toBe(before.current)
      expect(state()).toEqual(before)
      expect((await node('slow').journal()).some(line => line.op === id && line.kind === 'confirmed')).toBe(
        false,
      )
      const told = await events(applying.fleet, 'slow')
      expect(told.some(event => event.class === 'confirmed' && event.reason.includes(id))).toBe(true)
    })

    it('because it restarts, as it announced: its answer is waited for longer, once', async () => {
      await applying.publish({ directory: applying.flake(undefined, { olaf: slowly('olaf') }) })
      const { agent } = node('olaf')
      const sessions = () => agent.logs().filter(({ msg }) => msg === 'session opened').length
      const opened = sessions()
      const [id = ''] = await applying.order(['olaf'])
      await recorded('olaf', id, 'the proof', line => line.kind === 'started' && line.phase === 10)
      // Who is not connected cannot be told.
      await until('the session of another agent process', () => (sessions() > opened ? true : undefined))
      await applying.fleet.coordinator?.kill('SIGTERM')
      try {
        const extended = await recorded('olaf', id, 'the longer wait', ofKind('extended'))
        expect(extended.byMs).toBe(30_000)
        // Longer than it would be waited for otherwise.
        await new Promise(resolve => setTimeout(resolve, 10_000))
        expect(await readFile(join(agent.stateDir, 'journal.jsonl'), 'utf8')).not.toMatch(
          new RegExp(`"op":"${id}"[^\\n]*"kind":"outcome"`),
        )
      } finally {
        await applying.fleet.startCoordinator()
      }
      const outcome = await applying.outcome(id)
      expect(inWords(outcome)).toBe('succeeded')
      expect(node('olaf').state()).toEqual(allAt(outcome.storePath))
      const lines = await node('olaf').journal()
      expect(lines.filter(line => line.op === id && line.kind === 'extended')).toHaveLength(1)
    })
  },
)
