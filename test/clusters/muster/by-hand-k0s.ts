import { waitUntil } from '../../support/wait-until.ts'
import type { ClusterFleet } from './cluster-fleet.ts'
import { type Host, SERVERS } from './rendered-system.ts'

/** Where the units look for what differs between a first start and a later one. */
const RUN = '/run/muster-cluster'
const JOINING = `MUSTER_K0S_JOIN=--token-file=${RUN}/token\n`
/** Three controllers start one after the other. */
const START = { timeoutMs: 300_000, everyMs: 1_000 }

/**
 * Makes a cluster of k0s as somebody would without Muster, with k0s' own commands and systemctl: three controllers and these
 * workers. No agent has a part in it.
 */
export async function makeK0sByHand(made: ClusterFleet, workers: readonly Host[]): Promise<void> {
  const [founder, ...others] = SERVERS
  await start(made, founder, 'MUSTER_K0S_JOIN=\n')
  await untilReadyz(made, founder)
  for (const host of others) {
    await takeToken(made, { host, role: 'controller', from: founder })
    await start(made, host, JOINING)
    await untilReadyz(made, host)
  }
  for (const host of workers) {
    await takeToken(made, { host, role: 'worker', from: founder })
    await start(made, host)
    await waitUntil(
      `${host} has a certificate of its own`,
      async () => {
        const own = ['test', '-e', '/var/lib/k0s/kubelet/pki/kubelet-client-current.pem']
        return (await made.machine(host).exec(own)).code === 0 || undefined
      },
      START,
    )
  }
  // Whoever makes a cluster leaves no token lying about.
  for (const role of ['controller', 'worker']) {
    const listed = await k0s(made, founder, 'token', 'list', `--role=${role}`)
    const ids = listed.split('\n').flatMap(line => /^([a-z0-9]{6})\s/.exec(line)?.[1] ?? [])
    if (ids.length > 0) await k0s(made, founder, 'token', 'invalidate', ...ids)
  }
}

async function k0s(made: ClusterFleet, host: Host, ...words: readonly string[]): Promise<string> {
  const [program = ''] = made.kubectlProgram()
  return await made.machine(host).ok([program, ...words], { timeoutMs: 120_000 })
}

async function takeToken(
  made: ClusterFleet,
  { host, role, from }: { readonly host: Host; readonly role: 'controller' | 'worker'; readonly from: Host },
): Promise<void> {
  // A controller that has just become ready may be without a leader once more.
  const token = await waitUntil(
    `a token for ${host}`,
    async () => await k0s(made, from, 'token', 'create', `--role=${role}`, '--expiry=20m'),
    START,
  )
  await made.machine(host).writeFile(`${RUN}/token`, token.trim(), '600')
}

async function start(made: ClusterFleet, host: Host, environment?: string): Promise<void> {
  const machine = made.machine(host)
  if (environment !== undefined) await machine.writeFile(`${RUN}/start.env`, environment, '600')
  await machine.writeFile(`${RUN}/ready`, '')
  await machine.ok(['systemctl', 'start', '--no-block', 'k0s'], { timeoutMs: 60_000 })
}

async function untilReadyz(made: ClusterFleet, host: Host): Promise<void> {
  await waitUntil(
    `API server of ${host}`,
    async () => (await made.tryKubectl(host, 'get', '--raw', '/readyz')).code === 0 || undefined,
    START,
  )
}
