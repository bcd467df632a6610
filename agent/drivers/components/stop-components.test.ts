import { existsSync } from 'node:fs'
import { mkdir, symlink } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import type { ClusterFacts } from '../cluster-facts.ts'
import { AUTHORITY_PEM, type DriverFixture, LEAF_PEM, makeDriver } from '../testing/driver-fixture.ts'
import { member } from '../testing/made-up-objects.ts'
import { type MadeUpRuntime, madeUpRuntime, pod } from '../testing/made-up-runtime.ts'
import type { Script } from '../testing/scripted-system.ts'

const WAIT = { deadlineMs: 400, everyMs: 20 }
const P = '/var/lib/kubernetes'
const PODS = '/var/lib/kubelet/pods'
const SECRET = `${PODS}/uid/volumes/kubernetes.io~secret/s`
const RUNTIME = 'unix:///run/containerd/containerd.sock'
const kubelet = { folder: '/var/lib/kubelet', runtime: RUNTIME } as const
const worker: Partial<ClusterFacts> = {
  distribution: 'components',
  role: 'worker',
  nodeName: 'n4',
  kubelet,
  units: ['kubelet.service'],
}
const staticServer: Partial<ClusterFacts> = {
  distribution: 'components',
  role: 'server',
  kubelet,
  units: ['etcd.service', 'muster-static-pods.service', 'kubelet.service'],
}
const CONTROL_PLANE = ['kube-apiserver', 'kube-controller-manager', 'kube-scheduler']
const controlPlane = () =>
  CONTROL_PLANE.map(name => pod(name, `${name}-n1`, { namespace: 'kube-system', isStatic: true }))

interface Machine {
  readonly made: DriverFixture
  readonly runtime: MadeUpRuntime
  /** What was done to units and pods, in order. */
  readonly did: string[]
}

/** A machine whose units run, with a runtime that answers unless it `isDown`. */
async function machine(
  facts: Partial<ClusterFacts>,
  runtime: MadeUpRuntime,
  { more = [], isDown = false }: { readonly more?: Script; readonly isDown?: boolean } = {},
): Promise<Machine> {
  const running = new Set(facts.units)
  const { did } = runtime
  const script: Script = [
    ...more,
    [
      /^systemctl show/,
      ({ line }) =>
        `ActiveState=${running.has(line.split(' ').at(-1) ?? '') ? 'active' : 'inactive'}\nConditionResult=yes\nResult=success\n`,
    ],
    [
      /^systemctl (stop|start)/,
      ({ line }) => {
        const [, word = '', ...units] = line.split(' ')
        did.push(`${word} ${units.filter(unit => unit.endsWith('.service')).join(' ')}`)
        for (const unit of units) word === 'stop' ? running.delete(unit) : running.add(unit)
        return ''
      },
    ],
    [/^systemctl/, ''],
    [/^journalctl/, ''],
    [/^umount/, ''],
    [/--raw \/readyz/, 'ok'],
  ]
  const made = await makeDriver(
    facts,
    script,
    [member('n1')],
    isDown ? {} : { connectRuntime: runtime.connect },
  )
  await made.put('/proc/self/mountinfo', '')
  return { made, runtime, did }
}

describe('wiping a machine that runs pods', () => {
  it('ends them once their kubelet is down, and takes what they were given', async () => {
    const { made, did, runtime } = await machine(worker, madeUpRuntime(pod('a', 'web'), pod('b', 'db')))
    await using _ = made
    await made.put(`${SECRET}/password`, 'of the cluster')
    await made.put('/var/lib/kubelet/config.json', 'of the machine')
    expect(await made.driver.wipe()).toMatchObject({ kind: 'done' })
    expect(runtime.pods).toEqual([])
    expect(did[0]).toBe('stop kubelet.service')
    expect(did.filter(each => each.startsWith('remove'))).toEqual(['remove a', 'remove b'])
    expect(await made.files.list(PODS)).toEqual([])
    expect(await made.read('/var/lib/kubelet/config.json')).toBe('of the machine')
  })

  it('is not done while pods may run that nobody can end', async () => {
    const { made } = await machine(worker, madeUpRuntime(), { isDown: true })
    await using _ = made
    await made.put(`${SECRET}/password`, 'of the cluster')
    await made.files.mark('ours', 'x')
    expect(await made.driver.wipe()).toMatchObject({
      class: 'precondition',
      reason: expect.stringMatching(/pods may go on running here: start the runtime/),
    })
    expect(await made.files.readMark('ours')).toBe('x')
    await made.files.remove(`${PODS}/uid`)
    expect(await made.driver.wipe()).toMatchObject({ kind: 'done' })
  })

  it('empties no volume that is still mounted, by whatever name its folder goes', async () => {
    const { made } = await machine(worker, madeUpRuntime())
    await using _ = made
    await made.put('/data/kubelet/pods/uid/volumes/nfs/precious', 'x')
    await mkdir(`${made.root}/var/lib`, { recursive: true })
    await symlink(`${made.root}/data/kubelet`, `${made.root}/var/lib/kubelet`)
    const mounted = '36 35 0:52 / /data/kubelet/pods/uid/volumes/nfs rw - nfs s:/x rw'
    await made.put('/proc/self/mountinfo', mounted)
    expect(await made.driver.wipe()).toMatchObject({ reason: expect.stringContaining('is still mounted') })
    expect(made.system.ran.map(({ line }) => line)).toContain('umount /data/kubelet/pods/uid/volumes/nfs')
    expect(await made.read('/data/kubelet/pods/uid/volumes/nfs/precious')).toBe('x')
    await made.put('/proc/self/mountinfo', '')
    expect(await made.driver.wipe()).toMatchObject({ kind: 'done' })
    expect(await made.files.list('/data/kubelet/pods')).toEqual([])
  })

  it('takes what a restore kept of an older datastore, too', async () => {
    const { made } = await machine({ ...staticServer, etcdDataDir: '/srv/etcd' }, madeUpRuntime())
    await using _ = made
    for (const name of ['member', 'before-restore', 'restored', 'lost+found'])
      await made.put(`/srv/etcd/${name}/snap/db`, 'x')
    expect(await made.driver.wipe()).toMatchObject({ kind: 'done' })
    expect(await made.files.list('/srv/etcd')).toEqual(['lost+found'])
  })
})

describe('a control plane of static pods', () => {
  const manifest = (name: string) => `${P}/manifests/${name}.json`

  async function server(more: Script = []) {
    const own = pod('own', 'kube-vip-n1', { namespace: 'kube-system', isStatic: true })
    const named = pod('named', 'kube-apiserver-n1', { namespace: 'mine' })
    const found = await machine(staticServer, madeUpRuntime(...controlPlane(), own, named), { more })
    for (const name of [...CONTROL_PLANE, 'kube-vip']) await found.made.put(manifest(name), '{}')
    return found
  }
  const left = ({ pods }: MadeUpRuntime) => pods.map(({ id }) => id)

  it('is held down with the rest: after its kubelet and before its datastore; other pods stay', async () => {
    const { made, runtime, did } = await server()
    await using _ = made
    runtime.onList = () => {
      // A kubelet that comes up meanwhile must find none of them.
      for (const name of CONTROL_PLANE) expect(existsSync(`${made.root}${manifest(name)}`)).toBe(false)
    }
    expect(await made.driver.hold(true)).toMatchObject({ kind: 'done' })
    expect(left(runtime)).toEqual(['own', 'named'])
    expect(await made.files.list(`${P}/manifests`)).toEqual(['kube-vip.json'])
    const [first, last] = [did[0], did.at(-1)]
    expect(first).toBe('stop kubelet.service')
    expect(last).toBe('stop kubelet.service muster-static-pods.service etcd.service')
    expect(did.filter(each => each.startsWith('remove'))).toHaveLength(3)
  })

  it('is not held where nobody can end it', async () => {
    const { made } = await machine(staticServer, madeUpRuntime(), { isDown: true })
    await using _ = made
    expect(await made.driver.hold(true)).toMatchObject({ class: 'precondition' })
  })

  it('is ended by the next configuration, which has units, too; and workers are asked nothing', async () => {
    const units = [...CONTROL_PLANE.map(name => `${name}.service`), 'kubelet.service']
    const runtime = madeUpRuntime(...controlPlane())
    const { made } = await machine({ ...staticServer, units }, runtime)
    await using _ = made
    await made.put(manifest('kube-scheduler'), '{}')
    expect(await made.driver.restart()).toMatchObject({ kind: 'done' })
    expect(runtime.pods).toEqual([])
    expect(await made.files.list(`${P}/manifests`)).toEqual([])
    const other = await machine(worker, madeUpRuntime(pod('a', 'web')))
    await using _other = other.made
    expect(await other.made.driver.hold(true)).toMatchObject({ kind: 'done' })
    expect(other.did).toEqual(['stop kubelet.service'])
  })

  it('is started anew with certificates that were made anew', async () => {
    const { made, runtime, did } = await server([
      [/^kube-apiserver --version/, 'Kubernetes v1.34.3\n'],
      [
        /^kubeadm init phase/,
        () => {
          did.push('certificates')
          return ''
        },
      ],
    ])
    await using _ = made
    await made.put(`${P}/pki/ca.crt`, AUTHORITY_PEM)
    await made.put(`${P}/pki/apiserver.crt`, LEAF_PEM)
    expect(await made.driver.cluster.rotateCertificates(WAIT)).toMatchObject({ kind: 'done' })
    expect(left(runtime)).toEqual(['own', 'named'])
    const order = [
      'remove kube-scheduler',
      'certificates',
      'start etcd.service muster-static-pods.service kubelet.service',
    ]
    expect(order.map(each => did.indexOf(each)).toSorted((a, b) => a - b)).toEqual(
      order.map(each => did.indexOf(each)),
    )
    expect(did).toEqual(expect.arrayContaining(order))
  })

  it('is started by a kubelet that has a kubeconfig before anybody can make a token for it', async () => {
    let had = ''
    const { made } = await machine(staticServer, madeUpRuntime(), {
      more: [
        [/^kube-apiserver --version/, 'Kubernetes v1.34.3\n'],
        [/^kubeadm init phase/, ''],
        [
          /^systemctl start/,
          () => {
            had = existsSync(`${made.root}/run/muster-cluster/bootstrap-kubelet.conf`)
              ? 'a kubeconfig'
              : 'none'
            return ''
          },
        ],
        [/ apply --server-side/, '{"kind":"List","items":[]}'],
      ],
    })
    await using _ = made
    await made.files.mark('begun', 'op')
    await made.put(`${P}/pki/ca.crt`, AUTHORITY_PEM)
    await made.put(`${P}/kubelet.conf`, 'x')
    await made.put('/var/lib/kubelet/pki/kubelet-client-current.pem', 'x')
    expect(await made.driver.found('op', WAIT)).toMatchObject({ kind: 'done' })
    expect(had).toBe('a kubeconfig')
  })
})
