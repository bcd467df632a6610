import { expect } from 'vitest'
import { WEB_ANSWER, webDeployment } from '../../lab/clusters/objects.ts'
import { waitUntil } from '../../support/wait-until.ts'
import { CLUSTER, type ClusterFleet } from './cluster-fleet.ts'
import { type Host, SERVERS, WORKERS } from './rendered-system.ts'
import { readNodes, untilAnswers } from './seen-cluster.ts'

const SNAPSHOTS = '/var/lib/muster-agent/cluster/snapshots'
const NAME = 'carried'

/**
 * The disks of all servers are lost, and what is left of the cluster is a snapshot that its operator carried elsewhere: machines are
 * installed anew in their places, and one command brings the cluster back. Workers are not touched.
 */
export async function expectServersLost(made: ClusterFleet, authority: string): Promise<void> {
  const [first, second] = SERVERS
  await made.kubectl(first, 'create', 'configmap', 'carried')
  // Of another server than the one that it makes: what it holds of its own address must not count.
  await made.ok('cluster', 'snapshot', CLUSTER, '--name', NAME, '--on', second)
  const folder = await carryOff(made, second)
  await made.kubectl(first, 'create', 'configmap', 'never-carried')
  for (const host of SERVERS) await made.machine(host).powerCut()
  for (const host of SERVERS) {
    await made.lab.untilOffline(host)
    await made.ok('evict', host, '--why', 'its disk is lost')
  }
  await made.replaceMachine(first)
  await carryTo(made, first, folder)
  await made.untilShown('the way out', ({ waitsFor }) =>
    waitsFor.some(reason => reason.includes(`muster cluster restore ${CLUSTER} SNAPSHOT`)),
  )
  expect(await made.ok('cluster', 'snapshots', CLUSTER, '--on', first)).toContain(NAME)
  await made.ok('cluster', 'restore', CLUSTER, NAME, '--on', first, '--yes')
  const { summary } = await made.untilJoined(first)
  expect(summary).toMatchObject({ authority, firstServer: first })
  await made.untilVoters(1)
  const names = await made.kubectl(first, 'get', 'configmaps', '-o', 'name')
  expect(names).toContain('configmap/carried')
  expect(names).not.toContain('configmap/never-carried')
  // What runs there now was told to it by the server that came back. Of nodes that are no more a cluster says so only after a while.
  const [worker] = WORKERS
  await made.createObject(first, webDeployment('after', worker))
  expect(await untilAnswers(made, first, 'after')).toBe(WEB_ANSWER)
  await waitUntil('workers are Ready', async () => {
    const seen = await readNodes(made, first)
    return WORKERS.every(host => seen.some(node => node.name === host && node.ready)) || undefined
  })
  await made.replaceMachine(second)
  await made.untilJoined(first, second)
  await made.untilVoters(2)
}

/** As an operator does with tar over ssh, who keeps it somewhere else. */
async function carryOff(made: ClusterFleet, host: Host): Promise<string> {
  return await made.machine(host).ok(['sh', '-c', `tar -C ${SNAPSHOTS} -c ${NAME} | base64 -w0`])
}

async function carryTo(made: ClusterFleet, host: Host, folder: string): Promise<void> {
  const take = `install -d -m 700 ${SNAPSHOTS} && base64 -d | tar -C ${SNAPSHOTS} -xp && chown -R root: ${SNAPSHOTS}`
  const { code, stderr } = await made.machine(host).exec(['sh', '-c', take], { input: folder })
  if (code !== 0) throw new Error(stderr)
}
