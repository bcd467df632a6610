import { describe, expect, it } from 'vitest'
import { type DriverFixture, makeDriver } from './testing/driver-fixture.ts'
import type { Answer, Script } from './testing/scripted-system.ts'

// What ends the pods of k3s and k0s are programs of theirs, which say little of what they did.

const STOPPED = 'ActiveState=inactive\nConditionResult=yes\nConditionTimestampMonotonic=5\nResult=success\n'
const KINDS = {
  k3s: {
    program: /^k3s-killall\.sh/,
    data: '/var/lib/rancher/k3s/agent/kubelet.kubeconfig',
    pods: '/var/lib/kubelet/pods',
    socket: '/run/k3s/containerd/containerd.sock',
  },
  k0s: {
    program: /^k0s reset/,
    data: '/var/lib/k0s/kubelet.conf',
    pods: '/var/lib/k0s/kubelet/pods',
    socket: '/run/k0s/containerd.sock',
  },
} as const

async function machine(distribution: keyof typeof KINDS, ends?: Answer | (() => Answer), more: Script = []) {
  const { program, data, pods } = KINDS[distribution]
  const script: Script = [
    [/^systemctl show/, STOPPED],
    [/^systemctl/, ''],
    ...(ends === undefined ? [] : [[program, ends] as const]),
    ...more,
  ]
  const made = await makeDriver({ distribution, role: 'worker', units: [`${distribution}.service`] }, script)
  await made.put(data, 'x')
  await made.put(`${pods}/uid-1/volumes/kubernetes.io~empty-dir/kept/file`, 'of a pod')
  await made.files.mark('ours', 'a')
  return made
}

/** Nothing was taken away, so that the next attempt finds it. */
async function expectKept(made: DriverFixture, distribution: keyof typeof KINDS): Promise<void> {
  expect(await made.read(KINDS[distribution].data)).toBe('x')
  expect(await made.files.readMark('ours')).toBe('a')
  expect(await made.files.readMark('hold')).toBe('')
}

describe.each(['k3s', 'k0s'] as const)('a wipe of %s', distribution => {
  const { data, pods, socket } = KINDS[distribution]

  it.each([
    ['is not there', undefined, 'precondition'],
    ['fails', { exitCode: 1, stderr: 'a pod did not end' }, 'command'],
    ['never ends', { ending: { kind: 'timed-out', deadlineMs: 1 } }, 'timed-out'],
  ] as const)('is none while what ends its pods %s', async (_, ends, kind) => {
    await using made = await machine(distribution, ends)
    expect(await made.driver.wipe()).toMatchObject({ kind: 'failed', class: kind })
    await expectKept(made, distribution)
  })

  it('is none while a container is left, whatever that program said', { timeout: 30_000 }, async () => {
    await using made = await machine(distribution, '')
    await made.put('/proc/77/cgroup', '0::/system.slice/k.service\n')
    await made.put('/proc/77/cmdline', `/x/bin/containerd-shim-runc-v2\0-id\0a\0-address\0${socket}\0`)
    expect(await made.driver.wipe()).toMatchObject({
      kind: 'failed',
      reason: expect.stringContaining('containerd-shim-runc-v2 (77)'),
    })
    await expectKept(made, distribution)
    await made.files.remove('/proc/77')
    expect(await made.driver.wipe()).toMatchObject({ kind: 'done' })
    await expect(made.read(data)).rejects.toThrow('ENOENT')
  })

  it('unmounts the volumes of pods before it removes anything, or names the one that stays', async () => {
    const volume = `${pods}/uid-1/volumes/kubernetes.io~csi/data/mount`
    await using made = await machine(distribution, '', [
      [/^umount/, { exitCode: 32, stderr: 'umount: target is busy.' }],
    ])
    const mountinfo = `40 30 8:1 / ${volume} rw - ext4 /dev/sda rw\n`
    await made.put('/proc/self/mountinfo', mountinfo)
    expect(await made.driver.wipe()).toMatchObject({
      kind: 'failed',
      reason: expect.stringContaining(`${volume} is still mounted`),
    })
    await expectKept(made, distribution)
    expect(await made.read(`${pods}/uid-1/volumes/kubernetes.io~empty-dir/kept/file`)).toBe('of a pod')
    await made.put('/proc/self/mountinfo', '')
    expect(await made.driver.wipe()).toMatchObject({ kind: 'done' })
    expect(await made.files.list(pods)).toEqual([])
  })

  it('is none where nobody can say what runs', async () => {
    await using made = await machine(distribution, '')
    await made.files.remove('/proc/1')
    expect(await made.driver.wipe()).toMatchObject({ kind: 'failed', class: 'unreadable' })
    await expectKept(made, distribution)
  })
})
