import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Joined, Minted } from '../../../agent/drivers/driver.ts'
import { webDeployment } from '../../lab/clusters/objects.ts'
import { whyNoClusters } from '../../lab/clusters/programs.ts'
import { SET_UP_MS } from '../../lab/why-not.ts'
import { type DriverLab, type Host, startDriverLab } from './driver-lab.ts'

const why = whyNoClusters()
const VERSION = '1.34.3'
const WAIT = { deadlineMs: 240_000 }
const CONTROL_PLANE = ['kube-apiserver', 'kube-controller-manager', 'kube-scheduler']

let made: DriverLab
let authority = ''

beforeAll(async () => {
  if (why === undefined)
    made = await startDriverLab('components', ['n1', 'n5'], VERSION, 'components-static-pods')
}, SET_UP_MS)
afterAll(async () => await made?.[Symbol.asyncDispose](), 120_000)

/** Programs of the control plane that run on a machine, whoever started them, with their process ids. */
async function controlPlane(host: Host): Promise<ReadonlyMap<string, string>> {
  const { stdout } = await made.machine(host).exec(['pgrep', '-a', '^kube-'])
  const lines = stdout.split('\n').map(line => line.split(' '))
  return new Map(
    lines.flatMap(([pid = '', program = '']) => {
      const name = program.split('/').at(-1) ?? ''
      return CONTROL_PLANE.includes(name) ? [[name, pid] as const] : []
    }),
  )
}

/** The containers that a machine's runtime runs. */
const tasks = async (host: Host) =>
  (await made.machine(host).ok(['ctr', '-n', 'k8s.io', 'tasks', 'list', '-q'])).split('\n').filter(Boolean)

const mountsBelow = async (host: Host, folder: string) =>
  (await made.machine(host).ok(['cat', '/proc/self/mountinfo']))
    .split('\n')
    .filter(line => line.includes(` ${folder}/`))

describe.skipIf(why !== undefined)(`pods that outlive what started them ${why ?? ''}`, () => {
  it('founds a server whose control plane is static pods, and finds them well', async () => {
    ;({ authority } = await made.done<Joined>('n1', 'found', 'op-found', WAIT))
    await made.done('n1', 'proveServer', VERSION, WAIT)
    expect([...(await controlPlane('n1')).keys()].toSorted()).toEqual(CONTROL_PLANE)
  })

  it('holds them down with the rest, and has them back when it is let go', async () => {
    await made.done('n1', 'hold', true)
    expect(await controlPlane('n1')).toEqual(new Map())
    expect(await made.drive('n1', 'isReady')).toBe(false)
    // Not even a kubelet that somebody starts brings them back.
    expect(await made.machine('n1').ok(['ls', '/var/lib/kubernetes/manifests'])).toBe('')
    await made.done('n1', 'hold', false)
    await made.done('n1', 'restart')
    await made.done('n1', 'proveServer', VERSION, WAIT)
  })

  it('makes certificates anew that every part of the control plane has from then on', async () => {
    const before = await controlPlane('n1')
    await made.done('n1', 'rotateCertificates', WAIT)
    await expect.poll(async () => (await controlPlane('n1')).size, { timeout: 60_000 }).toBe(3)
    const after = await controlPlane('n1')
    for (const name of CONTROL_PLANE) expect(after.get(name), name).not.toBe(before.get(name))
  })

  it('goes back to a snapshot', async () => {
    await made.done('n1', 'snapshot', 'first', WAIT)
    await made.kubectl('n1', 'create', 'configmap', 'after')
    await made.done('n1', 'restore', { operation: 'op-restore', name: 'first' }, WAIT)
    expect(await made.kubectl('n1', 'get', 'configmaps', '-o', 'name')).not.toContain('configmap/after')
  })

  it('a worker that is wiped runs no pod any more, and has nothing of its secrets, volumes and network', async () => {
    const node = { node: 'n5', role: 'worker', address: made.address('n5'), machineId: undefined } as const
    const request = { ...node, operation: 'op-n5', lifetimeMs: 600_000 }
    type Given = Omit<Minted, 'secret'> & { readonly secret: string }
    const { secret, tokenId } = await made.done<Given>('n1', 'mint', request)
    expect(await made.done<Joined>('n5', 'join', 'op-n5', secret, WAIT)).toEqual({ authority })
    await made.done('n1', 'deleteToken', tokenId)
    await made.done('n1', 'proveNode', { node: 'n5', version: VERSION }, WAIT)
    await made.kubectl('n1', 'create', 'secret', 'generic', 'given', '--from-literal=password=of-the-cluster')
    const web = JSON.parse(JSON.stringify(webDeployment('web')))
    const { spec } = web.spec.template
    spec.volumes = [{ name: 'given', secret: { secretName: 'given' } }]
    spec.containers[0].volumeMounts = [{ name: 'given', mountPath: '/given' }]
    await made.apply('n1', web)
    await made.kubectl('n1', 'rollout', 'status', 'deployment/web', '--timeout=90s')
    const machine = made.machine('n5')
    expect(await tasks('n5')).toHaveLength(2)
    expect(await mountsBelow('n5', '/var/lib/kubelet/pods')).not.toEqual([])
    expect(await machine.ok(['ls', '/var/lib/cni/networks/lab'])).toContain('10.244.')
    expect(await machine.ok(['grep', '-rl', 'of-the-cluster', '/var/lib/kubelet/pods'])).toContain('password')

    await made.done('n5', 'wipe')
    expect(await tasks('n5')).toEqual([])
    expect(await machine.ok(['ctr', '-n', 'k8s.io', 'containers', 'list', '-q'])).toBe('')
    expect(await machine.ok(['ls', '/var/lib/kubelet/pods'])).toBe('')
    expect(await mountsBelow('n5', '/var/lib/kubelet')).toEqual([])
    expect((await machine.exec(['ip', 'link', 'show', 'cni0'])).code).not.toBe(0)
    expect((await machine.exec(['test', '-e', '/var/lib/cni/networks/lab'])).code).toBe(1)
    expect(await made.drive('n5', 'checkPreconditions')).toEqual([])
  })

  it('a server that is wiped leaves none of its static pods, and its ports to whoever founds next', async () => {
    await made.done('n1', 'wipe')
    expect(await controlPlane('n1')).toEqual(new Map())
    expect(await tasks('n1')).toEqual([])
    expect(await made.drive('n1', 'checkPreconditions')).toEqual([])
    const again = await made.done<Joined>('n1', 'found', 'op-again', WAIT)
    expect(again.authority).not.toBe(authority)
  })
})
