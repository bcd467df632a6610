import { existsSync, mkdirSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { chmod, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { ClusterFacts } from './cluster-facts.ts'
import { AUTHORITY_FILES } from './components/pki.ts'
import type { SeenMember } from './etcd/member.ts'
import { authorityIdIn } from './node/certificates.ts'
import { LABEL, readLabel, writeLabel } from './snapshot-label.ts'
import { AUTHORITY_PEM, type DriverFixture, makeDriver } from './testing/driver-fixture.ts'
import { member } from './testing/made-up-objects.ts'
import type { Answer, Ran, Script } from './testing/scripted-system.ts'

const WAIT = { deadlineMs: 400, everyMs: 10 }
const PKI = '/var/lib/kubernetes/pki'
const K3S_TOKEN = '/var/lib/rancher/k3s/server/token'
const AUTHORITY = authorityIdIn(Buffer.from(AUTHORITY_PEM)) ?? ''
const NOT_FOUND: Answer = { exitCode: 1, stderr: 'Error from server (NotFound): not found' }

type Distribution = ClusterFacts['distribution']

const UNITS: Readonly<Record<Distribution, readonly string[]>> = {
  components: ['etcd.service', 'kube-apiserver.service'],
  kubernetes: ['etcd.service', 'kube-apiserver.service', 'kubelet.service'],
  k3s: ['k3s.service'],
  k0s: ['k0s.service'],
}

const authorities = Object.fromEntries(
  AUTHORITY_FILES.map(file => [`pki/${file}`, file.endsWith('.crt') ? AUTHORITY_PEM : `key of ${file}`]),
)

/** What lies in the folder that an operator carried here. */
const SNAPSHOT: Readonly<Record<Distribution, Readonly<Record<string, string>>>> = {
  components: { 'etcd.db': 'datastore', ...authorities },
  kubernetes: { 'etcd.db': 'datastore', ...authorities },
  k3s: { 'first-n9-1': 'datastore', token: 'K10abc::server:then\n', 'agent-token': 'agents' },
  k0s: { 'k0s_backup_1.tar.gz': 'archive' },
}

/** A machine that was installed anew: its programs do what they are seen to do, on nothing but files. */
class FreshMachine implements AsyncDisposable {
  readonly made: DriverFixture
  #runs = false
  #resets = 0
  /** What is done besides when a line is run, such as to kill whoever runs it. */
  onRun: (ran: Ran) => void = () => {}
  /** What fails, after it did what it does. */
  fails: RegExp | undefined

  readonly members: SeenMember[]

  private constructor(made: DriverFixture, members: SeenMember[]) {
    this.made = made
    this.members = members
  }

  static async start(distribution: Distribution, facts: Partial<ClusterFacts> = {}): Promise<FreshMachine> {
    let machine!: FreshMachine
    const script: Script = [
      [
        /./,
        ran => {
          machine.onRun(ran)
          const answer = machine.#answer(ran)
          return machine.fails?.test(ran.line) ? { exitCode: 1, stderr: 'no room' } : answer
        },
      ],
    ]
    const members = [member('n1')]
    machine = new FreshMachine(
      await makeDriver({ distribution, units: UNITS[distribution], ...facts }, script, members),
      members,
    )
    await machine.made.putSnapshot('first', SNAPSHOT[distribution])
    return machine
  }

  #answer({ line }: Ran): Answer {
    if (/^systemctl (stop|start)/.test(line)) this.#runs = line.startsWith('systemctl start')
    const state = this.#runs ? 'active' : 'inactive'
    if (/^systemctl show/.test(line))
      return `ActiveState=${state}\nConditionResult=yes\nConditionTimestampMonotonic=5\nResult=success\n`
    if (/^(systemctl|journalctl|chown|chmod) /.test(line)) return ''
    if (/^kube-apiserver --version/.test(line)) return 'Kubernetes v1.34.3\n'
    if (/^k[03]s (--)?version/.test(line)) return 'v1.34.3\n'
    if (/--raw \/readyz/.test(line)) return this.#runs ? 'ok' : { exitCode: 1, stderr: 'refused' }
    if (/ apply --server-side/.test(line)) return '{"kind":"List","items":[]}'
    if (/^kubeadm init phase kubeconfig super-admin/.test(line))
      this.write('/var/lib/kubernetes/super-admin.conf', 'x')
    if (/^kubeadm/.test(line)) return ''
    if (/^etcdutl snapshot restore/.test(line))
      this.write(`${/--data-dir=(\S+)/.exec(line)?.[1]}/member/snap/db`, 'restored')
    if (/^k3s server --cluster-reset/.test(line)) {
      // As k3s does, whatever --token-file names.
      if (!existsSync(`${this.made.root}${K3S_TOKEN}`))
        return {
          exitCode: 1,
          stderr: `${K3S_TOKEN} does not exist, please pass --token to complete the restoration`,
        }
      const etcd = `${this.made.root}/var/lib/rancher/k3s/server/db/etcd`
      this.#resets += 1
      if (existsSync(etcd)) renameSync(etcd, `${etcd}-old-${1_700_000_000 + this.#resets}`)
      this.write('/var/lib/rancher/k3s/server/db/etcd/member/wal', 'restored')
      this.write('/var/lib/rancher/k3s/server/tls/server-ca.crt', AUTHORITY_PEM)
    }
    if (/^k0s status/.test(line))
      return JSON.stringify({ ClusterConfig: { spec: { storage: { etcd: { peerAddress: '10.91.0.10' } } } } })
    if (/^k0s restore/.test(line)) {
      this.write('/var/lib/k0s/etcd/member/wal', 'restored')
      this.write('/var/lib/k0s/pki/ca.crt', AUTHORITY_PEM)
      this.write('/var/lib/k0s/pki/ca.key', 'key')
    }
    if (/secrets\?fieldSelector/.test(line)) return '{"items":[]}'
    if (/create --raw/.test(line)) {
      this.write('/var/lib/kubernetes/kubelet.conf', 'x')
      this.write('/var/lib/kubelet/pki/kubelet-client-current.pem', 'x')
      return '{}'
    }
    if (/ delete --raw/.test(line)) return NOT_FOUND
    return ''
  }

  write(path: string, text: string): void {
    mkdirSync(dirname(`${this.made.root}${path}`), { recursive: true })
    writeFileSync(`${this.made.root}${path}`, text)
  }

  get runs(): boolean {
    return this.#runs
  }

  get lines(): readonly string[] {
    return this.made.system.ran.map(({ line }) => line)
  }

  async restore(operation = 'op', authority?: string) {
    const { cluster } = this.made.driver
    return await cluster.restore({ operation, name: 'first', authority }, WAIT)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.made[Symbol.asyncDispose]()
  }
}

describe('a snapshot on a machine that was installed anew', () => {
  it.each(['components', 'kubernetes', 'k3s', 'k0s'] as const)(
    'of %s makes it the first server of the cluster that there was',
    async distribution => {
      await using machine = await FreshMachine.start(distribution)
      const { driver, files } = machine.made
      expect(await driver.readState()).toMatchObject({ data: { kind: 'none' }, adopted: undefined })
      expect(await driver.cluster.listSnapshots()).toMatchObject({ value: [{ name: 'first' }] })
      expect(await machine.restore()).toEqual({ kind: 'done', value: { authority: AUTHORITY } })
      expect(await driver.readState()).toMatchObject({
        data: { kind: 'cluster', server: true, authority: AUTHORITY },
        adopted: AUTHORITY,
        unfinished: undefined,
      })
      // Without its datastore it never starts again, as every member.
      expect(await files.readMark('member')).toBe('')
    },
  )

  it('R11: of k0s is where the others look for it, though it was made on another machine', async () => {
    await using machine = await FreshMachine.start('k0s')
    machine.members[0] = member('n1', { peerUrls: ['https://10.91.0.11:2380'] })
    expect(await machine.restore()).toMatchObject({ kind: 'done' })
    expect(machine.members).toMatchObject([{ name: 'n1', peerUrls: ['https://10.91.0.10:2380'] }])
  })

  it('of components puts the authorities in place before anything is made by them', async () => {
    await using machine = await FreshMachine.start('components')
    const { made } = machine
    const seen: string[] = []
    machine.onRun = ({ line }) => {
      if (line.startsWith('kubeadm init phase certs'))
        for (const file of AUTHORITY_FILES) {
          const { mode } = statSync(`${made.root}${PKI}/${file}`)
          seen.push(`${file} ${(mode & 0o777).toString(8)}`)
        }
    }
    // What lies there of another time is signed by nobody any more.
    await made.put(`${PKI}/apiserver.crt`, 'old')
    expect(await machine.restore()).toMatchObject({ kind: 'done' })
    expect(seen).toEqual(AUTHORITY_FILES.map(file => `${file} ${file.endsWith('.key') ? '600' : '644'}`))
    expect(await made.files.list(PKI)).not.toContain('apiserver.crt')
    for (const file of AUTHORITY_FILES)
      expect(await made.read(`${PKI}/${file}`)).toBe(authorities[`pki/${file}`])
    expect(await made.files.get('start.env')).toContain('ETCD_INITIAL_CLUSTER_STATE=existing')
    expect(await made.files.list('/var/lib/kubernetes')).not.toContain('super-admin.conf')
    const order = machine.lines.map(line => line.split(' ').slice(0, 3).join(' '))
    expect(order.indexOf('etcdutl snapshot restore')).toBeGreaterThan(order.lastIndexOf('kubeadm init phase'))
    expect(machine.lines.join()).not.toContain('key of')
  })

  it('of nixpkgs’ module lets its own kubelet join anew, by a token that is gone afterwards', async () => {
    await using machine = await FreshMachine.start('kubernetes')
    expect(await machine.restore()).toMatchObject({ kind: 'done' })
    expect(await machine.made.files.get('bootstrap-kubelet.conf')).toContain('spent0')
    expect(machine.lines.some(line => / delete --raw .*bootstrap-token-/.test(line))).toBe(true)
    expect(machine.lines).toContain('chown -R etcd:etcd /var/lib/etcd/member')
  })

  it('Q4: of k3s brings both tokens back, and forgets the password of the node that had its name', async () => {
    await using machine = await FreshMachine.start('k3s')
    // k3s says so until somebody has taken the password away.
    const { made } = machine
    const { files } = made
    expect(await machine.restore()).toMatchObject({ kind: 'done' })
    expect(statSync(`${made.root}${K3S_TOKEN}`).mode & 0o777).toBe(0o600)
    expect([await files.get('token'), await files.get('agent-token')]).toEqual([
      'K10abc::server:then',
      'agents',
    ])
    const reset = machine.lines.findIndex(line => line.startsWith('k3s server --cluster-reset'))
    const forgot = machine.lines.findIndex(line => / delete --raw .*\/n1\.node-password\.k3s/.test(line))
    expect(forgot).toBeGreaterThan(reset)
    expect(await files.get('start.env')).toBe('K3S_URL=https://10.91.0.11:6443\n')
  })

  it.each(['components', 'k3s', 'k0s'] as const)(
    'of %s comes to its good end after a kill at any of its steps',
    async distribution => {
      let steps = 1
      for (let killed = 0; killed < steps; killed += 1) {
        await using machine = await FreshMachine.start(distribution)
        let step = 0
        machine.onRun = () => {
          step += 1
          if (step === killed + 1) throw new Error('killed')
        }
        await expect(machine.restore(), `step ${killed}`).rejects.toThrow('killed')
        const line = machine.lines.at(-1)
        expect(await machine.restore(), line).toMatchObject({ kind: 'done' })
        expect(await machine.made.driver.readState(), line).toMatchObject({
          adopted: AUTHORITY,
          unfinished: undefined,
        })
        // Told again it is not done again: what was done in Kubernetes since stays.
        const before = machine.lines.length
        expect(await machine.restore(), line).toMatchObject({ kind: 'done' })
        expect(machine.lines.length, line).toBe(before)
        if (killed > 0) continue
        await using whole = await FreshMachine.start(distribution)
        await whole.restore()
        steps = whole.lines.length
      }
      expect(steps).toBeGreaterThan(5)
    },
  )

  it('leaves what is known for unfinished when it fails, and can be tried again once that is wiped', async () => {
    await using machine = await FreshMachine.start('components')
    machine.onRun = ({ line }) => {
      if (line.startsWith('kubeadm init phase kubeconfig')) throw new Error('no room')
    }
    await expect(machine.restore()).rejects.toThrow('no room')
    machine.onRun = () => {}
    const { driver } = machine.made
    expect(await driver.readState()).toMatchObject({ unfinished: 'op' })
    expect(await machine.restore('op-2')).toMatchObject({ class: 'data-present' })
    expect(await driver.wipe()).toMatchObject({ kind: 'done' })
    expect(await machine.restore('op-2')).toMatchObject({ kind: 'done' })
  })
})

describe('a snapshot on a server', () => {
  it.each([
    ['k0s', '/var/lib/k0s/etcd', '/var/lib/k0s/etcd.before-restore', 'k0s restore'],
    ['components', '/var/lib/etcd/member', '/var/lib/etcd/before-restore', 'systemctl start'],
  ] as const)(
    'of %s keeps what was there, however often it is cut off',
    async (distribution, data, aside, at) => {
      await using machine = await FreshMachine.start(distribution)
      await machine.restore('first-time')
      machine.write(`${data}/member/wal`, 'of before')
      for (let cut = 0; cut < 3; cut += 1) {
        machine.onRun = ({ line }) => {
          if (!line.startsWith(at)) return
          machine.write(`${data}/member/wal`, 'half made')
          throw new Error('killed')
        }
        await expect(machine.restore('later')).rejects.toThrow('killed')
      }
      machine.onRun = () => {}
      expect(await machine.restore('later')).toMatchObject({ kind: 'done' })
      expect(await machine.made.read(`${aside}/member/wal`)).toBe('of before')
    },
  )
})

describe('a restore that comes to nothing on a server', () => {
  const DATA = {
    components: '/var/lib/etcd/member/snap/db',
    kubernetes: '/var/lib/etcd/member/snap/db',
    k3s: '/var/lib/rancher/k3s/server/db/etcd/member/wal',
    k0s: '/var/lib/k0s/etcd/member/wal',
  } as const

  /** With data of its own, which is newer than its snapshot. */
  async function serving(distribution: Distribution): Promise<FreshMachine> {
    const machine = await FreshMachine.start(distribution)
    expect(await machine.restore('first-time')).toMatchObject({ kind: 'done' })
    machine.write(DATA[distribution], 'of before')
    return machine
  }

  const secrets = async ({ made: { files } }: FreshMachine) =>
    await Promise.all((['token', 'agent-token', 'next-token', 'start.env'] as const).map(files.get))

  it.each([
    ['components', /^etcdutl snapshot restore/],
    ['kubernetes', /^etcdutl snapshot restore/],
    ['kubernetes', /^chown/],
    ['k3s', /^k3s server --cluster-reset/],
    ['k0s', /^k0s restore/],
    ['k3s', /^systemctl stop/],
  ] as const)('starts %s again with what it had, and says so (%s)', async (distribution, fails) => {
    await using machine = await serving(distribution)
    await machine.made.files.put('token', 'K10abc::server:newer')
    const had = await secrets(machine)
    machine.fails = fails
    for (const operation of ['later', 'later', 'latest']) {
      expect(await machine.restore(operation)).toMatchObject({
        class: 'command',
        reason: expect.stringMatching(/no room.*; this server was started again with what it had$/s),
      })
      expect(machine.runs).toBe(true)
      expect(await machine.made.read(DATA[distribution])).toBe('of before')
      expect(await secrets(machine)).toEqual(had)
    }
    machine.fails = undefined
    expect(await machine.restore('at-last')).toMatchObject({ kind: 'done' })
    expect(await machine.made.read(DATA[distribution])).toBe('restored')
  })

  it.each(['components', 'k3s', 'k0s'] as const)(
    'starts %s again also where the agent itself fails, and gives up in the end',
    async distribution => {
      const whole = await serving(distribution)
      const first = whole.lines.length
      await whole.restore('later')
      const lines = whole.lines.slice(first)
      const started = lines.findLastIndex(line => line.startsWith('systemctl start'))
      await whole[Symbol.asyncDispose]()
      const stopped = lines.findIndex(line => line.startsWith('systemctl stop'))
      for (let at = stopped; at < started; at += 1) {
        await using machine = await serving(distribution)
        const from = machine.lines.length
        machine.onRun = () => {
          if (machine.lines.length === from + at + 1) throw new Error('a bug')
        }
        await expect(machine.restore('later'), lines[at]).rejects.toThrow('a bug')
        // What comes after the snapshot is in place is its start.
        if ((await machine.made.files.readMark('restored')) === 'later') continue
        expect(machine.runs, lines[at]).toBe(true)
        expect(await machine.made.read(DATA[distribution]), lines[at]).toBe('of before')
      }
    },
  )

  it('names what is to be done where it cannot be started again, and leaves one stopped that was to stay so', async () => {
    await using machine = await serving('components')
    machine.fails = /^etcdutl snapshot restore|^systemctl start/
    expect(await machine.restore('later')).toMatchObject({
      reason: expect.stringMatching(/cannot be started again \(.*no room.*\): `muster restart n1`$/s),
    })
    await machine.made.files.mark('stood-down')
    const before = machine.lines.length
    expect(await machine.restore('later')).toMatchObject({
      reason: expect.stringMatching(/stays stopped as it was before$/),
    })
    expect(machine.lines.slice(before).filter(line => line.startsWith('systemctl start'))).toEqual([])
  })

  it('says that the snapshot is in place where only the start fails, and what is to be done', async () => {
    await using machine = await serving('components')
    machine.fails = /--raw \/readyz/
    expect(await machine.restore('later')).toMatchObject({
      class: 'timed-out',
      reason: expect.stringContaining('`muster cluster restore home first --on n1` was given again'),
    })
    expect(await machine.made.read(DATA.components)).toBe('restored')
  })
})

describe('a snapshot is refused', () => {
  const label = (change: object = {}) =>
    writeLabel({
      cluster: 'home',
      distribution: 'components',
      version: '1.34.3',
      authority: AUTHORITY,
      node: 'n9',
      made: '2026-11-28T12:00:00Z',
      files: new Map(Object.entries(SNAPSHOT.components).map(([path, text]) => [path, text.length])),
      ...change,
    })
  const folder = '/state/snapshots/first'

  it.each<[string, Distribution, string, string]>([
    ['a key of an authority', 'components', 'pki/ca.key', 'pki/ca.key'],
    ['all authorities', 'kubernetes', 'pki', AUTHORITY_FILES.map(file => `pki/${file}`).join(', ')],
    ['the token of its time', 'k3s', 'token', 'token'],
    ['the token of agents', 'k3s', 'agent-token', 'agent-token'],
  ])('without %s, which is named', async (_, distribution, path, named) => {
    await using machine = await FreshMachine.start(distribution)
    await rm(`${machine.made.root}${folder}/${path}`, { recursive: true })
    expect(await machine.restore()).toMatchObject({
      class: 'precondition',
      reason: expect.stringMatching(`^snapshot first: ${named} (is|are) not in ${folder}: `),
    })
    expect(await machine.made.driver.readState()).toMatchObject({ unfinished: undefined })
  })

  it.each([
    ['of another cluster by its name', label({ cluster: 'other' }), /it is of cluster other/],
    ['of another distribution', label({ distribution: 'k3s' }), /it is of k3s, this machine runs components/],
    ['that was cut off on its way', label({ files: new Map([['etcd.db', 99]]) }), /has 9 bytes, not 99/],
    ['of which a file is missing', label({ files: new Map([['gone', 1]]) }), /gone is not in/],
    ['of a newer minor', label({ version: '1.35.0' }), /1\.34\.3 here is older.*a revision with 1\.35 first/],
    ['of two minors before', label({ version: '1.32.9' }), /would leave a minor out.*1\.32 or 1\.33 first/],
    ['whose label says nothing', '{}', /snapshot\.json: says nothing/],
  ])('%s', async (_, text, reason) => {
    await using machine = await FreshMachine.start('components')
    await machine.made.put(`${folder}/${LABEL}`, text)
    expect(await machine.restore()).toMatchObject({ reason: expect.stringMatching(reason) })
    expect(machine.lines.filter(line => line.startsWith('etcdutl'))).toEqual([])
  })

  it('of another authority than the cluster has, with a label or without', async () => {
    await using machine = await FreshMachine.start('components')
    const refused = { class: 'precondition', reason: expect.stringContaining('it is of another cluster') }
    expect(await machine.restore('op', 'f'.repeat(64))).toMatchObject(refused)
    expect(await machine.restore('op', AUTHORITY)).toMatchObject({ kind: 'done' })
    await using packaged = await FreshMachine.start('k0s')
    const files = new Map([['k0s_backup_1.tar.gz', 'archive'.length]])
    await packaged.made.put(`${folder}/${LABEL}`, label({ distribution: 'k0s', files }))
    expect(await packaged.restore('op', 'f'.repeat(64))).toMatchObject(refused)
    expect(await packaged.restore('op', AUTHORITY)).toMatchObject({ kind: 'done' })
  })

  it('that others than root may read, with the command that mends it', async () => {
    await using machine = await FreshMachine.start('components')
    await chmod(`${machine.made.root}${folder}`, 0o750)
    expect(await machine.restore()).toMatchObject({
      class: 'precondition',
      reason: expect.stringContaining(`chmod -R go= ${folder}`),
    })
    await chmod(`${machine.made.root}${folder}`, 0o700)
    expect(await machine.restore()).toMatchObject({ kind: 'done' })
  })

  it('of another authority than the data that lies there, which stays', async () => {
    await using machine = await FreshMachine.start('k3s')
    await machine.made.put('/var/lib/rancher/k3s/server/db/etcd/member/wal', 'own')
    await machine.made.put('/var/lib/rancher/k3s/server/tls/server-ca.crt', AUTHORITY_PEM)
    const files = new Map(Object.entries(SNAPSHOT.k3s).map(([path, text]) => [path, text.length]))
    await machine.made.put(
      `${folder}/${LABEL}`,
      label({ distribution: 'k3s', authority: 'f'.repeat(64), files }),
    )
    expect(await machine.restore()).toMatchObject({
      reason: expect.stringContaining('it is of another cluster'),
    })
    expect(await machine.made.read('/var/lib/rancher/k3s/server/db/etcd/member/wal')).toBe('own')
  })
})

it('a snapshot says of what cluster, version and node it is, and what belongs to it', async () => {
  let made!: DriverFixture
  made = await makeDriver({ distribution: 'components' }, [
    [
      /^etcdctl snapshot save/,
      ({ line }) => {
        writeFileSync(`${made.root}${/save (\S+)/.exec(line)?.[1]}`, 'etcd')
        return ''
      },
    ],
    [/--raw \/version/, '{"gitVersion":"v1.34.3"}'],
  ])
  await using _made = made
  for (const file of AUTHORITY_FILES)
    await made.put(`${PKI}/${file}`, file === 'ca.crt' ? AUTHORITY_PEM : 'x')
  expect(await made.driver.cluster.snapshot('first', WAIT)).toMatchObject({ kind: 'done' })
  const text = await made.read(`/state/snapshots/first/${LABEL}`)
  const { files, ...said } = readLabel(text) ?? { files: new Map() }
  expect(said).toEqual({
    cluster: 'home',
    distribution: 'components',
    version: '1.34.3',
    authority: AUTHORITY,
    node: 'n1',
    made: '2026-11-28T12:00:00.000Z',
  })
  expect([...files.keys()].toSorted()).toEqual(
    ['etcd.db', ...AUTHORITY_FILES.map(file => `pki/${file}`)].toSorted(),
  )
  expect(files.get('etcd.db')).toBe(4)
})
