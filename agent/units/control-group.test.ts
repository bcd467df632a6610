import { describe, expect, it } from 'vitest'
import { ScriptedSystem } from '../operation/testing/scripted-system.ts'
import { controlGroupOf } from './control-group.ts'

const groupOf = async (files: Readonly<Record<string, string>>) => {
  const system = new ScriptedSystem()
  for (const [path, text] of Object.entries(files)) system.files.set(path, text)
  return await controlGroupOf(system, 'x')
}
const EVENTS = 'populated 1\nfrozen 0\n'

describe('the control group of a unit', () => {
  it('is empty where there is none, or nothing in it', async () => {
    expect(await groupOf({})).toEqual({ kind: 'empty' })
    const path = '/sys/fs/cgroup/system.slice/x.service'
    const files = { [`${path}/cgroup.procs`]: '', [`${path}/cgroup.events`]: 'populated 0\nfrozen 0\n' }
    expect(await groupOf(files)).toEqual({ kind: 'empty' })
  })

  it.each([
    ['the second version', '0::/init.scope\n', '/sys/fs/cgroup/system.slice/x.service/cgroup.procs'],
    [
      'both',
      '1:name=systemd:/\n0::/init.scope\n',
      '/sys/fs/cgroup/unified/system.slice/x.service/cgroup.procs',
    ],
    [
      'the first',
      '1:name=systemd:/init.scope\n',
      '/sys/fs/cgroup/systemd/system.slice/x.service/cgroup.procs',
    ],
    [
      'a group below that of a machine around it',
      '0::/lab/init.scope\n',
      '/sys/fs/cgroup/lab/system.slice/x.service/cgroup.procs',
    ],
    [
      'what runs after a service',
      '0::/init.scope\n',
      '/sys/fs/cgroup/system.slice/x.service/.control/cgroup.procs',
    ],
  ])('names what is left in it, in %s', async (_, init, path) => {
    const files = { '/proc/1/cgroup': init, [path]: '4711\n4712\n', '/proc/4711/comm': 'cat\n' }
    expect(await groupOf(files)).toEqual({
      kind: 'populated',
      processes: ['process 4711 (cat)', 'process 4712'],
    })
  })

  it('is not empty where only a group below it holds something', async () => {
    const path = '/sys/fs/cgroup/system.slice/x.service'
    const files = { [`${path}/cgroup.procs`]: '', [`${path}/cgroup.events`]: EVENTS }
    expect(await groupOf(files)).toEqual({ kind: 'populated', processes: [] })
  })

  it('T34: that cannot be read is unknown, never empty; one that is taken away at this moment is', async () => {
    const broken = (code: string) => {
      const system = new ScriptedSystem()
      system.readFile = async () => ({ kind: 'unreadable', code }) as never
      return system
    }
    expect(await controlGroupOf(broken('EACCES'), 'x')).toMatchObject({ kind: 'unknown' })
    const gone = new ScriptedSystem()
    const read = gone.readFile.bind(gone)
    gone.readFile = async (path, most) =>
      path.startsWith('/sys/fs/cgroup/')
        ? ({ kind: 'unreadable', code: 'ENODEV' } as never)
        : read(path, most)
    expect(await controlGroupOf(gone, 'x')).toEqual({ kind: 'empty' })
  })
})
