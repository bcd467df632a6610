import { generateKeyPairSync } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { describe, expect, it, vi } from 'vitest'
import { keyId } from '../../../shared/x509/key-id.ts'
import type { Following } from '../driver.ts'
import { DONE, done, failed, type Result } from '../result.ts'
import { AUTHORITY_PEM, type DriverFixture, FACTS, makeDriver } from '../testing/driver-fixture.ts'
import { member } from '../testing/made-up-objects.ts'
import { MadeUpOffers, madeUpHandover } from '../testing/made-up-offers.ts'
import type { Script } from '../testing/scripted-system.ts'
import { agentTokenAfter } from './agent-token.ts'
import type { PutToken, PutTokenRequest } from './put-token.ts'
import type { TakesToken } from './takes-token.ts'
import { keyOfToken, passwordOf, readPair } from './token-pair.ts'

const K3S = '/var/lib/rancher/k3s/server'
const OLD = 'K10abc::server:old-permanent'
const WAIT = { deadlineMs: 5_000, everyMs: 2 }
/** How much time passes at once where it does. */
const STEP_MS = 50
const RUNS = 'ActiveState=active\nConditionResult=yes\nConditionTimestampMonotonic=5\nResult=success\n'
const FAILS = 'ActiveState=activating\nConditionResult=yes\nConditionTimestampMonotonic=5\nResult=exit-code\n'
const REFUSED = 'level=fatal msg="bootstrap data already found and encrypted with different token"'

const makeKey = () =>
  generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey.export({ type: 'spki', format: 'der' })
/** Of all clusters here: they take long to make. */
const KEYS = [makeKey(), makeKey()] as const

/** A cluster of k3s whose servers are drivers of their own; k3s, its datastore and its API are made up. */
class Servers implements AsyncDisposable {
  readonly keys: string[] = [keyOfToken(OLD)]
  readonly offers = new MadeUpOffers()
  /** Nobody can ask the datastore. */
  down = false
  readonly put: PutTokenRequest[] = []
  readonly members = [member('n1-00000001'), member('n2-00000002')]
  readonly handovers
  /** The token with which each server's k3s was started: what it takes until it is started again. */
  readonly started = { n1: passwordOf(OLD), n2: passwordOf(OLD) }
  /** Bootstrap tokens that are out. */
  tokens: { readonly id: string; readonly expiration?: string }[] = []
  n1!: DriverFixture
  n2!: DriverFixture
  /** Time passes by steps and not by itself, so that no machine is too slow for what has to be done before it is over. */
  passedMs = 0
  /** Nobody follows, and time passes with each look of n1; else with each time that n1 and n2 have seen each other. */
  alone = false
  looks = 0
  /** What k3s says to being asked. */
  onPut: (request: PutTokenRequest) => Promise<Result<void>> = async request => this.rotate(request)

  private constructor() {
    const [one, two] = KEYS
    const servers = new Map([
      ['n1', keyId(one)],
      ['n2', keyId(two)],
    ])
    const n1 = madeUpHandover(keyId(one), one, servers)
    this.handovers = {
      n1: {
        ...n1,
        servers: async () => {
          this.looks += 1
          if (this.alone) this.passedMs += STEP_MS
          return await n1.servers()
        },
      },
      n2: madeUpHandover(keyId(two), two, servers),
    }
    vi.spyOn(performance, 'now').mockImplementation(() => this.passedMs)
  }

  static async make(script: Script = []): Promise<Servers> {
    const made = new Servers()
    for (const name of ['n1', 'n2'] as const) {
      const putToken: PutToken = async request => {
        made.put.push(request)
        return await made.onPut(request)
      }
      const takesToken: TakesToken = async ({ password }) => done(password === made.started[name])
      const more = { keys: made.keys, isDown: () => made.down, putToken, takesToken }
      const facts = { ...FACTS, nodeName: name, nodeAddress: FACTS.servers.get(name) }
      made[name] = await makeDriver(facts, [...script, ...made.script], made.members, more)
      await made[name].put(`${K3S}/tls/server-ca.crt`, AUTHORITY_PEM)
      await made[name].put(`${K3S}/token`, `${OLD}\n`)
      await made[name].files.put('token', OLD)
      await made[name].files.put('agent-token', 'agents')
    }
    return made
  }

  get script(): Script {
    return [
      [/secrets\?fieldSelector/, () => JSON.stringify({ items: this.tokens.map(asSecret) })],
      [
        /delete --raw \S+bootstrap-token-/,
        ({ line }) => {
          this.tokens = this.tokens.filter(({ id }) => !line.includes(`bootstrap-token-${id}`))
          return '{}'
        },
      ],
      ...this.offers.script,
      [/^systemctl show --property=ActiveState/, RUNS],
      [/^systemctl/, ''],
    ]
  }

  /** As k3s does: the datastore, and the file of that server. */
  async rotate({ next, password }: PutTokenRequest): Promise<Result<void>> {
    if (!this.keys.includes(keyOfToken(password))) return failed('token-refused', '401')
    this.keys.splice(0, this.keys.length, keyOfToken(next))
    return DONE
  }

  /** k3s of a server is started anew: it takes, and writes down, what it finds then. */
  async restarts(name: 'n1' | 'n2'): Promise<void> {
    const { files, put } = this[name]
    this.started[name] = await tokenOf(this[name])
    await put(`${K3S}/token`, `${await files.get('token')}\n`)
    await put(`${K3S}/agent-token`, `K10abc::node:${await files.get('agent-token')}\n`)
  }

  rotates(operation = 'o1') {
    return this.n1.driver.cluster.rotateTokens({ operation, handover: this.handovers.n1 }, WAIT)
  }

  async follow(name: 'n1' | 'n2' = 'n2'): Promise<Following> {
    const { driver } = this[name]
    if (!driver.followToken) throw new Error('it follows nothing')
    return await driver.followToken(this.handovers[name])
  }

  /** What the agent of n2 does meanwhile. */
  async while<T>(work: Promise<T>, steps: string[] = []): Promise<T> {
    const over = { yet: false }
    let looks = this.looks
    const following = (async () => {
      while (!over.yet) {
        const followed = await this.follow()
        // One look that began after what was done now.
        if (this.looks > looks + 1) {
          this.passedMs += STEP_MS
          looks = this.looks
        }
        if (followed.kind !== 'rest' && steps.at(-1) !== followed.step) steps.push(followed.step)
      }
    })()
    try {
      return await work
    } finally {
      over.yet = true
      await following
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    vi.mocked(performance.now).mockRestore()
    for (const each of [this.n1, this.n2]) await each[Symbol.asyncDispose]()
  }
}

const asSecret = ({ id, expiration }: { readonly id: string; readonly expiration?: string }) => ({
  metadata: { name: `bootstrap-token-${id}` },
  data: Object.fromEntries(
    Object.entries({ 'token-id': id, ...(expiration === undefined ? {} : { expiration }) }).map(
      ([key, value]) => [key, Buffer.from(value).toString('base64')],
    ),
  ),
})

const tokenOf = async ({ files }: DriverFixture) => passwordOf((await files.get('token')) ?? '')
const pairOf = async ({ files }: DriverFixture) => readPair(await files.get('next-token'))

describe('the token of k3s’ servers, made anew while several run', () => {
  it('is the new one on both in the end, and was in no argument, and in the cluster for its recipient alone', async () => {
    await using made = await Servers.make()
    made.tokens = [{ id: 'worker', expiration: '2026-11-28T12:10:00Z' }, { id: 'person' }]
    const steps: string[] = []
    const ended = await made.while(made.rotates(), steps)
    expect(ended).toMatchObject({
      kind: 'done',
      value: expect.stringMatching(
        /n2 and n1 take the old ones .*: muster restart n2, then muster restart n1;/,
      ),
    })
    // A person's own, which never ends, is a person's.
    expect(made.tokens).toEqual([{ id: 'person' }])
    const token = await tokenOf(made.n1)
    expect(token).toMatch(/^[0-9a-f]{64}$/)
    expect(await tokenOf(made.n2)).toBe(token)
    expect(made.put).toMatchObject([
      { next: token, password: 'old-permanent', url: 'https://127.0.0.1:6443' },
    ])
    expect([await pairOf(made.n1), await pairOf(made.n2), made.offers.object]).toEqual([
      ...[undefined, undefined, undefined],
    ])
    expect(steps.filter(step => step !== 'wait')).toEqual([
      ...['show-key', 'keep', 'say-kept', 'take', 'say-taken', 'forget'],
    ])
    const said = JSON.stringify([made.n1.system.ran, made.n2.system.ran, made.offers.seen])
    expect(said).not.toContain(token)
    expect(said).not.toContain('old-permanent')
    expect(await made.n2.read('/state/sealed/token')).toContain('sealed token')
    // Agents have one of their own, which no machine that knew the old one knows.
    const agents = await made.n1.files.get('agent-token')
    expect(agents).toMatch(/^[0-9a-f]{48}$/)
    expect(await made.n2.files.get('agent-token')).toBe(agents)
    expect(token).not.toContain(agents)
    expect(said).not.toContain(agents)
    expect(await made.n2.read('/state/sealed/agent-token')).toContain('sealed agent-token')
    // Called again for the same, it says the same and does nothing.
    expect(await made.rotates()).toEqual(ended)
    expect(made.put).toHaveLength(1)
  })

  it('of the only server needs nobody, and takes the place of what agents had where that was the same', async () => {
    await using made = await Servers.make()
    made.members.splice(1)
    await made.n1.files.put('agent-token', OLD)
    expect(await made.rotates()).toMatchObject({
      kind: 'done',
      value: expect.stringContaining(
        'n1 takes the old ones until Kubernetes restarts there: muster restart n1',
      ),
    })
    const [agents, token] = [await made.n1.files.get('agent-token'), await tokenOf(made.n1)]
    expect(agents).toMatch(/^[0-9a-f]{48}$/)
    expect(token).not.toContain(agents)
  })

  it('stays as it was where another server does not say that it keeps the new one, and names it', async () => {
    await using made = await Servers.make()
    made.alone = true
    expect(await made.rotates()).toMatchObject({
      class: 'timed-out',
      reason: expect.stringMatching(/is as it was: n2 did not say/),
    })
    made.alone = false
    expect(made.put).toEqual([])
    expect([made.offers.object, await pairOf(made.n1), await tokenOf(made.n1)]).toEqual([
      ...[undefined, undefined, 'old-permanent'],
    ])
    expect(await made.n1.files.get('agent-token')).toBe('agents')
    expect(await made.while(made.rotates('o2'))).toMatchObject({ kind: 'done' })
    expect(await tokenOf(made.n2)).toBe(await tokenOf(made.n1))
  })

  it('is not begun with where k3s takes another one than is kept, for it could ask for none', async () => {
    await using made = await Servers.make()
    expect(await made.while(made.rotates())).toMatchObject({ kind: 'done' })
    expect(await made.rotates('o2')).toMatchObject({
      class: 'precondition',
      reason: expect.stringContaining('muster restart n1'),
    })
    expect(await pairOf(made.n1)).toBeUndefined()
    const first = await made.n1.files.get('agent-token')
    await made.restarts('n1')
    expect(await made.while(made.rotates('o2'))).toMatchObject({ kind: 'done' })
    // That k3s of n2 has not taken the one before is no reason to leave it there.
    const [one, two] = [await made.n1.files.get('agent-token'), await made.n2.files.get('agent-token')]
    expect(one).toBe(two)
    expect(one).not.toBe(first)
  })

  it('leaves agents the one that a file of a person says, and tells it', async () => {
    await using made = await Servers.make()
    for (const name of ['n1', 'n2'] as const) await made[name].put(`${K3S}/agent-token`, 'K10abc::node:own\n')
    expect(await made.while(made.rotates())).toMatchObject({
      kind: 'done',
      value: expect.stringContaining('a file of your own'),
    })
    expect([await made.n1.files.get('agent-token'), await made.n2.files.get('agent-token')]).toEqual([
      ...['agents', 'agents'],
    ])
  })

  it('is not begun with where a member of the datastore is joining, or is nobody whom the manifest names', async () => {
    await using made = await Servers.make()
    made.members.push(member('n3-00000003'))
    expect(await made.rotates()).toMatchObject({
      class: 'precondition',
      reason: expect.stringMatching(/n3 is a member .* names as no server with a key/),
    })
    made.members[2] = member('n2-00000009', { learner: true })
    expect(await made.rotates()).toMatchObject({ reason: expect.stringContaining('n2 is joining') })
    expect([made.offers.seen, await pairOf(made.n1)]).toEqual([[], undefined])
  })

  it('is made by one server at a time', async () => {
    await using made = await Servers.make()
    const first = made.rotates()
    await expect.poll(() => made.offers.object).toBeDefined()
    const { driver } = made.n2
    const second = { operation: 'o2', handover: made.handovers.n2 }
    expect(await driver.cluster.rotateTokens(second, WAIT)).toMatchObject({
      class: 'precondition',
      reason: expect.stringContaining('by n1 is not over'),
    })
    expect(await made.while(first)).toMatchObject({ kind: 'done' })
    expect(made.put).toHaveLength(1)
  })

  it('is not begun with where the datastore is under a token that this server does not have', async () => {
    await using made = await Servers.make()
    made.keys.splice(0, 1, keyOfToken('another'))
    expect(await made.rotates()).toMatchObject({
      class: 'precondition',
      reason: expect.stringContaining('changed by hand'),
    })
  })

  it('is known by the datastore and not by the answer, which may be lost', async () => {
    await using made = await Servers.make()
    made.onPut = async request => {
      await made.rotate(request)
      return failed('timed-out', 'no answer')
    }
    expect(await made.while(made.rotates())).toMatchObject({ kind: 'done' })
    expect(made.put).toHaveLength(1)
    expect(await tokenOf(made.n2)).toBe(await tokenOf(made.n1))
  })

  it('is asked for with either, for k3s may have taken half of it', async () => {
    await using made = await Servers.make()
    made.onPut = async request =>
      request.password === 'old-permanent'
        ? failed('token-refused', '401')
        : await made.rotate({ ...request, password: 'old-permanent' })
    expect(await made.while(made.rotates())).toMatchObject({ kind: 'done' })
    expect(made.put).toHaveLength(2)
  })

  it('is not given up while k3s may be at it, and every server keeps both meanwhile', async () => {
    await using made = await Servers.make()
    made.onPut = async () => failed('timed-out', 'no answer')
    const ended = await made.while(made.rotates())
    expect(ended).toMatchObject({
      class: 'timed-out',
      reason: expect.stringContaining('starts with either'),
    })
    const [one, two] = [await pairOf(made.n1), await pairOf(made.n2)]
    expect(one).toMatchObject({ asked: true, old: OLD })
    expect(two).toMatchObject({ id: one?.id, next: one?.next, old: OLD })
    // It comes to be after all: each takes it by itself.
    made.keys.splice(0, 1, keyOfToken(one?.next ?? ''))
    for (const name of ['n2', 'n1', 'n2', 'n1', 'n1', 'n2', 'n2'] as const) await made.follow(name)
    expect(await tokenOf(made.n1)).toBe(passwordOf(one?.next ?? ''))
    expect(await tokenOf(made.n2)).toBe(passwordOf(one?.next ?? ''))
    expect([await pairOf(made.n1), await pairOf(made.n2), made.offers.object]).toEqual([
      ...[undefined, undefined, undefined],
    ])
  })

  it('stays as it was where k3s itself says that it did not, and is then kept by nobody', async () => {
    await using made = await Servers.make()
    made.onPut = async () => failed('command', 'HTTP 500')
    const ended = await made.while(made.rotates())
    expect(ended).toMatchObject({ class: 'timed-out', reason: expect.stringMatching(/as it was.*HTTP 500/) })
    expect([await pairOf(made.n1), await pairOf(made.n2), made.offers.object]).toEqual([
      ...[undefined, undefined, undefined],
    ])
    expect([await tokenOf(made.n1), await tokenOf(made.n2)]).toEqual(['old-permanent', 'old-permanent'])
  })

  it('takes away what the old one still opens', async () => {
    await using made = await Servers.make()
    made.onPut = async ({ next }) => {
      made.keys.push(keyOfToken(next))
      return failed('command', 'HTTP 500')
    }
    expect(await made.while(made.rotates())).toMatchObject({ kind: 'done' })
    expect(made.keys).toEqual([keyOfToken(await tokenOf(made.n1))])
  })

  it('is none that another machine sealed to nobody, and nothing is said to be kept then', async () => {
    await using made = await Servers.make()
    const rotating = made.rotates()
    made.handovers.n2 = { ...made.handovers.n2, open: async () => failed('precondition', 'refused (minter)') }
    expect(await made.while(rotating)).toMatchObject({ class: 'timed-out' })
    expect(await pairOf(made.n2)).toBeUndefined()
    expect(made.put).toEqual([])
  })
})

describe('a server that is between two tokens', () => {
  const PAIR = {
    id: 'r1',
    operation: '',
    old: OLD,
    next: 'K10abc::server:new',
    agents: 'agents',
    asked: false,
    untilMs: Date.parse('2026-11-28T12:00:00Z'),
  }
  /** k3s that starts with the new one alone, and a datastore that nobody can ask while it is down. */
  const nowUs = () => Number(process.hrtime.bigint() / 1_000n)
  const down = (words: string, invocation = 'ab'.repeat(16), startedUs = nowUs): Script => [
    [/^systemctl show --property=ActiveState/, FAILS],
    [
      /^systemctl show --property=InvocationID,ExecMainStartTimestampMonotonic k3s\.service$/,
      () => `InvocationID=${invocation}\nExecMainStartTimestampMonotonic=${startedUs()}\n`,
    ],
    [new RegExp(`^journalctl _SYSTEMD_INVOCATION_ID=${invocation} `), words],
    [/^k3s kubectl/, { exitCode: 1, stderr: 'connection refused' }],
  ]
  it.each([
    ['comes up with the other one where k3s says that the token is another', REFUSED, 'exchange', 'new'],
    [
      'is left alone where k3s fails for something else',
      'level=fatal msg="disk full"',
      'wait',
      'old-permanent',
    ],
    ['is left alone where nobody knows which start the words are of', '', 'wait', 'old-permanent'],
  ])('%s', async (_name, words, step, token) => {
    await using made = await Servers.make(words === '' ? down(REFUSED, 'x') : down(words))
    await made.n2.files.put('next-token', JSON.stringify(PAIR))
    made.down = true
    expect(await made.follow()).toMatchObject({ step })
    expect(await tokenOf(made.n2)).toBe(token)
    expect(await made.n2.files.get('agent-token')).toBe(token === 'new' ? agentTokenAfter('new') : 'agents')
    const started = made.n2.system.ran.some(({ line }) => line.startsWith('systemctl start'))
    expect(started).toBe(step === 'exchange')
    expect(await pairOf(made.n2)).toEqual(PAIR)
  })

  it('is left alone where k3s was started before the token was put there', async () => {
    const startedUs = nowUs()
    await using made = await Servers.make(down(REFUSED, 'ab'.repeat(16), () => startedUs))
    await made.n2.files.put('next-token', JSON.stringify(PAIR))
    made.down = true
    expect(await made.follow()).toMatchObject({ step: 'wait' })
    expect(await tokenOf(made.n2)).toBe('old-permanent')
  })

  it('mints for no server until it is over, nor where its k3s takes the old one until it restarts', async () => {
    await using made = await Servers.make()
    const joiner = {
      ...({ operation: 'o9', node: 'n3', role: 'server', address: '10.91.0.12' } as const),
      machineId: undefined,
      lifetimeMs: 600_000,
    }
    const mint = async () => await made.n2.driver.cluster.mint(joiner)
    await made.n2.files.put('next-token', JSON.stringify(PAIR))
    expect(await mint()).toMatchObject({
      class: 'precondition',
      reason: expect.stringContaining('made anew'),
    })
    await made.n2.files.drop('next-token')
    expect(await mint()).toMatchObject({ kind: 'done' })
    made.keys.splice(0, 1, keyOfToken('new'))
    expect(await mint()).toMatchObject({
      class: 'precondition',
      reason: expect.stringContaining('muster restart n2'),
    })
    // It has written the new one down, and takes the old one yet.
    await made.n2.put(`${K3S}/token`, 'K10abc::server:new\n')
    expect(await mint()).toMatchObject({ reason: expect.stringContaining('muster restart n2') })
    await made.n2.files.put('token', 'K10abc::server:new')
    await made.n2.files.put('agent-token', agentTokenAfter('new'))
    await made.restarts('n2')
    const secret = { token: expect.stringMatching(/::server:new$/), agentToken: agentTokenAfter('new') }
    expect(await mint()).toMatchObject({ kind: 'done', value: { secret } })
    await made.n2.put(`${K3S}/agent-token`, 'K10abc::node:agents\n')
    expect(await mint()).toMatchObject({ class: 'precondition' })
  })

  it('gives agents back the old one where the datastore stays under it, also where it was killed while it wrote', async () => {
    await using made = await Servers.make()
    const { files } = made.n2
    await files.put('next-token', JSON.stringify({ ...PAIR, untilMs: 0 }))
    await files.put('agent-token', agentTokenAfter('new'))
    expect(await made.follow()).toMatchObject({ step: 'forget' })
    expect([await tokenOf(made.n2), await files.get('agent-token')]).toEqual(['old-permanent', 'agents'])
    await files.put('next-token', JSON.stringify({ ...PAIR, untilMs: 0 }))
    await files.put('token', PAIR.next)
    await files.put('agent-token', agentTokenAfter('new'))
    expect(await made.follow()).toMatchObject({ step: 'give-back' })
    expect([await tokenOf(made.n2), await files.get('agent-token')]).toEqual(['old-permanent', 'agents'])
  })

  it('puts beside a snapshot the token that the datastore is under, and not the one that k3s was started with', async () => {
    let root = ''
    await using made = await Servers.make([
      [
        /^k3s etcd-snapshot save/,
        ({ line }) => {
          writeFileSync(`${root}${/--etcd-snapshot-dir=(\S+)/.exec(line)?.[1]}/copy`, 'etcd')
          return ''
        },
      ],
    ])
    root = made.n2.root
    await made.n2.files.put('token', 'K10abc::server:new')
    made.keys.splice(0, 1, keyOfToken('new'))
    expect(await made.n2.driver.cluster.snapshot('s1', WAIT)).toMatchObject({ kind: 'done' })
    expect(await made.n2.read('/state/snapshots/s1/token')).toBe('K10abc::server:new')
    expect(await made.n2.read('/state/snapshots/s1/agent-token')).toBe('agents')
    // While both are kept, that of agents too is the one of the datastore's.
    await made.n2.files.put('next-token', JSON.stringify(PAIR))
    for (const [name, under, agents] of [
      ['s3', 'new', agentTokenAfter('new')],
      ['s4', 'old-permanent', 'agents'],
    ] as const) {
      made.keys.splice(0, 1, keyOfToken(under))
      expect(await made.n2.driver.cluster.snapshot(name, WAIT)).toMatchObject({ kind: 'done' })
      expect(await made.n2.read(`/state/snapshots/${name}/agent-token`)).toBe(agents)
    }
    made.keys.splice(0, 1, keyOfToken('third'))
    expect(await made.n2.driver.cluster.snapshot('s2', WAIT)).toMatchObject({ class: 'precondition' })
  })

  it('Q3: makes no snapshot where k3s has written a new token down and takes the old one until it restarts', async () => {
    await using made = await Servers.make([
      [/^k3s etcd-snapshot save/, { exitCode: 1, stderr: 'Unauthorized' }],
    ])
    await made.n2.put(`${K3S}/token`, 'K10abc::server:new\n')
    made.keys.splice(0, 1, keyOfToken('new'))
    expect(await made.n2.driver.cluster.snapshot('s1', WAIT)).toMatchObject({
      class: 'precondition',
      reason: expect.stringContaining('muster restart n2'),
    })
    expect(made.n2.system.ran.some(({ line }) => line.startsWith('k3s etcd-snapshot'))).toBe(false)
  })

  it('forgets what it keeps for a snapshot of another time', async () => {
    await using made = await Servers.make([
      [/^k3s server --cluster-reset/, ''],
      [/--raw \/readyz/, 'ok'],
      [/^systemctl show/, RUNS.replace('active', 'inactive')],
    ])
    await made.n2.files.put('next-token', JSON.stringify(PAIR))
    const files = { 's1-n2-1': 'etcd', token: 'K10abc::server:then', 'agent-token': 'agents of then\n' }
    await made.n2.putSnapshot('s1', files)
    const restoring = { operation: 'op', name: 's1' }
    await made.n2.put('/var/lib/rancher/k3s/server/db/etcd/member/wal', 'x')
    await made.n2.put('/var/lib/rancher/k3s/server/tls/server-ca.crt', AUTHORITY_PEM)
    await made.n2.driver.cluster.restore(restoring, { deadlineMs: 100, everyMs: 2 })
    expect([await tokenOf(made.n2), await pairOf(made.n2)]).toEqual(['then', undefined])
    // Who left knows the one of then.
    expect(await made.n2.files.get('agent-token')).toBe('agents')
    await made.n2.files.drop('agent-token')
    await made.n2.driver.cluster.restore(
      { ...restoring, operation: 'later' },
      { deadlineMs: 100, everyMs: 2 },
    )
    expect(await made.n2.files.get('agent-token')).toBe('agents of then')
  })
})
