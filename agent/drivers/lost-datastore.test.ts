import { describe, expect, it } from 'vitest'
import type { ClusterFacts, Distribution } from './cluster-facts.ts'
import { authorityIdIn } from './node/certificates.ts'
import { readLostDatastore } from './node/lost-datastore.ts'
import { AUTHORITY_PEM, type DriverFixture, makeDriver } from './testing/driver-fixture.ts'
import { member } from './testing/made-up-objects.ts'

const AUTHORITY = authorityIdIn(Buffer.from(AUTHORITY_PEM)) ?? ''
const STOPPED = 'ActiveState=inactive\nConditionResult=no\nConditionTimestampMonotonic=5\nResult=success\n'
const WAIT = { deadlineMs: 3_000, everyMs: 10 }

/** By distribution: what a server has of the cluster beside its datastore, and where that is. */
const KEPT: Readonly<Record<Distribution, { readonly authority: string; readonly datastore: string }>> = {
  components: { authority: '/var/lib/kubernetes/pki/ca.crt', datastore: '/var/lib/etcd/member' },
  kubernetes: { authority: '/var/lib/kubernetes/pki/ca.crt', datastore: '/var/lib/etcd/member' },
  k3s: {
    authority: '/var/lib/rancher/k3s/server/tls/server-ca.crt',
    datastore: '/var/lib/rancher/k3s/server/db/etcd/member',
  },
  k0s: { authority: '/var/lib/k0s/pki/ca.crt', datastore: '/var/lib/k0s/etcd/member' },
}
/** What a machine has of any cluster by these, whatever became of its datastore. */
const MORE: Readonly<Record<Distribution, string>> = {
  components: '/var/lib/kubernetes/pki/ca.key',
  kubernetes: '/var/lib/kubernetes/pki/ca.key',
  k3s: '/var/lib/rancher/k3s/agent/client-kubelet.crt',
  k0s: '/var/lib/k0s/pki/ca.key',
}

async function member1(
  distribution: Distribution,
  change: {
    readonly facts?: Partial<ClusterFacts>
    readonly members?: Parameters<typeof makeDriver>[2]
  } = {},
): Promise<DriverFixture> {
  const made = await makeDriver(
    { distribution, ...change.facts },
    [
      [/^systemctl show/, STOPPED],
      [/--raw \/version/, '{"gitVersion":"v1.34.3"}'],
      [/./, ''],
    ],
    change.members ?? [],
  )
  await made.put(KEPT[distribution].authority, AUTHORITY_PEM)
  await made.put(MORE[distribution], 'x')
  await made.files.mark('member')
  await made.files.mark('ours', AUTHORITY)
  return made
}

describe.each(Object.keys(KEPT) as Distribution[])('a server of %s without its datastore', distribution => {
  const { datastore } = KEPT[distribution]

  it('says so, and where its datastore should be; a folder without a database in it is none', async () => {
    await using made = await member1(distribution)
    const lost = { authority: AUTHORITY, path: datastore }
    // An API server that outlives its datastore is not asked: after its version it answers nobody for minutes.
    expect(await made.driver.readState()).toMatchObject({ lost, runningVersion: undefined })
    await made.put(`${datastore}/wal/0.wal`, '')
    expect((await made.driver.readState()).lost).toEqual(lost)
    await made.put(`${datastore}/snap/db`, 'x')
    expect(await made.driver.readState()).not.toHaveProperty('lost')
    expect((await made.driver.readState()).runningVersion).toBe('1.34.3')
  })

  it('says so also where all of its data is gone, and then neither founds nor joins, but is wiped', async () => {
    await using made = await makeDriver({ distribution, units: [] }, [[/./, '']])
    await made.files.mark('member')
    await made.files.mark('ours', AUTHORITY)
    expect(await made.driver.readState()).toMatchObject({
      data: { kind: 'none' },
      lost: { authority: AUTHORITY, path: datastore },
    })
    expect(await made.driver.found('f1', WAIT)).toMatchObject({
      class: 'data-present',
      reason: expect.stringContaining('muster leave HOST --dead'),
    })
    expect(await made.files.readMark('begun')).toBeUndefined()
    expect(await made.driver.wipe()).toMatchObject({ kind: 'done' })
    expect((await made.driver.readState()).lost).toBeUndefined()
  })

  it('is none that founds, joins, is held, was never a member, is a worker or has what is not ours', async () => {
    for (const mark of ['begun', 'hold'] as const) {
      await using made = await member1(distribution)
      await made.files.mark(mark, 'o1')
      expect((await made.driver.readState()).lost).toBeUndefined()
    }
    await using never = await member1(distribution)
    await never.files.unmark('member')
    expect((await never.driver.readState()).lost).toBeUndefined()
    await using worker = await member1(distribution, { facts: { role: 'worker', nodeName: 'n4' } })
    expect((await worker.driver.readState()).lost).toBeUndefined()
    await using foreign = await member1(distribution)
    await foreign.files.mark('ours', 'f'.repeat(64))
    expect((await foreign.driver.readState()).lost).toBeUndefined()
  })
})

describe('a datastore that cannot be looked at', () => {
  it('is not taken for gone', async () => {
    await using made = await member1('components')
    const { system, files, driver } = made
    const exists = async () => ({ kind: 'unreadable', code: 'EIO' }) as const
    const { data } = await driver.readState()
    const read = await readLostDatastore(
      { ...system, exists },
      files,
      driver.facts,
      '/var/lib/etcd/member',
      data,
    )
    expect(read).toBe('/var/lib/etcd/member/snap/db: EIO')
  })
})

describe('a server that came back with what there was before a restore', () => {
  const others = [member('n2', { peerUrls: ['https://10.91.0.11:2380'] })]
  const later = () => Date.now() + 60_000

  it('stops, and starts no more until it is wiped, where another server lists members without it', async () => {
    await using made = await member1('components', { members: others, facts: { units: ['etcd.service'] } })
    expect(await made.driver.standDown(later(), WAIT)).toMatchObject({ kind: 'done' })
    expect(made.system.ran.map(({ line }) => line)).toContainEqual(expect.stringMatching(/^systemctl stop/))
    expect(await made.files.readMark('stood-down')).toBe('')
    expect((await made.driver.readState()).stoodDown).toBe(true)
    expect(await made.driver.wipe()).toMatchObject({ kind: 'done' })
    expect(await made.files.readMark('stood-down')).toBeUndefined()
  })

  it('goes on where the others count it as a member, or cannot be asked, and where it became one afterwards', async () => {
    const refused = async (members: Parameters<typeof makeDriver>[2], restoredMs: number) => {
      await using made = await member1('components', { members, facts: { units: ['etcd.service'] } })
      const stopped = await made.driver.standDown(restoredMs, { deadlineMs: 100, everyMs: 10 })
      expect(await made.files.readMark('stood-down')).toBeUndefined()
      expect(made.system.ran.filter(({ line }) => line.startsWith('systemctl stop'))).toEqual([])
      return stopped
    }
    const own = member('n1', { peerUrls: ['https://10.91.0.10:2380'] })
    expect(await refused([...others, own], later())).toMatchObject({ class: 'quorum' })
    expect(await refused(others, Date.now() - 60_000)).toMatchObject({
      class: 'precondition',
      reason: expect.stringContaining('after the restore was ordered'),
    })
  })
})
