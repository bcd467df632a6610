import { mkdirSync, statSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { describe, expect, it } from 'vitest'
import { keyOfToken } from './k3s/token-pair.ts'
import { authorityId } from './node/certificates.ts'
import { AUTHORITY_PEM, type DriverFixture, LEAF_PEM, makeDriver } from './testing/driver-fixture.ts'
import { member } from './testing/made-up-objects.ts'
import { NO_ROTATION } from './testing/made-up-offers.ts'
import type { Script } from './testing/scripted-system.ts'

// What others fell into with these distributions, and what was seen of the real k0s: docs/traps.md tells which is which.

const WAIT = { deadlineMs: 2_000, everyMs: 20 }
const PKI = '/var/lib/k0s/pki'
const AUTHORITY = authorityId(Buffer.from(AUTHORITY_PEM)) ?? ''
const ACTIVE = 'ActiveState=active\nConditionResult=yes\nConditionTimestampMonotonic=5\nResult=success\n'
const NOT_FOUND = { exitCode: 1, stderr: 'Error from server (NotFound): there is none' }

/** A file that a program makes which a script stands in for. */
function writeNow(made: DriverFixture, path: string, text: string): void {
  mkdirSync(dirname(`${made.root}${path}`), { recursive: true })
  writeFileSync(`${made.root}${path}`, text)
}

/** A controller of k0s that all goes well with, and that warns of something with every answer. */
async function controller(): Promise<DriverFixture> {
  let runs = true
  let made!: DriverFixture
  const warned = (stdout: string) => ({ stdout, stderr: 'WARN[0000] something that matters to nobody\n' })
  const script: Script = [
    [/^systemctl show/, () => (runs ? ACTIVE : ACTIVE.replace('=active', '=inactive'))],
    [
      /^systemctl (stop|start|restart)/,
      ({ line }) => {
        runs = !line.startsWith('systemctl stop')
        return ''
      },
    ],
    [/^systemctl/, ''],
    [/^journalctl/, ''],
    [/--raw \/readyz/, warned('ok')],
    [/secrets\?fieldSelector/, warned('{"items":[]}')],
    [/ get --raw/, NOT_FOUND],
    [/ delete --raw/, NOT_FOUND],
    [/^k0s version/, warned('v1.34.3+k0s.0\n')],
    [
      /^k0s kubeconfig admin/,
      warned('apiVersion: v1\nclusters:\n- cluster:\n    server: https://localhost:6443\n'),
    ],
    [/^k0s status/, warned('{"ClusterConfig":{"spec":{"storage":{"etcd":{"peerAddress":"n1.example"}}}}}')],
    [/^k0s reset/, warned('')],
    [/^k0s etcd leave/, warned('')],
    [
      /^k0s restore/,
      () => {
        writeNow(made, `${PKI}/ca.crt`, AUTHORITY_PEM)
        return warned('')
      },
    ],
    [
      /^k0s backup/,
      ({ line }) => {
        const folder = /--save-path=(\S+)/.exec(line)?.[1] ?? ''
        // As k0s does: it makes no folder.
        if (!statSync(`${made.root}${folder}`, { throwIfNoEntry: false }))
          return { exitCode: 1, stderr: `Error: the save-path directory (${folder}) does not exist` }
        writeFileSync(`${made.root}${folder}/k0s_backup_1.tar.gz`, 'archive')
        return warned('')
      },
    ],
  ]
  const members = [
    member('n1'),
    member('n2', { healthy: false, peerUrls: ['https://10.91.0.11:2380'] }),
    member('n3'),
  ]
  const facts = { distribution: 'k0s', units: ['k0s.service'] } as const
  made = await makeDriver(facts, script, members)
  await made.put(`${PKI}/ca.crt`, AUTHORITY_PEM)
  return made
}

describe('k0s', () => {
  it('K10, K11, R4: is asked by commands that do not know of units, and units are started and stopped by systemd', async () => {
    await using made = await controller()
    const { driver, files } = made
    expect(await driver.found('op', WAIT)).toMatchObject({ kind: 'done' })
    await made.put('/var/lib/k0s/etcd/member/wal', 'x')
    await driver.readState()
    expect(await driver.hold(true)).toMatchObject({ kind: 'done' })
    expect(await driver.hold(false)).toMatchObject({ kind: 'done' })
    expect(await driver.restart()).toMatchObject({ kind: 'done' })
    expect(await driver.adopt(AUTHORITY)).toMatchObject({ kind: 'done' })
    expect(await driver.cluster.listTokens()).toMatchObject({ kind: 'done' })
    expect(await driver.cluster.deleteToken('abcdef')).toMatchObject({ kind: 'done' })
    expect(await driver.cluster.rotateTokens(NO_ROTATION, { deadlineMs: 1_000 })).toMatchObject({
      kind: 'done',
    })
    await made.put(`${PKI}/server.crt`, LEAF_PEM)
    expect(await driver.cluster.rotateCertificates(WAIT)).toMatchObject({ kind: 'done' })
    expect(await driver.cluster.kubeconfig('10.91.0.10:6443')).toMatchObject({ kind: 'done' })
    // Nothing takes the member out here, which is told; by then its command was run.
    await driver.cluster.removeNode('n2', { deadlineMs: 50, everyMs: 20 })
    expect(await driver.cluster.snapshot('first', WAIT)).toMatchObject({ kind: 'done' })
    expect(await driver.cluster.restore({ operation: 'r', name: 'first' }, WAIT)).toMatchObject({
      kind: 'done',
    })
    expect(await driver.wipe()).toMatchObject({ kind: 'done' })
    expect(await files.readMark('ours')).toBeUndefined()
    const words = (program: string, count: number) => [
      ...new Set(
        made.system.ran.flatMap(({ line }) =>
          line.startsWith(`${program} `)
            ? [
                line
                  .split(' ')
                  .slice(1, 1 + count)
                  .join(' '),
              ]
            : [],
        ),
      ),
    ]
    expect(words('k0s', 1).toSorted()).toEqual([
      ...['backup', 'etcd', 'kubeconfig', 'kubectl', 'reset', 'restore', 'status', 'version'],
    ])
    expect(words('systemctl', 1).toSorted()).toEqual(['reset-failed', 'show', 'start', 'stop'])
  })

  it('R3: is believed by its answer alone, whatever it warns of beside it', async () => {
    await using made = await controller()
    expect((await made.driver.readState()).installedVersion).toBe('1.34.3')
    expect(await made.driver.cluster.kubeconfig('10.91.0.10:6443')).toEqual({
      kind: 'done',
      value: 'apiVersion: v1\nclusters:\n- cluster:\n    server: https://10.91.0.10:6443\n',
    })
  })

  it('R8: is given a folder for its backup, which root alone may enter, and what fails leaves none', async () => {
    await using made = await controller()
    expect(await made.driver.cluster.snapshot('first', WAIT)).toMatchObject({
      kind: 'done',
      value: { name: 'first', path: '/state/snapshots/first/k0s_backup_1.tar.gz', bytes: 7 },
    })
    for (const folder of ['snapshots', 'snapshots/first'])
      expect(statSync(`${made.root}/state/${folder}`).mode & 0o777).toBe(0o700)
    await using other = await makeDriver({ distribution: 'k0s' }, [
      [/^k0s backup/, { exitCode: 1, stderr: 'Error: no controller' }],
    ])
    expect(await other.driver.cluster.snapshot('first', WAIT)).toMatchObject({ class: 'command' })
    expect(await other.files.list('/state/snapshots')).toEqual([])
  })

  it('K6: is not adopted with a datastore that is not its own, and nothing of it is taken for ours', async () => {
    await using made = await makeDriver({ distribution: 'k0s' }, [])
    await made.put(`${PKI}/ca.crt`, AUTHORITY_PEM)
    await made.put(`${PKI}/ca.key`, 'k')
    expect(await made.driver.adopt(AUTHORITY)).toMatchObject({ class: 'unsupported' })
    await made.put('/var/lib/k0s/db/state.db', 'sqlite')
    expect(await made.driver.adopt(AUTHORITY)).toMatchObject({ class: 'unsupported' })
    for (const mark of ['ours', 'member'] as const) expect(await made.files.readMark(mark)).toBeUndefined()
    expect(await made.files.list('/run/muster-cluster')).toEqual([])
    await made.put('/var/lib/k0s/etcd/member/wal', 'x')
    expect(await made.driver.adopt(AUTHORITY)).toMatchObject({ kind: 'done' })
    expect(made.system.ran).toEqual([])
  })
})

describe('a snapshot', () => {
  it('of k3s has the token of its time beside it, for root alone', async () => {
    let made!: DriverFixture
    made = await makeDriver(
      {},
      [
        [
          /^k3s etcd-snapshot save/,
          ({ line }) => {
            const [, folder = ''] = /--etcd-snapshot-dir=(\S+)/.exec(line) ?? []
            writeFileSync(`${made.root}${folder}/first-n1-1`, 'etcd')
            return ''
          },
        ],
      ],
      [],
      { keys: [keyOfToken('permanent')] },
    )
    await using _made = made
    expect(await made.driver.cluster.snapshot('first', WAIT)).toMatchObject({ class: 'precondition' })
    await made.put('/var/lib/rancher/k3s/server/token', 'K10abc::server:permanent')
    await made.put('/var/lib/rancher/k3s/server/tls/server-ca.crt', AUTHORITY_PEM)
    await made.files.put('agent-token', 'agents')
    expect(await made.driver.cluster.snapshot('first', WAIT)).toMatchObject({ kind: 'done' })
    const folder = '/state/snapshots/first'
    expect(await made.read(`${folder}/token`)).toBe('K10abc::server:permanent')
    expect(statSync(`${made.root}${folder}`).mode & 0o777).toBe(0o700)
    for (const name of ['token', 'agent-token'])
      expect(statSync(`${made.root}${folder}/${name}`).mode & 0o777).toBe(0o600)
    // What tells of it shows no word of it.
    expect(JSON.stringify(await made.driver.cluster.listSnapshots())).not.toContain('permanent')
  })

  it.each(['components', 'kubernetes'] as const)(
    'of %s has the authorities beside it, for root alone, or is none',
    async distribution => {
      let made!: DriverFixture
      made = await makeDriver({ distribution }, [
        [
          /^etcdctl snapshot save/,
          ({ line }) => {
            writeFileSync(`${made.root}${/save (\S+)/.exec(line)?.[1]}`, 'etcd')
            return ''
          },
        ],
      ])
      await using _made = made
      expect(await made.driver.cluster.snapshot('first', WAIT)).toMatchObject({ class: 'precondition' })
      expect(await made.files.list('/state/snapshots')).toEqual([])
      const names = ['ca', 'front-proxy-ca', 'etcd/ca'].flatMap(name => [`${name}.crt`, `${name}.key`])
      for (const name of [...names, 'sa.pub', 'sa.key'])
        await made.put(`/var/lib/kubernetes/pki/${name}`, `of ${name}`)
      expect(await made.driver.cluster.snapshot('first', WAIT)).toMatchObject({ kind: 'done' })
      const folder = '/state/snapshots/first'
      expect(statSync(`${made.root}${folder}`).mode & 0o777).toBe(0o700)
      for (const name of [...names, 'sa.pub', 'sa.key']) {
        expect(await made.read(`${folder}/pki/${name}`)).toBe(`of ${name}`)
        expect(statSync(`${made.root}${folder}/pki/${name}`).mode & 0o777).toBe(0o600)
      }
    },
  )

  it.each(['/var/lib/etcd', '/srv/etcd'])(
    'of components is restored where the configuration has etcd’s data, and that is wiped: %s',
    async etcdDataDir => {
      let made!: DriverFixture
      let runs = true
      const tokens: (string | undefined)[] = []
      made = await makeDriver({ distribution: 'components', units: ['etcd.service'], etcdDataDir }, [
        [/^systemctl show/, () => (runs ? ACTIVE : ACTIVE.replace('=active', '=inactive'))],
        [
          /^systemctl (stop|start)/,
          ({ line }) => {
            runs = !line.startsWith('systemctl stop')
            return ''
          },
        ],
        [/^systemctl/, ''],
        [/^journalctl/, ''],
        [/--raw \/readyz/, 'ok'],
        [
          /^etcdutl snapshot restore/,
          ({ line }) => {
            const folder = /--data-dir=(\S+)/.exec(line)?.[1] ?? ''
            tokens.push(/--initial-cluster-token=(\S+)/.exec(line)?.[1])
            writeNow(made, `${folder}/member/snap/db`, 'restored')
            return ''
          },
        ],
      ])
      await using _made = made
      await made.putSnapshot('first', { 'etcd.db': 'etcd' })
      await made.put(`${etcdDataDir}/member/snap/db`, 'before')
      for (const name of ['ca.crt', 'ca.key'])
        await made.put(`/var/lib/kubernetes/pki/${name}`, AUTHORITY_PEM)
      const restoring = { operation: 'r', name: 'first' }
      expect(await made.driver.cluster.restore(restoring, WAIT)).toMatchObject({ kind: 'done' })
      expect(await made.read(`${etcdDataDir}/member/snap/db`)).toBe('restored')
      expect(await made.read(`${etcdDataDir}/before-restore/snap/db`)).toBe('before')
      // etcd numbers cluster and member by it: a second restore must be another cluster to those that joined after the first.
      expect(await made.driver.cluster.restore({ operation: 'r2', name: 'first' }, WAIT)).toMatchObject({
        kind: 'done',
      })
      expect(tokens).toEqual(['muster-home-r', 'muster-home-r2'])
      expect(await made.driver.wipe()).toMatchObject({ kind: 'done' })
      expect(await made.files.list(etcdDataDir)).not.toContain('member')
    },
  )
})
