import { describe, expect, it } from 'vitest'
import { createScriptedSystem } from '../testing/scripted-system.ts'
import {
  listeningPorts,
  missingUsers,
  ownAddresses,
  readMachineId,
  whyBadAddress,
  whyBadClock,
  whyBadHostName,
  whyBadMachineId,
  whyNoCgroups,
} from './preconditions.ts'
import { parseUnit, readUnits } from './services.ts'

describe('preconditions', () => {
  it('names users that are missing', () => {
    expect(missingUsers('root:x:0:0::/:/bin/sh\netcd:x:1::/:\n', ['etcd', 'kube-apiserver'])).toEqual([
      'kube-apiserver',
    ])
    expect(missingUsers(undefined, ['etcd'])).toEqual(['etcd'])
  })

  it('reads ports that something listens on', () => {
    const text = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:192B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 23432 1
   1: 0A005B0A:094C 0B005B0A:D3F2 01 00000000:00000000 00:00000000 00000000     0        0 23433 1
   2: 00000000000000000000000000000000:280A 00000000000000000000000000000000:0000 0A 00000000:00000000 00:0 0 0 0 1 1
`
    expect([...listeningPorts(text)]).toEqual([6443, 10250])
  })

  it.each([
    ['cpuset cpu io memory pids\n', undefined, true],
    ['cpu io memory\n', undefined, false],
    ['', undefined, false],
    [
      undefined,
      '#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t1\t1\t1\ncpu\t2\t1\t1\nmemory\t3\t1\t1\npids\t4\t1\t1\n',
      true,
    ],
    [
      undefined,
      '#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t1\t1\t1\ncpu\t2\t1\t1\nmemory\t3\t1\t0\npids\t4\t1\t1\n',
      false,
    ],
    [undefined, undefined, false],
  ])('wants control groups: %j %j', (unified, legacy, good) =>
    expect(whyNoCgroups(unified, legacy) === undefined).toBe(good),
  )

  it('wants a host name that is the node’s', () => {
    expect(whyBadHostName('n1', 'n1')).toBeUndefined()
    expect(whyBadHostName('n1', 'n1.example')).toBeUndefined()
    expect(whyBadHostName('n1', 'localhost')).toContain('named localhost')
    expect(whyBadHostName('N1', 'N1')).toContain('no name for a node')
    expect(whyBadHostName('n1', undefined)).toContain('no host name')
  })

  it('wants a machine id', () => {
    expect(whyBadMachineId('0123456789abcdef0123456789abcdef\n')).toBeUndefined()
    for (const bad of [undefined, '', 'uninitialized\n', '0'.repeat(32)])
      expect(whyBadMachineId(bad)).toContain('machine-id')
  })

  it('reads the machine id anew each time, and tells none that is no id', async () => {
    let text = `${'b'.repeat(32)}\n`
    const system = {
      readFile: async () => ({ kind: 'file', bytes: Buffer.from(text), truncated: false }) as const,
    }
    expect(await readMachineId(system)).toBe('b'.repeat(32))
    text = 'uninitialized\n'
    expect(await readMachineId(system)).toBeUndefined()
  })

  it('wants an address of this machine, and none of another server', () => {
    const own = ownAddresses(
      '[{"ifname":"lo","addr_info":[{"local":"127.0.0.1"}]},{"ifname":"e","addr_info":[{"local":"10.0.0.1"}]}]',
    )
    expect(own).toEqual(['10.0.0.1'])
    expect(whyBadAddress('10.0.0.1', ['10.0.0.2'], own)).toBeUndefined()
    expect(whyBadAddress('10.0.0.9', [], own)).toContain('no address of this machine')
    expect(whyBadAddress('10.0.0.1', ['10.0.0.1'], own)).toContain('another server')
    expect(whyBadAddress(undefined, [], own)).toContain('no address yet')
    expect(whyBadAddress('10.0.0.1', [], ownAddresses('nonsense'))).toContain('cannot be read')
  })

  it('names a clock that is not in step yet, and none that nobody keeps', () => {
    expect(whyBadClock('NTP=yes\nNTPSynchronized=no\n')).toContain('not synchronised')
    expect(whyBadClock('NTP=yes\nNTPSynchronized=yes\n')).toBeUndefined()
    expect(whyBadClock('NTP=no\nNTPSynchronized=no\n')).toBeUndefined()
    expect(whyBadClock(undefined)).toBeUndefined()
  })
})

describe('a unit', () => {
  it('K1: that a condition held back is told from one that was never started', () => {
    expect(
      parseUnit('ActiveState=inactive\nConditionResult=no\nConditionTimestampMonotonic=7\nResult=success\n'),
    ).toEqual({
      active: 'inactive',
      heldByCondition: true,
      result: 'success',
    })
    expect(
      parseUnit('ActiveState=inactive\nConditionResult=no\nConditionTimestampMonotonic=0\n'),
    ).toMatchObject({
      heldByCondition: false,
    })
    expect(parseUnit('')).toBeUndefined()
  })

  it('is told from others that are asked for at once, in the order of the question', async () => {
    const show = (state: string) => `ActiveState=${state}\nConditionResult=yes\nResult=success\n`
    const asked = async (stdout: string) =>
      await readUnits(createScriptedSystem('/', [[/^systemctl/, stdout]]), ['a.service'])
    const states = await readUnits(
      createScriptedSystem('/', [
        [/a\.service$/, show('active')],
        [/b\.service$/, show('failed')],
      ]),
      ['a.service', 'b.service'],
    )
    expect(
      states.kind === 'done' ? [...states.value].map(([unit, { active }]) => [unit, active]) : states,
    ).toEqual([
      ['a.service', 'active'],
      ['b.service', 'failed'],
    ])
    // Another number of answers than of questions belongs to nobody.
    expect(await asked(`${show('active')}\n${show('failed')}`)).toMatchObject({ class: 'unreadable' })
    expect(await asked('')).toMatchObject({ class: 'unreadable' })
  })

  it('says when its process was started, or that none was', () => {
    const text = (at: string) => `ActiveState=active\nExecMainStartTimestampMonotonic=${at}\n`
    expect(parseUnit(text('1500250'))?.startedMs).toBe(1500.25)
    for (const none of ['0', '', 'n/a']) expect(parseUnit(text(none))?.startedMs).toBeUndefined()
  })
})
