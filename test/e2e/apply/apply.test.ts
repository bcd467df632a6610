import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { writeMadeUpRoot } from '../../../scripts/made-up-root.ts'
import { OutcomeClass, Phase } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { randomId } from '../../../shared/ids.ts'
import { hasNix } from '../../nix/nix-library.ts'
import { until } from '../../support/shown.ts'
import { ApplyingFleet, allAt, inWords, type NixNode } from './applying-fleet.ts'

let applying: ApplyingFleet
const nodes = new Map<string, NixNode>()
const node = (host: string): NixNode => {
  const found = nodes.get(host)
  if (!found) throw new Error(`no node ${host}`)
  return found
}

beforeAll(async () => {
  if (!hasNix) return
  applying = await ApplyingFleet.start()
  await applying.publish()
  for (const host of ['olaf', 'bolt', 'exit4', 'slow', 'broken'])
    nodes.set(host, await applying.addNode(host))
})
afterAll(async () => await applying?.[Symbol.asyncDispose]())

describe.skipIf(!hasNix)(`applying a revision ${hasNix ? '' : 'skipped: the command nix is missing'}`, () => {
  it('brings several machines to it at once, each as its own host, and shows what each of them reached', async () => {
    const revision = await applying.publish()
    const ids = await applying.order(['olaf', 'bolt', 'exit4', 'broken'])
    const outcomes = await Promise.all(ids.map(id => applying.outcome(id)))
    expect(outcomes.map(inWords)).toEqual(['succeeded', 'succeeded', 'rolled back', 'build failed'])
    for (const [at, host] of ['olaf', 'bolt'].entries()) {
      const { storePath = '' } = outcomes[at] ?? {}
      expect(storePath).toContain(`-nixos-system-${host}-`)
      expect(node(host).state()).toEqual(allAt(storePath))
    }
    expect(outcomes[2]?.firstCause).toBe(OutcomeClass.ACTIVATION_FAILED)
    expect(outcomes[2]?.reason).toContain('units failed (exit 4): broken-service.service')
    expect(outcomes[2]?.runs).toBe(applying.before)
    expect(node('exit4').state()).toEqual(allAt(applying.before))
    expect(node('broken').state()).toEqual(allAt(applying.before))
    for (const outcome of outcomes) expect(outcome.simulated.join()).toContain('system kept in')
    const { machines } = await applying.fleet.api.listMachines({})
    const applied = new Map(machines.map(machine => [machine.host, Number(machine.appliedRevision)]))
    expect(applied.get('olaf')).toBe(revision.number)
    expect(applied.get('broken')).toBe(0)
  })

  it('streams the output of the build, and ends it with the outcome', async () => {
    const revision = await applying.publish()
    const [id = ''] = await applying.order(['slow'])
    const output = await applying.output('slow', id)
    expect(output.join('\n')).toMatch(/step 1 of 4[\s\S]*step 4 of 4[\s\S]*activating the configuration/)
    // Whoever follows sees the end only when the outcome is there.
    expect(inWords((await applying.operation(id))?.outcome ?? (await applying.outcome(id)))).toBe('succeeded')
    expect(revision.number).toBeGreaterThan(1)
  })

  it('T57: takes an order once, however often it is sent, and refuses another under the same request', async () => {
    await applying.publish()
    const requestId = randomId()
    const [first] = await applying.order(['slow'], 0n, requestId)
    const [again] = await applying.order(['slow'], 0n, requestId)
    expect(again).toBe(first)
    await expect(applying.order(['olaf'], 0n, requestId)).rejects.toThrow(/request_id/)
    // Another person who wants the same joins the operation that runs.
    expect(await applying.order(['slow'])).toEqual([first])
    expect(inWords(await applying.outcome(first ?? ''))).toBe('succeeded')
    const started = (await node('slow').journal()).filter(
      line => line.op === first && line.kind === 'started' && line.phase === Phase.ACTIVATE,
    )
    expect(started).toHaveLength(1)
  })

  it('refuses another revision while one is under way, and orders none of those named beside it', async () => {
    const older = await applying.publish()
    const [id = ''] = await applying.order(['slow'])
    const newer = await applying.publish()
    await expect(applying.order(['slow', 'olaf'], BigInt(newer.number))).rejects.toThrow(/is not done yet/)
    const { operations } = await applying.fleet.api.listOperations({ ref: 'olaf' })
    expect(operations.some(({ revision }) => Number(revision) === newer.number)).toBe(false)
    expect(inWords(await applying.outcome(id))).toBe('succeeded')
    expect(Number((await applying.operation(id))?.revision)).toBe(older.number)
  })

  it('refuses an order whose machines are not all known and able, naming each', async () => {
    const order = applying.order(['olaf', 'nobody', 'rejected'])
    await expect(order).rejects.toThrow(/nobody/)
  })

  it('does nothing twice: a revision that is reached is told as such', async () => {
    await applying.publish()
    expect(inWords(await applying.apply('bolt'))).toBe('succeeded')
    const again = await applying.apply('bolt')
    expect(inWords(again)).toBe('succeeded')
    expect(again.reason).toContain('nothing was done')
  })

  it('goes back to an older revision while the floor allows it, and never below', async () => {
    const older = await applying.publish()
    const { storePath } = await applying.apply('bolt')
    await applying.publish()
    await applying.apply('bolt')
    const back = await applying.apply('bolt', BigInt(older.number))
    expect(inWords(back)).toBe('succeeded')
    expect(back.storePath).toBe(storePath)
    const raised = await applying.publish({ manifest: { floor: older.number + 2 } })
    expect(inWords(await applying.apply('bolt'))).toBe('succeeded')
    await expect(applying.apply('bolt', BigInt(older.number))).rejects.toThrow(/below the fleet's floor/)
    expect(raised.number).toBe(older.number + 2)
  })
})

describe.skipIf(!hasNix)(`a node refuses ${hasNix ? '' : 'skipped: the command nix is missing'}`, () => {
  async function refused(host: string, words: string, reason: RegExp): Promise<void> {
    const before = node(host).state()
    const outcome = await applying.apply(host)
    expect(inWords(outcome)).toBe(words)
    expect(outcome.reason).toMatch(reason)
    expect(outcome.class).toBe(OutcomeClass.REFUSED)
    expect(node(host).state()).toEqual(before)
  }

  it('T11: everything while its record of accepted revisions is gone or cannot be read', async () => {
    await applying.publish()
    const { agent } = node('olaf')
    const file = join(agent.stateDir, 'revisions.json')
    for (const text of [undefined, '{"v":1,"highest":"x"}', '']) {
      await rm(file, { force: true })
      if (text !== undefined) await writeFile(file, text)
      await refused('olaf', 'refused missing-state', /memory/)
    }
  })

  it('a system that is made for another disk, even when the coordinator is told by hand that it is that host', async () => {
    const { agent } = node('bolt')
    await agent.kill('SIGTERM')
    await writeMadeUpRoot(join(agent.dir, 'hardware'), {
      seed: 'bolt',
      serial: 'SERIAL-bolt',
      disks: [{ name: 'nvme0n1', serial: 'ANOTHER', model: 'M', bytes: 10 ** 12, transport: 'nvme' }],
    })
    // The order waits for the node, which comes back with another disk: only it can know.
    await applying.publish()
    const [id = ''] = await applying.order(['bolt'])
    agent.start()
    const outcome = await applying.outcome(id)
    expect(inWords(outcome)).toMatch(/^refused (wrong-machine|target-mismatch)$/)
    expect(node('bolt').state().current).toContain('-nixos-system-bolt-')
  })

  it('all orders when its own configuration does not allow them, and activation when it shall never switch', async () => {
    const { agent } = node('exit4')
    await applying.publish()
    const before = node('exit4').state()
    await agent.kill('SIGTERM')
    await agent.configure({ allow: ['reboot'], tokenFile: undefined, caPin: await applying.fleet.caPin() })
    agent.start()
    await until('what it allows is known', async () => {
      const order = await applying.order(['exit4']).catch((error: Error) => error.message)
      return typeof order === 'string' && /forbids apply/.test(order) ? true : undefined
    })
    await agent.kill('SIGTERM')
    await agent.configure({ activation: 'never', tokenFile: undefined, caPin: await applying.fleet.caPin() })
    agent.start()
    await until('it takes orders again', async () => await applying.order(['exit4']).catch(() => undefined))
    const [id = ''] = await applying.order(['exit4'])
    const outcome = await applying.outcome(id)
    expect(inWords(outcome)).toBe('refused not-allowed')
    expect(outcome.reason).toContain('activation is switched off')
    expect(node('exit4').state()).toEqual(before)
  })
})
