import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { describe, expect, it } from 'vitest'
import {
  AUTHORITY_PEM,
  type DriverFixture,
  ENDED_PEM,
  LEAF_PEM,
  makeDriver,
} from './testing/driver-fixture.ts'
import { member } from './testing/made-up-objects.ts'
import { NO_ROTATION } from './testing/made-up-offers.ts'
import type { Script } from './testing/scripted-system.ts'

const WAIT = { deadlineMs: 2_000, everyMs: 20 }
const K3S = '/var/lib/rancher/k3s'
const K0S = '/var/lib/k0s'
const P = '/var/lib/kubernetes'
const ACTIVE = 'ActiveState=active\nConditionResult=yes\nConditionTimestampMonotonic=5\nResult=success\n'
const STOPPED = ACTIVE.replace('ActiveState=active', 'ActiveState=inactive')

interface Listed {
  readonly id: string
  readonly expiration?: string
}

/** Bootstrap tokens as the API lists them; what is deleted is listed no more, unless it `stays`. */
function tokensOf(tokens: Listed[], stays = ''): Script {
  const asSecret = ({ id, expiration }: Listed) => ({
    metadata: { name: `bootstrap-token-${id}` },
    data: Object.fromEntries(
      Object.entries({ 'token-id': id, ...(expiration === undefined ? {} : { expiration }) }).map(
        ([key, value]) => [key, Buffer.from(value).toString('base64')],
      ),
    ),
  })
  return [
    [/secrets\?fieldSelector/, () => JSON.stringify({ items: tokens.map(asSecret) })],
    [
      /delete --raw \S+bootstrap-token-/,
      ({ line }) => {
        const id = /bootstrap-token-(\w+)/.exec(line)?.[1]
        const index = tokens.findIndex(each => each.id === id && id !== stays)
        if (index >= 0) tokens.splice(index, 1)
        return '{}'
      },
    ],
  ]
}
const SOON = '2026-11-28T12:10:00Z'

/** systemd that knows what runs, and an API that is ready while something does. */
function machine(state: { runs: boolean }): Script {
  return [
    [/^systemctl show/, () => (state.runs ? ACTIVE : STOPPED)],
    [
      /^systemctl stop/,
      () => {
        state.runs = false
        return ''
      },
    ],
    [
      /^systemctl start/,
      () => {
        state.runs = true
        return ''
      },
    ],
    [/^systemctl/, ''],
    [/^journalctl/, ''],
    [/--raw \/readyz/, () => (state.runs ? 'ok' : { exitCode: 1, stderr: 'connection refused' })],
  ]
}

/** Writes at once, as a program does that a script stands in for. */
function writeNow(made: DriverFixture, path: string, text: string): void {
  mkdirSync(dirname(`${made.root}${path}`), { recursive: true })
  writeFileSync(`${made.root}${path}`, text)
}

describe('tokens that are made anew', () => {
  it.each(['k0s', 'components', 'kubernetes'] as const)(
    '%s: whatever is out is gone when a listing shows it no more, and not before',
    async distribution => {
      const tokens: Listed[] = [{ id: 'aaaaaa', expiration: SOON }, { id: 'bbbbbb' }]
      await using made = await makeDriver({ distribution }, tokensOf(tokens))
      expect(await made.driver.cluster.rotateTokens(NO_ROTATION, WAIT)).toMatchObject({ kind: 'done' })
      expect(tokens).toEqual([])
      await using stuck = await makeDriver({ distribution }, tokensOf([{ id: 'aaaaaa' }], 'aaaaaa'))
      expect(await stuck.driver.cluster.rotateTokens(NO_ROTATION, WAIT)).toMatchObject({
        kind: 'failed',
        reason: 'token aaaaaa is still listed after it was deleted',
      })
    },
  )
})

describe('certificates that are made anew', () => {
  it('k0s: those of this controller, while it is stopped; no authority and no other key is touched', async () => {
    const state = { runs: true }
    await using made = await makeDriver({ distribution: 'k0s', units: ['k0s.service'] }, machine(state), [
      member('n1'),
    ])
    const pki = `${K0S}/pki`
    for (const name of ['ca', 'front-proxy-ca', 'etcd/ca'])
      await made.put(`${pki}/${name}.crt`, AUTHORITY_PEM)
    for (const name of ['server', 'admin', 'etcd/peer']) await made.put(`${pki}/${name}.crt`, LEAF_PEM)
    for (const name of ['ca', 'sa', 'server', 'etcd/ca', 'etcd/peer'])
      await made.put(`${pki}/${name}.key`, 'k')
    expect(await made.driver.cluster.rotateCertificates(WAIT)).toMatchObject({ kind: 'done' })
    expect(await made.files.list(pki)).toEqual(['ca.crt', 'ca.key', 'etcd', 'front-proxy-ca.crt', 'sa.key'])
    expect(await made.files.list(`${pki}/etcd`)).toEqual(['ca.crt', 'ca.key'])
    const lines = made.system.ran.map(({ line }) => line)
    const [stop, start] = ['stop', 'start'].map(word =>
      lines.findIndex(line => line.startsWith(`systemctl ${word}`)),
    )
    expect(stop).toBeGreaterThanOrEqual(0)
    expect(start).toBeGreaterThan(stop ?? 0)
    expect(state.runs).toBe(true)
  })

  it.each(['components', 'kubernetes'] as const)(
    '%s: kubeadm makes what was taken away, with the authorities that were there',
    async distribution => {
      const units = ['etcd.service', 'kube-apiserver.service']
      const state = { runs: true }
      const seen: string[] = []
      let made!: DriverFixture
      const script: Script = [
        [/^kube-apiserver --version/, 'Kubernetes v1.34.3\n'],
        [
          /^kubeadm init phase/,
          ({ line }) => {
            expect(state.runs).toBe(false)
            seen.push(/phase (\S+ \S+)/.exec(line)?.[1] ?? '')
            writeNow(made, `${P}/pki/apiserver.crt`, LEAF_PEM)
            return ''
          },
        ],
        [/^(chmod|chown) /, ''],
        ...machine(state),
      ]
      made = await makeDriver({ distribution, units }, script, [member('n1')])
      await using _made = made
      for (const name of ['ca.crt', 'etcd/ca.crt']) await made.put(`${P}/pki/${name}`, AUTHORITY_PEM)
      for (const name of ['apiserver', 'etcd/server']) {
        await made.put(`${P}/pki/${name}.crt`, LEAF_PEM)
        await made.put(`${P}/pki/${name}.key`, 'old')
      }
      for (const name of ['ca.key', 'sa.key', 'sa.pub']) await made.put(`${P}/pki/${name}`, 'kept')
      for (const name of ['admin', 'kubelet']) await made.put(`${P}/${name}.conf`, 'x')
      expect(await made.driver.cluster.rotateCertificates(WAIT)).toMatchObject({ kind: 'done' })
      expect(seen).toEqual([
        ...['certs all', 'kubeconfig admin', 'kubeconfig controller-manager', 'kubeconfig scheduler'],
      ])
      expect(await made.files.list(`${P}/pki`)).toEqual([
        ...['apiserver.crt', 'ca.crt', 'ca.key', 'etcd', 'sa.key', 'sa.pub'],
      ])
      expect(await made.files.list(`${P}/pki/etcd`)).toEqual(['ca.crt'])
      // The kubelet's is its own to renew.
      expect(await made.files.list(P)).toEqual(['kubelet.conf', 'pki'])
      expect(state.runs).toBe(true)
    },
  )

  it('k3s: by its own command while it is stopped, and the server is started though that fails', async () => {
    const state = { runs: true }
    let fails = false
    const rotate: Script = [
      [
        /^k3s certificate rotate$/,
        () => {
          expect(state.runs).toBe(false)
          return fails ? { exitCode: 1, stderr: 'no' } : ''
        },
      ],
    ]
    await using made = await makeDriver({}, [...rotate, ...machine(state)], [member('n1')])
    await made.put(`${K3S}/server/tls/server-ca.crt`, AUTHORITY_PEM)
    expect(await made.driver.cluster.rotateCertificates(WAIT)).toMatchObject({ class: 'command' })
    await made.put(`${K3S}/server/tls/serving-kube-apiserver.crt`, LEAF_PEM)
    expect(await made.driver.cluster.rotateCertificates(WAIT)).toMatchObject({ kind: 'done' })
    fails = true
    expect(await made.driver.cluster.rotateCertificates(WAIT)).toMatchObject({ kind: 'failed' })
    expect(state.runs).toBe(true)
  })
})

describe('k3s: a worker’s certificates', () => {
  const agent = `${K3S}/agent`
  const own = [`${agent}/client-kubelet.crt`, `${agent}/serving-kubelet.crt`] as const
  /** k3s, whose start fetches certificates; `shown`: what lay there to be shown to the server. */
  async function worker(fetched: string) {
    const state = { runs: true, shown: '' }
    const script = machine(state).map(([pattern, answer]): Script[number] => {
      if (!pattern.source.includes('systemctl start')) return [pattern, answer]
      const start = () => {
        state.runs = true
        state.shown = readFileSync(`${made.root}${own[0]}`, 'utf8')
        for (const path of own) writeNow(made, path, fetched)
        return ''
      }
      return [pattern, start]
    })
    const made = await makeDriver({ role: 'worker', nodeName: 'n4' }, script)
    return { made, state }
  }
  const renew = async (made: DriverFixture) => await made.driver.renewByRestart?.(WAIT)
  // Another text is another certificate, as far as it is compared.
  const NEXT_PEM = `${LEAF_PEM}\n`

  it('are fetched by a start that still has the old ones to show: nothing is taken away before', async () => {
    const { made, state } = await worker(NEXT_PEM)
    await using _ = made
    for (const path of own) await made.put(path, LEAF_PEM)
    expect(await renew(made)).toMatchObject({ kind: 'done' })
    expect(state).toEqual({ runs: true, shown: LEAF_PEM })
    expect(made.system.ran.filter(({ line }) => line.includes('k3s certificate'))).toEqual([])
  })

  it('are not called new while those of before lie there', async () => {
    const { made } = await worker(LEAF_PEM)
    await using _ = made
    for (const path of own) await made.put(path, LEAF_PEM)
    expect(await renew(made)).toMatchObject({ class: 'timed-out' })
  })

  it('are not asked for, and nothing is stopped, where the old one has ended or is not there', async () => {
    const { made, state } = await worker(NEXT_PEM)
    await using _ = made
    expect(await renew(made)).toMatchObject({ class: 'unreadable' })
    await made.put(own[0], ENDED_PEM)
    expect(await renew(made)).toMatchObject({
      class: 'precondition',
      reason: expect.stringMatching(/ended at 2026-11-2.*let it leave, then join again$/),
    })
    expect(state.runs).toBe(true)
    expect(made.system.ran.filter(({ line }) => /^systemctl (stop|start)/.test(line))).toEqual([])
  })

  it('are its own business on a server, and on workers of other distributions', async () => {
    await using server = await makeDriver({ role: 'server' }, [])
    await using k0s = await makeDriver({ distribution: 'k0s', role: 'worker', nodeName: 'n4' }, [])
    expect([server.driver.renewByRestart, k0s.driver.renewByRestart]).toEqual([undefined, undefined])
  })
})

describe('the ends of certificates', () => {
  const paths = async (made: DriverFixture) => {
    const ends = await made.driver.certificates()
    if (ends.kind === 'failed') throw new Error(ends.reason)
    return ends.value.map(({ path, authority }) => `${path}${authority ? ' authority' : ''}`).toSorted()
  }
  const kubeconfig = `users:\n- name: a\n  user:\n    client-certificate-data: ${Buffer.from(LEAF_PEM).toString('base64')}\n`

  it.each(['components', 'kubernetes'] as const)(
    '%s: of all that the parts show to each other, in kubeconfigs too, and not of those that a kubelet had before',
    async distribution => {
      await using made = await makeDriver({ distribution }, [])
      for (const path of ['pki/ca.crt', 'pki/etcd/ca.crt']) await made.put(`${P}/${path}`, AUTHORITY_PEM)
      for (const path of ['pki/apiserver.crt', 'pki/etcd/peer.crt']) await made.put(`${P}/${path}`, LEAF_PEM)
      for (const name of ['admin', 'controller-manager']) await made.put(`${P}/${name}.conf`, kubeconfig)
      // It names a file, and holds none.
      await made.put(`${P}/kubelet.conf`, 'users:\n- user:\n    client-certificate: /var/lib/kubelet/x.pem\n')
      const kubelet = '/var/lib/kubelet/pki'
      for (const name of ['client-current', 'client-2025-01-01-00-00-00', 'server-2025-01-01-00-00-00'])
        await made.put(`${kubelet}/kubelet-${name}.pem`, `${LEAF_PEM}-----BEGIN EC PRIVATE KEY-----\nx\n`)
      expect(await paths(made)).toEqual([
        `${kubelet}/kubelet-client-current.pem`,
        `${P}/admin.conf`,
        `${P}/controller-manager.conf`,
        `${P}/pki/apiserver.crt`,
        `${P}/pki/ca.crt authority`,
        `${P}/pki/etcd/ca.crt authority`,
        `${P}/pki/etcd/peer.crt`,
      ])
      await made.put(`${P}/scheduler.conf`, 'users:\n- user:\n    client-certificate-data: QUJD\n')
      expect(await made.driver.certificates()).toMatchObject({ class: 'unreadable' })
    },
  )

  it('k0s and k3s: of server, datastore and kubelet, and on workers too', async () => {
    await using k0s = await makeDriver({ distribution: 'k0s', role: 'server+worker' }, [])
    await k0s.put(`${K0S}/pki/ca.crt`, AUTHORITY_PEM)
    await k0s.put(`${K0S}/pki/etcd/peer.crt`, LEAF_PEM)
    await k0s.put(`${K0S}/kubelet/pki/kubelet-client-current.pem`, LEAF_PEM)
    expect(await paths(k0s)).toEqual([
      `${K0S}/kubelet/pki/kubelet-client-current.pem`,
      `${K0S}/pki/ca.crt authority`,
      `${K0S}/pki/etcd/peer.crt`,
    ])
    await using k3s = await makeDriver({ role: 'worker', nodeName: 'n4' }, [])
    await k3s.put(`${K3S}/agent/client-kubelet.crt`, LEAF_PEM)
    expect(await paths(k3s)).toEqual([`${K3S}/agent/client-kubelet.crt`])
    await k3s.put(`${K3S}/server/tls/etcd/client.crt`, LEAF_PEM)
    await k3s.put(`${K3S}/server/tls/serving-kube-apiserver.crt`, LEAF_PEM)
    expect(await paths(k3s)).toHaveLength(3)
  })
})
