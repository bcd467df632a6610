import { readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { create } from '@bufbuild/protobuf'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { generateSigningKey, signingKeyPem } from '../../../shared/envelope/keys.ts'
import { OperationReportSchema, OutcomeClass, Phase } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { pause } from '../../../shared/lifecycle.ts'
import { readOrder } from '../../../shared/operator-order/operator-order.ts'
import type { ScriptedNode } from '../../support/scripted-node.ts'
import { shownMachine, until } from '../../support/shown.ts'
import { MadeUpFleet } from './made-up-fleet.ts'

// The command and the coordinator are the real programs, keys and signatures real; the machines speak the real protocol, and
// their Kubernetes is made up.

let made: MadeUpFleet
let config: string

beforeAll(async () => {
  made = await MadeUpFleet.start(['s1', 's2', 's3', 'w1', 'w2', 'w3'])
  await made.connectAll()
  await made.untilJoined(6)
  config = await made.writeOperator()
})
afterAll(() => made?.[Symbol.asyncDispose]())

const muster = (...args: string[]) => made.fleet.muster(...args)
const orders = (kind: Parameters<ScriptedNode['of']>[0]) =>
  [...made.nodes.values()].flatMap(node => node.of(kind))
const machineOf = (host: string) => shownMachine(made.fleet, made.node(host).id)

/** The node says of everything that it was ordered, but for what it answered before, that it ended so. Names what it was. */
function endOrders(
  { session, host }: ScriptedNode,
  kind: OutcomeClass,
  reason: string,
  answered = new Set<string>(),
): readonly string[] {
  const ended: string[] = []
  for (const { message } of session?.received ?? []) {
    if (message.case !== 'order' || answered.has(message.value.operationId)) continue
    const { operationId, revision, manifestDigest, action } = message.value
    answered.add(operationId)
    ended.push(`${action.case} ${host}`)
    const outcome = { class: kind, phase: Phase.DONE, reason }
    const said = { operationId, revision, manifestDigest, action: action.case ?? '', outcome }
    session?.send({ message: { case: 'operation', value: create(OperationReportSchema, said) } })
  }
  return ended
}
const refuseOrders = (node: ScriptedNode) => endOrders(node, OutcomeClass.REFUSED, 'the test is over')

describe('what an operator sees', () => {
  it('is every cluster in a line, and one with its hosts', async () => {
    const listed = await made.fleet.json('clusters')
    expect(listed).toMatchObject([
      {
        name: 'home',
        distribution: 'components',
        standing: 'founded',
        voters: 3,
        healthyVoters: 3,
        joined: 6,
      },
    ])
    const shown = await made.fleet.ok('cluster', 'show', 'home')
    expect(shown).toMatch(/voters +3 of 3 healthy/)
    expect(shown).toMatch(/w1 +worker +yes +ready/)
    expect((await muster('cluster', 'show', 'away')).code).toBe(3)
  })

  it('is completed at the prompt', async () => {
    // Names that do not come within NAMES_WITHIN_MS are left out: on a machine that is busy whoever sees none presses Tab again.
    const completed = async (...words: string[]) =>
      await until(
        'names at the prompt',
        async () => (await made.fleet.ok('__complete', '--', ...words)) || undefined,
      )
    expect(await completed('cluster', 'show', '')).toBe('home\n')
    expect(await completed('drain', 'w')).toBe('w1\nw2\nw3\n')
  })
})

describe('drain', () => {
  it('moves the pods off, and uncordon lets them back', async () => {
    const { code, stdout, stderr } = await muster('drain', 'w1', '--limit', '30s')
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'w1: drain: 2 pods evicted\n' })
    expect(stderr).toMatch(/^w1: drain: s\d does it\nw1: drain: 2 pods evicted\n$/)
    expect(await made.fleet.ok('cluster', 'show', 'home')).toMatch(/w1 +worker +yes +ready, cordoned/)
    expect((await muster('uncordon', 'w1')).code).toBe(0)
    expect(await made.fleet.ok('cluster', 'show', 'home')).not.toContain('cordoned')
  })

  it('names what is in the way', async () => {
    const reason = 'node w1 is not drained within 30 s: pod a/web: no budget; pod b/db: it has not ended yet'
    for (const node of made.nodes.values()) node.refuses.set('drain', { class: 'blocked', reason })
    const { code, stderr } = await muster('drain', 'w1')
    for (const node of made.nodes.values()) node.refuses.clear()
    expect(code).toBe(6)
    expect(stderr).toContain('in the way:\n  pod a/web: no budget\n  pod b/db: it has not ended yet\n')
    expect((await muster('uncordon', 'w1')).code).toBe(0)
  })
})

describe('a gate that is closed', () => {
  it('holds a verb, which says which gate it is, and goes on when an operator opens it', async () => {
    await made.fleet.ok('drain', 'w3')
    const held = await muster('drain', 'w1', '--timeout', '3s')
    expect(held.code).toBe(5)
    expect(held.stderr).toMatch(/w1: drain: waits at budget: 1 of 3 are away.*opens when one of them is back/)
    const [rollout] = await made.fleet.json('rollout', 'list', '--open')
    expect(held.stderr).toContain(`muster rollout abort ${rollout.id}`)
    await made.fleet.ok('rollout', 'abort', rollout.id)
    const waiting = muster('drain', 'w1')
    const id = await until('another rollout', async () => {
      const [open] = await made.fleet.json('rollout', 'list', '--open')
      return open?.id
    })
    await made.fleet.ok('rollout', 'override', id, 'w1', 'budget', '--why', 'both at once')
    expect(await waiting).toMatchObject({ code: 0, stdout: 'w1: drain: 2 pods evicted\n' })
    for (const host of ['w1', 'w3']) await made.fleet.ok('uncordon', host)
  })

  it('holds each host of a rollout of drains, of which one is away at a time', async () => {
    const begun = await made.fleet.json(
      ...['rollout', 'start', '--action', 'drain', '--host', 'w1', '--host', 'w3', '--no-wait'],
    )
    const stateOf = async () => {
      const { hosts } = await made.fleet.json('rollout', 'show', begun.id)
      return hosts.map(({ host, state, waits }: Record<string, unknown> & { waits: { gate: string }[] }) => [
        host,
        state,
        ...waits.map(({ gate }) => gate),
      ])
    }
    await until('the first drain', async () =>
      String(await stateOf()).includes('w1,done') ? true : undefined,
    )
    expect(await stateOf()).toEqual([
      ['w1', 'done'],
      ['w3', 'waiting', 'budget'],
    ])
    await made.fleet.ok('uncordon', 'w1')
    await until('the second drain', async () =>
      String(await stateOf()).includes('w3,done') ? true : undefined,
    )
    await made.fleet.ok('uncordon', 'w3')
  })
})

describe('restart', () => {
  const answered = new Set<string>()

  /** What happened, oldest first, while the nodes do all that they are ordered. */
  async function happened(work: () => Promise<unknown>): Promise<readonly string[]> {
    const seen: string[] = []
    const acts = new Set([...made.nodes.values()].flatMap(node => node.orders))
    const look = () => {
      for (const node of made.nodes.values()) {
        for (const order of node.orders) {
          const { action } = order
          if (acts.has(order) || (action.case !== 'drain' && action.case !== 'uncordon')) continue
          acts.add(order)
          seen.push(`${action.case} ${action.value.node}`)
        }
      }
      for (const node of made.nodes.values())
        seen.push(...endOrders(node, OutcomeClass.SUCCEEDED, 'as it is played', answered))
    }
    const stop = new AbortController()
    const looking = (async () => {
      while (await pause(10, stop.signal)) look()
    })()
    await work()
    stop.abort()
    await looking
    return seen
  }

  it('drains the node, restarts its Kubernetes, waits until it is Ready, and gives it back', async () => {
    const seen = await happened(async () => {
      const { code, stdout, stderr } = await muster('restart', 'w1')
      expect({ code, stderr }).toMatchObject({ code: 0 })
      expect(stdout).toMatch(/w1 .*restart .*succeeded/)
    })
    expect(seen).toEqual(['drain w1', 'restart w1', 'uncordon w1'])
    const [rollout] = await made.fleet.json('rollout', 'list')
    expect(rollout).toMatchObject({ action: 'restart', state: 'succeeded' })
  })

  const restartAtOnce = (host: string) =>
    made.fleet.ok('rollout', 'start', '--action', 'restart', '--host', host, '--soak', '0s')

  it('leaves a node cordoned that an operator cordoned, and says so', async () => {
    await made.fleet.ok('cordon', 'w1')
    const node = made.world.cluster?.nodes.get('w1')
    const [act] = await made.api.listClusterActs({ cluster: 'home', limit: 1 }).then(({ acts }) => acts)
    const seen = await happened(async () => await restartAtOnce('w1'))
    expect(seen).toEqual(['drain w1', 'restart w1'])
    expect(node).toMatchObject({ cordoned: true, cordonedBy: act?.id })
    expect(await made.fleet.ok('cluster', 'show', 'home')).toMatch(/w1 +worker +yes +ready, cordoned/)
    const [rollout] = await made.fleet.json('rollout', 'list')
    expect(await made.fleet.ok('rollout', 'show', rollout.id)).toContain('its node stays cordoned')
    await made.fleet.ok('uncordon', 'w1')
    expect(node?.cordoned).toBe(false)
  })

  it('goes well on a node that somebody cordoned without us, and leaves that be', async () => {
    const node = made.world.cluster?.nodes.get('w1')
    if (!node) throw new Error('w1 is no node')
    node.cordoned = true
    const seen = await happened(async () => await restartAtOnce('w1'))
    expect(seen).toEqual(['drain w1', 'restart w1'])
    expect(node.cordoned).toBe(true)
    const [rollout] = await made.fleet.json('rollout', 'list')
    expect(rollout).toMatchObject({ action: 'restart', state: 'succeeded' })
    // It is not ours, and so uses up no budget as one that is.
    const { hosts } = await made.api.getCluster({ name: 'home' })
    node.cordoned = false
    expect(hosts.find(({ host }) => host === 'w1')?.cordonedBy).toBe('')
  })

  it('takes one server at a time, and the workers after them', async () => {
    const seen = await happened(async () => {
      const hosts = ['w1', 's2', 's3'].flatMap(host => ['--host', host])
      await made.fleet.ok('rollout', 'start', '--action', 'restart', ...hosts, '--soak', '0s')
    })
    const steps = ['drain', 'restart', 'uncordon']
    expect(seen).toEqual(['s2', 's3', 'w1'].flatMap(host => steps.map(step => `${step} ${host}`)))
  })

  it('T39: takes the server last that leads the datastore, as the servers say it, whoever stands before', async () => {
    const hosts = ['s2', 's3'].flatMap(host => ['--host', host])
    const foreseen = async () => {
      const { order } = await made.fleet.json(
        'rollout',
        'start',
        '--action',
        'restart',
        ...hosts,
        '--dry-run',
      )
      return order.map(({ host }: { host: string }) => host).join()
    }
    expect(await foreseen()).toBe('s2,s3')
    const { cluster } = made.world
    if (cluster) cluster.leader = 's2'
    await until('word of the leader', async () => (await foreseen()) === 's3,s2' || undefined)
    const seen = await happened(async () => {
      await made.fleet.ok('rollout', 'start', '--action', 'restart', ...hosts, '--soak', '0s')
    })
    expect(seen.filter(step => step.startsWith('restart'))).toEqual(['restart s3', 'restart s2'])
    delete cluster?.leader
  })

  it('waits at the gates that hold every other change', async () => {
    await made.fleet.ok('lock', 'w1', '--why', 'a guest runs on it')
    expect(await muster('restart', 'w1')).toMatchObject({
      code: 4,
      stderr: expect.stringContaining('is locked (a guest runs on it)'),
    })
    await made.fleet.ok('unlock', 'w1')
  })
})

describe('an act that destroys or exposes', () => {
  it('is signed for each host of a rollout, and verified on each', async () => {
    const before = orders('rotate').length
    const whole = await muster('rollout', 'start', '--action', 'rotate', '--host', 'w1', '--host', 'w3')
    expect(whole).toMatchObject({ code: 0 })
    const signed = orders('rotate').slice(before)
    expect(signed).toMatchObject([
      { action: { value: { what: 'certificates', signedOrder: {} } } },
      { action: { value: { what: 'certificates', signedOrder: {} } } },
    ])
    const about = signed.map(({ action }) => {
      const read =
        action.case === 'rotate' && readOrder(action.value.signedOrder?.payload ?? new Uint8Array())
      return typeof read === 'object' && read.ok ? [read.order.node, read.order.machine] : []
    })
    expect(about.toSorted()).toEqual(['w1', 'w3'].map(host => [host, made.node(host).id]))
    // Without an order for each nothing is begun.
    const bare = made.fleet.rollouts.startRollout({
      requestId: 'bare',
      action: 'rotate',
      refs: ['w1', 'w3'],
      act: { act: 'rotate', parameter: 'certificates' },
    })
    await expect(bare).rejects.toThrow('signed_order')
  })

  it('is refused with a key that is not in the trust set, and reaches no node', async () => {
    const stranger = join(made.fleet.dir, 'stranger.key')
    await writeFile(stranger, signingKeyPem(generateSigningKey()), { mode: 0o600 })
    const { code, stderr } = await muster('leave', 'w1', '--key', stranger)
    expect(code).toBe(4)
    expect(stderr).toContain('is no signing key of trust set 1')
    expect(orders('leave')).toEqual([])
  })

  it('reaches the node with the operator’s own signature: a snapshot is restored only with --yes', async () => {
    expect((await muster('cluster', 'snapshot', 'home', '--name', 'before')).stdout).toContain('before')
    const asked = await muster('cluster', 'restore', 'home', 'older', '--on', 's1')
    expect(asked.code).toBe(4)
    expect(asked.stderr).toContain('everything that was changed in Kubernetes since it was made is lost')
    // The coordinator itself lets nothing be restored beside servers that serve.
    const early = await muster('cluster', 'restore', 'home', 'older', '--on', 's1', '--yes')
    expect(early.code).toBe(4)
    expect(early.stderr).toContain('s2 serves the datastore as it is')
    expect(orders('restore')).toEqual([])
    expect((await muster('cluster', 'rotate', 'home', 'tokens')).code).toBe(0)
    const tokens = orders('rotate').filter(
      ({ action }) => action.case === 'rotate' && action.value.what === 'tokens',
    )
    expect(tokens).toMatchObject([{ action: { value: { signedOrder: {} } } }])
  })
})

describe('kubeconfig', () => {
  it('comes sealed to the operator, and no word of it stays with the coordinator', async () => {
    const file = join(made.fleet.dir, 'kubeconfig')
    expect((await muster('cluster', 'kubeconfig', 'home', '--out', file)).code).toBe(0)
    expect((await stat(file)).mode & 0o777).toBe(0o600)
    const text = await readFile(file, 'utf8')
    const [, secret] = /token: (\S+)/.exec(text) ?? []
    expect(secret).toMatch(/^made-up-/)
    const { stdout, stderr } = made.fleet.coordinator!
    expect(stdout + stderr).not.toContain(secret)
    const kept = await readdir(made.fleet.coordinatorState, { recursive: true, withFileTypes: true })
    for (const entry of kept.filter(each => each.isFile())) {
      const bytes = await readFile(join(entry.parentPath, entry.name), 'latin1')
      expect(bytes.includes(secret ?? ''), entry.name).toBe(false)
    }
    expect(await made.fleet.ok('cluster', 'show', 'home', '-o', 'json')).not.toContain(secret)
  })

  it('is sealed to the key of the operator’s profile where one is used', async () => {
    await made.fleet.ok('operator', 'add', 'ann')
    const { code, stdout, stderr } = await made.fleet.musterWith(
      { env: { MUSTER_SOCKET: '', MUSTER_CONFIG_HOME: config } },
      ...['--profile', 'ann', 'cluster', 'kubeconfig', 'home'],
    )
    expect({ code, stderr }).toEqual({ code: 0, stderr: expect.stringContaining('kubeconfig: done') })
    expect(stdout).toContain('token: made-up-')
  })
})

describe('an upgrade', () => {
  const toml = (version: string) =>
    made.toml().replace('"components"\n', `"components"\nversion = "${version}"\nlife = "apart"\n`)
  const upgrade = (...args: string[]) => muster('cluster', 'upgrade', 'home', ...args)
  /** Machines that were ordered to move their Kubernetes; to fetch it beforehand is no move. */
  const ordered = () =>
    [...made.nodes.values()]
      .filter(({ session }) =>
        session?.received.some(
          ({ message }) =>
            message.case === 'order' &&
            message.value.action.case === 'upgrade' &&
            !message.value.action.value.fetchOnly,
        ),
      )
      .map(({ host }) => host)

  it('names what is to be written and published first, and nothing is moved over a minor', async () => {
    await made.publish({ toml: toml('1.34.3') })
    for (const node of made.nodes.values()) node.version = '1.34.3'
    await until('versions', async () => {
      const { hosts } = await made.api.getCluster({ name: 'home' })
      return hosts.every(({ version }) => version === '1.34.3') || undefined
    })
    const other = await upgrade('1.35.4')
    expect(other.code).toBe(4)
    expect(other.stderr).toContain('says 1.34.3, not 1.35.4: write version = "1.35.4"')
    await made.publish({ toml: toml('1.36.0') })
    const far = await upgrade('1.36.0')
    expect(far.code).toBe(4)
    expect(far.stderr).toContain('go to 1.35 before 1.36.0')
    expect(ordered()).toEqual([])
  })

  it('shows its order, begins with one server that is not the first, and is followed when it is asked for again', async () => {
    await made.publish({ toml: toml('1.35.4') })
    const [{ firstServer } = { firstServer: '' }] = await made.fleet.json('clusters')
    const dry = JSON.parse((await upgrade('1.35.4', '--dry-run', '-o', 'json')).stdout)
    const turns = dry.map(({ host, turn }: { host: string; turn: number }) => [host, turn])
    expect(turns.slice(0, 3).map(([host]: [string]) => host)).toContain(firstServer)
    expect(turns[2]).toEqual([firstServer, 3])
    expect(turns.slice(3)).toEqual([
      ['w1', 4],
      ['w2', 5],
      ['w3', 6],
    ])
    expect(ordered()).toEqual([])
    const begun = await upgrade('1.35.4', '--timeout', '8s')
    expect(begun).toMatchObject({ code: 5, stderr: expect.stringContaining('goes on') })
    const again = await upgrade('1.35.4', '--timeout', '2s')
    expect(again).toMatchObject({
      code: 5,
      stderr: expect.stringContaining('does this already; it is followed'),
    })
    const [rollout, ...more] = await made.fleet.json('rollout', 'list', '--open')
    expect({ rollout, more }).toMatchObject({ rollout: { action: 'upgrade' }, more: [] })
    expect(ordered().filter(host => host.startsWith('w') || host === firstServer)).toEqual([])
    expect(ordered().length).toBeLessThanOrEqual(1)
    expect((await muster('rollout', 'abort', rollout.id, '--why', 'the test is over')).code).toBe(0)
    // What was begun goes to its end: the nodes say how it ended.
    for (const node of made.nodes.values()) refuseOrders(node)
    await until('the end of the rollout', async () => {
      const open = await made.fleet.json('rollout', 'list', '--open')
      return open.length === 0 || undefined
    })
  })
})

describe('a farewell', () => {
  it('drains, leaves, waits until the node is gone, wipes and evicts, and is over when it is asked for again', async () => {
    const { code, stderr, stdout } = await muster('remove', 'w2', '--wipe')
    expect({ code, stderr }).toMatchObject({ code: 0 })
    expect(stderr).toContain('w2: left to do: drain, leave, wipe, evict')
    expect(stdout).toMatch(/leave +done +its node is deleted/)
    expect(made.world.cluster?.nodes.has('w2')).toBe(false)
    expect((await machineOf('w2'))?.state).toBe(5) // evicted
    const again = await muster('remove', 'w2', '--wipe')
    expect(again).toMatchObject({ code: 0, stderr: expect.stringContaining('nothing is left to do') })
  })

  it('of a machine that is gone is done by a server that is left', async () => {
    await made.node('w3').disconnect()
    const alive = await muster('remove', 'w3')
    expect(alive).toMatchObject({ code: 4, stderr: expect.stringContaining('--dead') })
    const { code, stderr } = await muster('remove', 'w3', '--dead')
    expect({ code, stderr }).toMatchObject({ code: 0 })
    expect(made.world.cluster?.nodes.has('w3')).toBe(false)
    const [order] = orders('leave').filter(
      ({ action }) => action.case === 'leave' && action.value.node === 'w3',
    )
    expect(order?.action.value).toMatchObject({ dead: true, signedOrder: {} })
  })

  it('goes on where it was cut off, and a server that left may come back', async () => {
    for (const node of made.nodes.values())
      node.refuses.set('leave', { class: 'command', reason: 'it failed' })
    const cut = await muster('leave', 'w1', '--timeout', '3s')
    expect(cut.code).toBe(5)
    for (const node of made.nodes.values()) node.refuses.clear()
    expect((await muster('remove', 'w1', '--no-drain', '--timeout', '2m')).code).toBe(0)
    expect(made.world.cluster?.nodes.has('w1')).toBe(false)
    // Its copies would be lost, which has to be meant; nothing was begun.
    const wiping = await muster('remove', 's3', '--wipe')
    expect(wiping).toMatchObject({
      code: 4,
      stderr: expect.stringContaining('lie on it: older. --wipe takes'),
    })
    expect(made.world.cluster?.members.has('s3')).toBe(true)
    const left = await muster('leave', 's3')
    expect(left).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('copies of the datastore (older) stay'),
    })
    expect(made.world.cluster?.members.has('s3')).toBe(false)
    expect((await muster('rejoin', 's3')).code).toBe(0)
    await until('s3 is back', () => made.world.cluster?.members.has('s3') || undefined)
    await until('the coordinator knows it', async () => {
      const hosts = (await made.fleet.json('cluster', 'show', 'home')).hosts as {
        host: string
        joined: boolean
      }[]
      return hosts.some(each => each.host === 's3' && each.joined) || undefined
    })
    const meant = await muster('remove', 's3', '--wipe', '--yes', '--no-drain', '--timeout', '2m')
    expect(meant).toMatchObject({ code: 0, stdout: expect.stringMatching(/wipe +done/) })
  })
})
