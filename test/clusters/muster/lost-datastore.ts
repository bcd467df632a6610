import { expect } from 'vitest'
import { CLUSTER, type ClusterFleet } from './cluster-fleet.ts'
import { type Host, type LabDistribution, SERVERS } from './rendered-system.ts'

/** What runs a server's datastore, and where that is. */
function datastoreOf(distribution: LabDistribution): { readonly unit: string; readonly folder: string } {
  if (distribution === 'k3s') return { unit: 'k3s', folder: '/var/lib/rancher/k3s/server/db/etcd' }
  return distribution === 'k0s'
    ? { unit: 'k0s', folder: '/var/lib/k0s/etcd' }
    : { unit: 'etcd', folder: '/var/lib/etcd' }
}

/**
 * A server loses its datastore and nothing else, as when the disk of it alone is replaced. It says so, does not start, and two commands bring
 * it back under its name: another server takes its member out, and it is wiped and joins by itself.
 */
export async function expectLostDatastore(made: ClusterFleet, host: Host): Promise<void> {
  const machine = made.machine(host)
  const { unit, folder } = datastoreOf(made.distribution)
  await machine.ok(['systemctl', 'stop', unit], { timeoutMs: 120_000 })
  // What k3s and k0s run outlives a kill of theirs, not their stop.
  await machine.ok(['sh', '-c', `rm -rf ${folder}/*`])
  await machine.exec(['systemctl', 'start', unit], { timeoutMs: 60_000 })
  await made.untilWaits(
    host,
    new RegExp(`its datastore ${folder}/member is gone.*muster leave ${host} --dead`),
  )
  expect(await machine.journal(unit)).toContain('is gone: it would found a new cluster')
  const health = await made.muster('health')
  expect(`${health.stdout}${health.stderr}`).toContain(`muster leave ${host} --dead`)
  // By itself it can take out nothing, and it is not wiped while the others count on it.
  for (const [words, what] of [
    [['leave', host], `muster leave ${host} --dead`],
    [['rejoin', host, '--wipe'], 'is still a member of the datastore'],
  ] as const) {
    const refused = await made.muster(...words)
    expect(refused.code).not.toBe(0)
    expect(refused.stderr).toContain(what)
  }
  await made.ok('leave', host, '--dead')
  await made.untilVoters(2)
  await made.untilWaits(host, new RegExp(`no member any more: .muster rejoin ${host} --wipe`))
  await made.ok('rejoin', host, '--wipe')
  await made.untilJoined(host)
  await made.untilVoters(3)
}

/**
 * The other servers are away while one goes back to a snapshot, and come back with what they had: a majority of what there was before. They
 * are stopped by their own agents, over a boot too, and join when they were wiped.
 */
export async function expectStoodDown(made: ClusterFleet, kept: Host): Promise<void> {
  const others = SERVERS.filter(host => host !== kept)
  const { unit } = datastoreOf(made.distribution)
  // No datastore is set back while somebody joins, and a server that is cut off meanwhile ends its join late.
  await made.untilShown('nobody waits for anything', ({ hosts }) =>
    hosts.every(({ joined, waitsFor }) => joined && waitsFor.length === 0),
  )
  await made.ok('cluster', 'snapshot', CLUSTER, '--name', 'before-return', '--on', kept)
  for (const host of others) await made.machine(host).powerCut()
  for (const host of others) await made.lab.untilOffline(host)
  await made.ok('cluster', 'restore', CLUSTER, 'before-return', '--on', kept, '--yes')
  await made.untilVoters(1)
  for (const host of others) await made.machine(host).boot({ wait: false })
  for (const host of others) {
    await made.untilWaits(host, new RegExp(`from before that was set back.*muster rejoin ${host} --wipe`))
    // Its datastore runs until its own agent has heard of the restore and asked another server.
    const runs = async () => (await made.machine(host).exec(['systemctl', 'is-active', unit])).stdout.trim()
    await expect.poll(runs, { timeout: 240_000, interval: 2_000 }).toMatch(/^(inactive|failed)$/)
  }
  const [first = kept] = others
  await made.machine(first).powerCut()
  await made.machine(first).boot({ wait: false })
  await made.lab.untilOnline(first)
  const again = await made.machine(first).exec(['systemctl', 'start', unit], { timeoutMs: 60_000 })
  expect(again.code).not.toBe(0)
  expect(await made.machine(first).journal(unit)).toContain('the cluster goes on without that')
  await made.untilVoters(1)
  for (const host of others) {
    await made.untilWaits(host, new RegExp(`muster rejoin ${host} --wipe`))
    await made.ok('rejoin', host, '--wipe')
    await made.untilJoined(host)
  }
  await made.untilVoters(3)
}
