import { describe, expect, it } from 'vitest'
import { type SeenProcess, whatIsLeft } from './left-running.ts'

const SOCKET = '/run/k0s/containerd.sock'
const seen = (pid: string, cgroup: string, ...args: readonly string[]): SeenProcess => ({ pid, args, cgroup })
const shim = (pid: string, socket: string) =>
  seen(pid, '0::/system.slice/x.service', '/x/containerd-shim-runc-v2', '-id', 'a', '-address', socket)
const left = (...processes: readonly SeenProcess[]) => whatIsLeft(processes, SOCKET).map(({ pid }) => pid)

describe('what is left of pods', () => {
  it('is what holds their containers, and not that of another runtime', () => {
    const init = seen('1', '0::/init.scope\n', '/sbin/init')
    expect(left(init, shim('7', SOCKET), shim('8', '/run/docker/containerd/containerd.sock'))).toEqual(['7'])
    expect(left(init, seen('9', '0::/user.slice', 'grep', 'containerd-shim', SOCKET))).toEqual([])
  })

  it.each([
    ['0::/init.scope\n', '0::/kubepods.slice/kubepods-burstable.slice/cri-1.scope\n'],
    ['0::/init.scope\n', '0::/kubepods/besteffort/pod1/c1\n'],
    ['4:memory:/\n1:name=systemd:/init.scope\n', '4:memory:/kubepods/pod1/c1\n1:name=systemd:/x\n'],
    ['4:memory:/lab/n1\n1:name=systemd:/lab/n1/init.scope\n', '4:memory:/lab/n1/kubepods/pod1/c1\n'],
  ])('is what runs in the group of a pod though nothing holds it: %j', (init, cgroup) => {
    expect(left(seen('1', init, 'init'), seen('7', cgroup, 'web'))).toEqual(['7'])
  })

  it.each([
    '0::/machine.slice/other/kubepods/pod1/c1\n',
    '0::/kubepods-like.slice/x\n',
    '0::/system.slice\n',
    '',
  ])('is not what only looks like one: %j', cgroup => {
    expect(left(seen('1', '0::/init.scope\n', 'init'), seen('7', cgroup, 'web'))).toEqual([])
  })
})
