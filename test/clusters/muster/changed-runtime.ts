import { expect } from 'vitest'
import { waitUntil } from '../../support/wait-until.ts'
import type { ClusterFleet } from './cluster-fleet.ts'
import { type Host, RENDERED_VERSION } from './rendered-system.ts'
import { readNodes } from './seen-cluster.ts'

const CONFIG = 'containerd/config.toml'
const METRICS = '127.0.0.1:1338'

/** Publishes the systems with another configuration of one host's container runtime. */
async function publishConfig(made: ClusterFleet, host: Host, change: (text: string) => string) {
  const { etc = {} } = made.systemOf(host, RENDERED_VERSION)
  const text = etc[CONFIG]
  if (typeof text !== 'string') throw new Error(`${host} has no ${CONFIG}`)
  await made.writeSystems(RENDERED_VERSION, { [host]: { etc: { ...etc, [CONFIG]: change(text) } } })
  await made.publish()
}

async function pidsOf(made: ClusterFleet, host: Host): Promise<readonly string[]> {
  const shown = ['systemctl', 'show', '--property=MainPID', '--value', 'containerd', 'kubelet']
  return (await made.machine(host).ok(shown)).split('\n').filter(line => line !== '')
}

/** Only a containerd that was started with the new configuration answers there. */
const answersMetrics = async (made: ClusterFleet, host: Host): Promise<boolean> =>
  (
    await made
      .machine(host)
      .exec(['curl', '-sf', '-m', '5', '-o', '/dev/null', `http://${METRICS}/v1/metrics`])
  ).code === 0

const podsOn = async (made: ClusterFleet, host: Host, app: string): Promise<string> =>
  await made.kubectl(
    ...(['n1', 'get', 'pods', '-l', `app=${app}`] as const),
    ...['-o', `jsonpath={.items[?(@.spec.nodeName=="${host}")].metadata.name}`],
  )

/** Has the application's pod run on this worker and no other. */
async function moveTo(made: ClusterFleet, host: Host, app: string): Promise<string> {
  const others = (await readNodes(made, 'n1')).map(({ name }) => name).filter(name => name !== host)
  for (const other of others) await made.ok('cordon', other)
  await made.kubectl('n1', 'delete', 'pods', '-l', `app=${app}`, '--wait=true', '--timeout=50s')
  const name = await waitUntil(
    `a pod of ${app} on ${host}`,
    async () => {
      const found = await podsOn(made, host, app)
      return found === '' ? undefined : found
    },
    { timeoutMs: 120_000 },
  )
  for (const other of others) await made.ok('uncordon', other)
  return name
}

/**
 * A container runtime gets another configuration with its system: the node is drained first, the runtime restarts and the kubelet does
 * not; one that does not start goes back, and the old one runs again.
 */
export async function expectChangedRuntime(made: ClusterFleet, host: Host, app: string): Promise<void> {
  const pod = await moveTo(made, host, app)
  const [containerd, kubelet] = await pidsOf(made, host)
  expect(await answersMetrics(made, host)).toBe(false)
  const withMetrics = (text: string) => `${text}\n[metrics]\naddress = "${METRICS}"\n`
  await publishConfig(made, host, withMetrics)
  await made.apply(host)
  expect(await answersMetrics(made, host)).toBe(true)
  const [restarted, same] = await pidsOf(made, host)
  expect([restarted === containerd, same]).toEqual([false, kubelet])
  expect(await podsOn(made, host, app)).not.toContain(pod)
  const seen = async () => (await readNodes(made, 'n1')).find(({ name }) => name === host)
  expect(await seen()).toMatchObject({ ready: true, unschedulable: false })

  const { current } = await made.machine(host).state()
  await publishConfig(made, host, text => `${withMetrics(text)}no toml\n`)
  const failed = await made.muster('apply', host)
  expect(failed.code).not.toBe(0)
  expect(`${failed.stdout}${failed.stderr}`).toContain(
    'the container runtime of the new system does not start',
  )
  expect((await made.machine(host).state()).current).toBe(current)
  expect(await answersMetrics(made, host)).toBe(true)
  await waitUntil(`${host} is Ready`, async () => ((await seen())?.ready ? true : undefined), {
    timeoutMs: 120_000,
  })

  // The one of before, without what was tried: it takes over the cordon that the failure left.
  await publishConfig(made, host, text => `${text}\n`)
  await made.apply(host)
  expect(await answersMetrics(made, host)).toBe(false)
  expect(await seen()).toMatchObject({ ready: true, unschedulable: false })
}
