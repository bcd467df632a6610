import { expect } from 'vitest'
import { waitUntil } from '../../support/wait-until.ts'
import { CLUSTER, type ClusterFleet } from './cluster-fleet.ts'
import { type Host, SERVERS } from './rendered-system.ts'
import { untilReady } from './seen-cluster.ts'
import { findSecrets } from './token-watch.ts'

const RUN = '/run/muster-cluster'
const OFFER = ['-n', 'kube-system', 'get', 'secret', 'muster-next-token', '-o', 'json']

type Secret = 'token' | 'agent-token'
/** Who shows which token, and where only it opens a door. */
const DOORS = {
  token: { user: 'server', path: 'server-bootstrap' },
  'agent-token': { user: 'node', path: 'config' },
} as const

/** What a server of k3s starts with, without what stands before it. */
const passwordOf = async (made: ClusterFleet, host: Host, secret: Secret = 'token'): Promise<string> =>
  (await made.machine(host).readFile(`${RUN}/${secret}`)).trim().split(':').at(-1) ?? ''

/** What a server says to somebody who shows a password, from a worker. */
async function answerTo(made: ClusterFleet, server: Host, secret: Secret, password: string): Promise<string> {
  const { user, path } = DOORS[secret]
  const url = `https://${made.machine(server).address}:6443/v1-k3s/${path}`
  // The password comes by standard input: an argument would be found in /proc.
  const argv = ['curl', '-s', '-k', '-m', '10', '-o', '/dev/null', '-w', '%{http_code}', '-K', '-', url]
  return await made.machine('n4').ok(argv, { input: `user = "${user}:${password}"\n` })
}

interface Passwords {
  readonly servers: string
  readonly agents: string
}

const passwordsOf = async (made: ClusterFleet, host: Host): Promise<Passwords> => ({
  servers: await passwordOf(made, host),
  agents: await passwordOf(made, host, 'agent-token'),
})

/** Whether a server lets in servers and agents by these. */
async function doorsOf(made: ClusterFleet, server: Host, { servers, agents }: Passwords) {
  return [await answerTo(made, server, 'token', servers), await answerTo(made, server, 'agent-token', agents)]
}
const OPEN = ['200', '200']
const SHUT = ['401', '401']

/** Waits until the offer says this of hosts, each by its machine's id. */
async function untilOffered(
  made: ClusterFleet,
  by: Host,
  hosts: readonly Host[],
  wordOf: (id: string) => string,
): Promise<void> {
  const ids = await Promise.all(hosts.map(async host => (await made.lab.shown(host))?.id ?? ''))
  const words = ids.map(id => wordOf(id.slice(0, 40)))
  await waitUntil(
    words.join(' and '),
    async () => {
      const { code, stdout } = await made.tryKubectl(by, ...OFFER)
      return (code === 0 && words.every(word => stdout.includes(word))) || undefined
    },
    { timeoutMs: 120_000, everyMs: 20 },
  )
}

/**
 * Has the tokens of servers and agents made anew by one server, cuts the power of another when that keeps both and before the datastore is
 * under the new one, and lets a worker and a server come back in between. When Kubernetes was restarted where that is to be done, every
 * server has the new ones, and none takes an old one.
 */
export async function expectNewToken(
  made: ClusterFleet,
  { by, cut }: { readonly by: Host; readonly cut: Host },
): Promise<void> {
  const old = await passwordsOf(made, by)
  const others = SERVERS.filter(host => host !== by)
  const rotating = made.muster('cluster', 'rotate', CLUSTER, 'tokens', '--on', by)
  await untilOffered(made, by, others, id => `"${id}": "`)
  // Whoever makes it stands still until the other one is gone.
  const signal = async (name: string) =>
    await made.machine(by).ok(['systemctl', 'kill', `--signal=${name}`, 'muster-agent'])
  await signal('STOP')
  await untilOffered(made, by, others, id => `"kept.muster/${id}"`)
  await made.machine(cut).powerCut()
  await signal('CONT')
  const rotated = await rotating
  expect(rotated, `${rotated.stdout}${rotated.stderr}\n${await made.lastWords()}`).toMatchObject({ code: 0 })
  for (const host of SERVERS) expect(`${rotated.stdout}${rotated.stderr}`).toContain(`muster restart ${host}`)
  const next = await passwordsOf(made, by)
  expect(next.servers).toMatch(/^[0-9a-f]{64}$/)
  expect(next.servers).not.toBe(old.servers)
  expect(next.agents).toMatch(/^[0-9a-f]{48}$/)
  expect(next.agents).not.toBe(old.agents)
  // It comes up with the old one, which the datastore is not under any more.
  await made.machine(cut).boot({ wait: false })
  await made.untilVoters(3)
  for (const host of SERVERS) await untilKept(made, host, next)
  expect(await made.machine(cut).journal('k3s')).toContain('encrypted with different token')
  // By the words of k3s, or by its datastore where that served for a moment.
  expect(await made.machine(cut).journal('muster-agent')).toMatch(/"step":"(exchange|take)"/)
  expect((await made.tryKubectl(by, ...OFFER)).stderr).toContain('NotFound')
  const stale = SERVERS.filter(host => host !== cut)
  // Of before, until its k3s restarts; also where the change was made.
  for (const host of stale)
    expect([await doorsOf(made, host, old), await doorsOf(made, host, next)]).toEqual([OPEN, SHUT])
  await expectComeBack(made, { by, hosts: stale.filter(host => host !== by) })
  await made.ok('restart', by)
  for (const host of SERVERS)
    expect([host, await doorsOf(made, host, old), await doorsOf(made, host, next)]).toEqual([
      host,
      SHUT,
      OPEN,
    ])
  await untilReady(made, by, [...SERVERS, 'n4', 'n5'])
  const secrets = [...Object.values(old), ...Object.values(next)]
  expect(await made.findInCoordinator(secrets)).toEqual([])
  const found = await findSecrets(made, secrets)
  const kept = [`${RUN}/token`, `${RUN}/agent-token`]
  expect(found.filter(line => !kept.some(path => line.endsWith(path)))).toEqual([])
}

async function untilKept(made: ClusterFleet, host: Host, next: Passwords): Promise<void> {
  await waitUntil(
    `${host} starts with the new tokens, and keeps no others`,
    async () => {
      const now = await passwordsOf(made, host)
      if (now.servers !== next.servers || now.agents !== next.agents) return undefined
      const kept = await made.machine(host).exec(['test', '-e', `${RUN}/next-token`])
      return kept.code !== 0 || undefined
    },
    { timeoutMs: 180_000, everyMs: 500 },
  ).catch(async (error: Error) => {
    throw new Error(`${error.message}\n${await made.lastWords()}`)
  })
}

/** Machines join while one server takes the new tokens and others the old ones: a worker by any, a server by the one. */
async function expectComeBack(
  made: ClusterFleet,
  { by, hosts }: { readonly by: Host; readonly hosts: readonly Host[] },
): Promise<void> {
  await made.ok('leave', 'n5')
  await made.ok('rejoin', 'n5')
  await made.untilJoined('n5')
  for (const host of hosts) {
    await waitUntil(`${host} leaves`, () => made.ok('leave', host), { timeoutMs: 120_000 })
    await made.untilVoters(2)
    await made.ok('rejoin', host)
    await made.untilJoined(host)
    await made.untilVoters(3)
  }
  await untilReady(made, by, [...SERVERS, 'n4', 'n5'])
}
