import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { k3sUnit } from '../../lab/clusters/k3s-files.ts'
import { packageIn } from '../../lab/clusters/packages.ts'
import { isReal, whyNoClusters } from '../../lab/clusters/programs.ts'
import { SET_UP_MS } from '../../lab/why-not.ts'
import { waitUntil } from '../../support/wait-until.ts'
import { COMES, type HandMade, startHandMade, WEB_ANSWER } from './cluster.ts'

const why = whyNoClusters()
const VERSION = '1.34.3'
const K3S = `${packageIn('k3s', VERSION)}/bin/k3s`
const TOKEN = '/run/k3s-token'
const AGENT_TOKEN = '/run/k3s-agent-token'
const SETTINGS = '/etc/k3s.env'
const PASSWORDS = '/var/lib/rancher/k3s/server/cred/passwd'
const URL = 'https://10.91.0.10:6443'
/** What k3s says for ever about a token that it does not take. */
const REFUSED =
  'Waiting to retrieve agent configuration; server is not ready: failed to retrieve configuration from server: not authorized'

let made: HandMade

beforeAll(async () => {
  if (why !== undefined) return
  made = await startHandMade(K3S, ['s1', 's2', 'w1'], async machine => {
    const role = machine.name === 'w1' ? 'agent' : 'server'
    const unit = k3sUnit({
      version: VERSION,
      role,
      tokenFile: TOKEN,
      environmentFile: SETTINGS,
      ...(role === 'server' ? { agentTokenFile: AGENT_TOKEN } : {}),
    })
    await machine.writeFile('/etc/systemd/system/k3s.service', unit)
    await machine.writeFile(AGENT_TOKEN, 'password-of-agents\n', '600')
    const joins = machine.name === 's1' ? 'K3S_CLUSTER_INIT=true' : `K3S_URL=${URL}`
    await machine.writeFile(SETTINGS, `${joins}\n`)
    await machine.ok(['systemctl', 'daemon-reload'])
  })
}, SET_UP_MS)

afterAll(async () => await made?.[Symbol.asyncDispose](), 60_000)

/** A server's start job ends when it serves: it is not waited for here, as nobody should. */
const start = async (name: string) => await made.machine(name).ok(['systemctl', 'start', '--no-block', 'k3s'])
const stop = async (name: string) =>
  await made.machine(name).ok(['systemctl', 'stop', 'k3s'], { timeoutMs: 90_000 })
const isActive = async (name: string) =>
  (await made.machine(name).exec(['systemctl', 'is-active', 'k3s'])).stdout.trim()

async function untilSaid(name: string, text: string): Promise<void> {
  const since = await made.machine(name).ok(['date', '+%F %T'])
  const look = async () => {
    const said = await made.machine(name).journal('k3s', `--since=${since.trim()}`)
    return said.includes(text) ? true : undefined
  }
  await waitUntil(`${name} saying ${JSON.stringify(text)}`, look, COMES)
}

/** Removes whatever bootstrap tokens there are. */
async function deleteTokens(): Promise<void> {
  for (const id of await listIds()) await made.ok('s1', 'token', 'delete', id)
}

/** The first column: as JSON k3s tells no ids. */
async function listIds(): Promise<readonly string[]> {
  const [, ...lines] = (await made.ok('s1', 'token', 'list')).trim().split('\n')
  return lines.map(line => line.split(/\s/)[0] ?? '')
}

async function listTokens(): Promise<readonly { readonly token: unknown; readonly expires?: string }[]> {
  return JSON.parse(await made.ok('s1', 'token', 'list', '-o', 'json')) as { token: unknown }[]
}

/** What s1 says to somebody who shows a password. */
const answerTo = async (user: string, what: string) =>
  await made
    .machine('w1')
    .ok([
      ...['curl', '--silent', '--insecure', '--output', '/dev/null', '--write-out', '%{http_code}'],
      ...['--user', user, `${URL}/v1-k3s/${what}`],
    ])

async function giveAgentToken(): Promise<void> {
  await made.machine('w1').writeFile(TOKEN, await made.ok('s1', 'token', 'create', '--ttl', '10m'), '600')
}

describe.skipIf(why !== undefined)(`k3s ${isReal('k3s') ? '' : '(stand-in)'} ${why ?? ''}`, () => {
  it.skipIf(isReal('k3s'))('says in all it tells that it is a stand-in', async () => {
    expect(await made.ok('s1', '--version')).toContain('stand-in')
    expect(await made.ok('s1', 'help')).toContain('stand-in')
    const { code, stdout, stderr } = await made.run('s1', 'server', '--nonsense')
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toMatch(/^stand-in: k3s: .*flag provided but not defined: -nonsense/)
  })

  it('founds with --cluster-init and a token that is there, and is a node itself', async () => {
    await made.machine('s1').writeFile(TOKEN, 'password-of-servers\n', '600')
    await start('s1')
    await made.untilServing('s1')
    const token = await made.machine('s1').readFile('/var/lib/rancher/k3s/server/token')
    expect(token).toMatch(/^K10[0-9a-f]{64}::server:password-of-servers\n$/)
    await made.untilReady('s1', 's1', VERSION)
    const labels = await made.ok('s1', 'kubectl', 'get', 'node', 's1', '-o', 'jsonpath={.metadata.labels}')
    expect(labels).toContain('"node-role.kubernetes.io/etcd":"true"')
  })

  it('Q9: makes, lists and deletes tokens for agents, which end after a day unless told otherwise', async () => {
    const token = (await made.ok('s1', 'token', 'create', '--description', 'w1')).trim()
    expect(token).toMatch(/^K10[0-9a-f]{64}::[a-z0-9]{6}\.[a-z0-9]{16}$/)
    const [listed, ...others] = await listTokens()
    expect(others).toEqual([])
    expect(listed?.token).toEqual({})
    expect(await listIds()).toEqual([token.split('::')[1]?.slice(0, 6)])
    const hours = (Date.parse(listed?.expires ?? '') - Date.now()) / 3_600_000
    expect(hours).toBeGreaterThan(23)
    expect(hours).toBeLessThan(25)
    await deleteTokens()
    expect(await listTokens()).toEqual([])
    expect((await made.run('s1', 'token', 'delete', 'abcdef')).code).toBe(1)
  })

  it('Q1, trap: an agent is active while it waits for its token file, for a server of its CA, for a token that is taken', async () => {
    await start('w1')
    await untilSaid('w1', `Waiting for ${TOKEN} to be available`)
    expect(await isActive('w1')).toBe('active')
    const foreign = `K10${'a'.repeat(64)}::abcdef.0123456789abcdef\n`
    await made.machine('w1').writeFile(TOKEN, foreign, '600')
    await untilSaid('w1', `Failed to validate connection to cluster at ${URL}`)
    expect(await isActive('w1')).toBe('active')
    const [hash] = (await made.machine('s1').readFile('/var/lib/rancher/k3s/server/token')).split('::')
    await made.machine('w1').writeFile(TOKEN, `${hash}::abcdef.0123456789abcdef\n`, '600')
    await made.machine('w1').ok(['systemctl', 'restart', 'k3s'])
    await untilSaid('w1', REFUSED)
    expect(await isActive('w1')).toBe('active')
    const { stdout } = await made.run('s1', 'kubectl', 'get', 'nodes', '-o', 'name')
    expect(stdout).toBe('node/s1\n')
    await stop('w1')
  })

  it('joins an agent by a short-lived token, and a pod answers', async () => {
    await giveAgentToken()
    await start('w1')
    await made.untilReady('s1', 'w1', VERSION)
    await deleteTokens()
    expect(await made.askPod('s1', 'w1')).toBe(WEB_ANSWER)
  })

  it('lets an agent start anew with the spent text of its token', async () => {
    await stop('w1')
    const before = new Date()
    await start('w1')
    await made.untilReady('s1', 'w1', VERSION, before)
  })

  it('Q2, trap: a reinstalled node is refused by its password until its Node object is gone', async () => {
    await stop('w1')
    const forget =
      'rm -rf /var/lib/rancher/k3s/agent/*.crt /var/lib/rancher/k3s/agent/*.key /etc/rancher/node'
    await made.machine('w1').ok(['sh', '-c', forget])
    await giveAgentToken()
    await start('w1')
    await untilSaid('w1', 'Node password rejected, duplicate hostname')
    expect(await isActive('w1')).toBe('active')
    const kept = ['-n', 'kube-system', 'get', 'secret', 'w1.node-password.k3s', '-o', 'jsonpath={.type}']
    expect(await made.ok('s1', 'kubectl', ...kept)).toBe('k3s.cattle.io/node-password')
    await made.ok('s1', 'kubectl', 'delete', 'node', 'w1')
    await made.untilReady('s1', 'w1', VERSION, new Date())
    await deleteTokens()
  })

  it('gives its keys to the server token alone', async () => {
    const ask = async (user: string) => await answerTo(user, 'server-bootstrap')
    expect(await ask('node:password-of-agents')).toBe('403')
    expect(await ask('server:password-of-agents')).toBe('401')
    expect(await ask('server:password-of-servers')).toBe('200')
    expect(await made.machine('w1').ok(['curl', '--silent', '--insecure', `${URL}/ping`])).toBe('pong')
  })

  it('tells nobody without a name whether a server is ready', async () => {
    const ask = async (...who: readonly string[]) =>
      await made
        .machine('s1')
        .ok([
          ...['curl', '--silent', '--insecure', '--output', '/dev/null', '--write-out', '%{http_code}'],
          ...[...who, `${URL}/readyz`],
        ])
    const pair = '/var/lib/rancher/k3s/server/tls/client-admin'
    expect(await ask()).toBe('401')
    expect(await ask('--cert', `${pair}.crt`, '--key', `${pair}.key`)).toBe('200')
  })

  it('joins a server by the permanent token, refuses it with an agent’s', async () => {
    await made.machine('s2').writeFile(TOKEN, await made.ok('s1', 'token', 'create', '--ttl', '10m'), '600')
    await start('s2')
    await untilSaid('s2', 'failed to bootstrap cluster data: forbidden')
    expect(await isActive('s2')).toBe('activating')
    await stop('s2')
    await deleteTokens()
    const token = await made.machine('s1').readFile('/var/lib/rancher/k3s/server/token')
    await made.machine('s2').writeFile(TOKEN, token, '600')
    await start('s2')
    await made.untilServing('s2')
    await made.untilReady('s2', 's2', VERSION)
  })

  it('takes a server out of etcd by an annotation, which stops k3s there', async () => {
    await made.ok('s1', 'kubectl', 'annotate', 'node', 's2', 'etcd.k3s.cattle.io/remove=true')
    const path = 'jsonpath={.metadata.annotations.etcd\\.k3s\\.cattle\\.io/removed-node-name}'
    const look = async () => (await made.ok('s1', 'kubectl', 'get', 'node', 's2', '-o', path)) || undefined
    expect(await waitUntil('the note of the removal', look, COMES)).toMatch(/^s2-[0-9a-f]{8}$/)
    await untilSaid('s2', 'removed from the')
    await stop('s2')
    await made.machine('s2').ok([`${packageIn('k3s', VERSION)}/bin/k3s-killall.sh`])
    await made.ok('s1', 'kubectl', 'delete', 'node', 's2')
    await made.untilServing('s1')
  })

  it('trap: takes another token of agents at the next start, and then starts no more as long as its file of passwords is there', async () => {
    await made.machine('s1').writeFile(AGENT_TOKEN, 'another-of-agents\n', '600')
    const asked = async () => [
      await answerTo('node:password-of-agents', 'config'),
      await answerTo('node:another-of-agents', 'config'),
    ]
    expect(await asked()).toEqual(['200', '401'])
    await stop('s1')
    await start('s1')
    await made.untilServing('s1')
    expect(await asked()).toEqual(['401', '200'])
    await stop('s1')
    await start('s1')
    await untilSaid('s1', `${PASSWORDS} newer than datastore and could cause a cluster outage`)
    await stop('s1')
    await made.machine('s1').ok(['rm', PASSWORDS])
    await start('s1')
    await made.untilServing('s1')
    expect(await asked()).toEqual(['401', '200'])
    // It was made anew from what is given.
    await made.untilReady('s1', 's1', VERSION, new Date())
  })

  it('Q3, Q4, Q8: saves snapshots by the server that runs, and starts from one with the token of its time', async () => {
    await made.ok('s1', 'kubectl', 'create', 'configmap', 'before')
    await made.ok('s1', 'etcd-snapshot', 'save', '--name', 'kept')
    const listed = JSON.parse(await made.ok('s1', 'etcd-snapshot', 'ls', '-o', 'json')) as {
      items: { spec: { location: string } }[]
    }
    const path = listed.items[0]?.spec.location.replace('file://', '') ?? ''
    expect(path).toMatch(/^\/var\/lib\/rancher\/k3s\/server\/db\/snapshots\/kept-s1-\d+$/)
    await made.ok('s1', 'kubectl', 'create', 'configmap', 'after')
    // By the server that runs, and by nobody else.
    const elsewhere = await made.run('s1', 'etcd-snapshot', 'save', '--etcd-server=https://127.0.0.1:16443')
    expect(elsewhere.code).toBe(1)
    await stop('s1')
    expect((await made.run('s1', 'etcd-snapshot', 'save', '--name', 'kept')).code).toBe(1)
    const reset = ['server', '--cluster-reset', `--cluster-reset-restore-path=${path}`]
    const withUrl = await made.run('s1', ...reset, `--server=${URL}`, `--token-file=${TOKEN}`)
    expect(withUrl.code).toBe(1)
    expect(withUrl.stderr).toContain('server URL')
    // A machine that has no token of its own is not helped by a file of one.
    const fresh = await made.run('w1', ...reset, `--token-file=${TOKEN}`)
    expect(fresh.code).toBe(1)
    expect(fresh.stderr).toContain(
      'server/token does not exist, please pass --token to complete the restoration',
    )
    const other = await made.run('s1', ...reset, '--token=another-password')
    expect(other.code).toBe(1)
    const done = await made.run('s1', ...reset, `--token-file=${TOKEN}`)
    expect(done.code, done.stderr).toBe(0)
    expect(done.stdout + done.stderr).toContain('Managed etcd cluster membership has been reset')
    // It was told of no token of agents, so that the file of passwords is another one than the datastore's.
    await start('s1')
    await untilSaid('s1', `${PASSWORDS} newer than datastore and could cause a cluster outage`)
    await stop('s1')
    await made.machine('s1').ok(['rm', PASSWORDS])
    await start('s1')
    await made.untilServing('s1')
    const names = await made.ok('s1', 'kubectl', 'get', 'configmaps', '-o', 'name')
    expect(names).toContain('configmap/before')
    expect(names).not.toContain('configmap/after')
    await made.untilReady('s1', 'w1', VERSION, new Date())
  })

  it('trap: puts the datastore under another server token, and takes the old one until it is started anew', async () => {
    const asked = async () => [
      await answerTo('server:password-of-servers', 'server-bootstrap'),
      await answerTo('server:another-of-servers', 'server-bootstrap'),
    ]
    await made.ok('s1', 'token', 'rotate', '--token=password-of-servers', '--new-token=another-of-servers')
    expect(await made.machine('s1').readFile('/var/lib/rancher/k3s/server/token')).toMatch(
      /::server:another-of-servers\n$/,
    )
    expect(await asked()).toEqual(['200', '401'])
    // Its own program shows what was written down, which is the new one.
    const refused = await made.run('s1', 'etcd-snapshot', 'save', '--name', 'late')
    expect(refused.code).toBe(1)
    expect(refused.stdout + refused.stderr).toContain('not authorized')
    await stop('s1')
    await start('s1')
    await untilSaid('s1', 'encrypted with different token')
    await stop('s1')
    await made.machine('s1').writeFile(TOKEN, 'another-of-servers\n', '600')
    await made.machine('s1').ok(['rm', '-f', PASSWORDS])
    await start('s1')
    await made.untilServing('s1')
    expect(await asked()).toEqual(['401', '200'])
    await made.untilReady('s1', 's1', VERSION, new Date())
  })

  it('tells when certificates end', async () => {
    const told = JSON.parse(await made.ok('s1', 'certificate', 'check', '--output', 'json')) as {
      Certificates: { Filename: string; ExpiryTime: string }[]
    }
    const admin = told.Certificates.find(({ Filename }) => Filename === 'client-admin.crt')
    const days = (Date.parse(admin?.ExpiryTime ?? '') - Date.now()) / 86_400_000
    expect(days).toBeGreaterThan(360)
    expect(days).toBeLessThan(366)
  })
})
