import { expect, it } from 'vitest'
import { makeDriver } from '../testing/driver-fixture.ts'
import type { Script } from '../testing/scripted-system.ts'
import { clearPodNetwork, parsePodNetwork } from './pod-network.ts'

it.each<[string, object, object | undefined]>([
  [
    'a list with a bridge of its own name',
    { name: 'pods', plugins: [{ type: 'bridge', bridge: 'br-pods' }, { type: 'portmap' }] },
    { name: 'pods', bridges: ['br-pods'] },
  ],
  [
    'one plugin, whose bridge has the common name',
    { name: 'lab', type: 'bridge' },
    { name: 'lab', bridges: ['cni0'] },
  ],
  [
    'flannel, which has a bridge made',
    { name: 'mynet', type: 'flannel', delegate: { bridge: 'mynet' } },
    { name: 'mynet', bridges: ['mynet'] },
  ],
  [
    'one without a bridge',
    { name: 'cilium', plugins: [{ type: 'cilium-cni' }] },
    { name: 'cilium', bridges: [] },
  ],
  ['a name that leads elsewhere', { name: '../../etc', type: 'bridge' }, undefined],
  ['a bridge whose name is none', { name: 'x', type: 'bridge', bridge: '../br' }, { name: 'x', bridges: [] }],
])('reads of a configuration: %s', (_, value, expected) => {
  expect(parsePodNetwork(JSON.stringify(value))).toEqual(expected)
})

const deleting: Script = [[/^ip link delete/, '']]

it('takes away what the first network of this machine kept, and no bridge that something else uses', async () => {
  await using made = await makeDriver({}, deleting)
  const { system, files } = made
  await made.put('/etc/cni/net.d/10-muster.conflist', '{"name":"lab","plugins":[{"type":"bridge"}]}')
  await made.put(
    '/etc/cni/net.d/87-podman.conflist',
    '{"name":"podman","plugins":[{"type":"bridge","bridge":"podman0"}]}',
  )
  for (const name of ['lab', 'podman']) await made.put(`/var/lib/cni/networks/${name}/10.1.0.2`, 'x')
  await made.put('/sys/class/net/cni0/brif/veth1', '')
  expect(await clearPodNetwork(system, files)).toMatchObject({ kind: 'done' })
  expect(await files.list('/var/lib/cni/networks')).toEqual(['podman'])
  expect(system.ran).toEqual([])
  await files.remove('/sys/class/net/cni0/brif/veth1')
  expect(await clearPodNetwork(system, files)).toMatchObject({ kind: 'done' })
  expect(system.ran.map(({ line }) => line)).toEqual(['ip link delete dev cni0'])
})

it('has nothing to do where no network is configured', async () => {
  await using made = await makeDriver({}, [])
  expect(await clearPodNetwork(made.system, made.files)).toMatchObject({ kind: 'done' })
})
