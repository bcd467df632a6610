import { gunzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { k0sConfig, k0sUnit } from '../../lab/clusters/k0s-files.ts'
import { packageIn } from '../../lab/clusters/packages.ts'
import { isReal, packagedIn, programsIn, whyNoClusters } from '../../lab/clusters/programs.ts'
import { SET_UP_MS } from '../../lab/why-not.ts'
import { waitUntil } from '../../support/wait-until.ts'
import { COMES, type HandMade, startHandMade, WEB_ANSWER } from './cluster.ts'

const why = whyNoClusters()
const VERSION = '1.34.3'
const TOKEN = '/etc/k0s/k0stoken'
const K0S = `${packageIn('k0s', VERSION)}/bin/k0s`
const ADDRESSES = { s1: '10.91.0.10', s2: '10.91.0.11' } as const

let made: HandMade

beforeAll(async () => {
  if (why !== undefined) return
  made = await startHandMade(K0S, ['s1', 's2', 'w1'], async machine => {
    const { name } = machine
    const role = name === 'w1' ? 'worker' : 'controller'
    const unit = k0sUnit({ version: VERSION, role, ...(name === 's1' ? {} : { tokenFile: TOKEN }) })
    await machine.writeFile('/etc/systemd/system/k0s.service', unit)
    if (name === 's1' || name === 's2') {
      await machine.writeFile('/etc/k0s/k0s.yaml', k0sConfig(ADDRESSES[name], Object.values(ADDRESSES)))
    }
    await machine.ok(['systemctl', 'daemon-reload'])
  })
}, SET_UP_MS)

afterAll(async () => await made?.[Symbol.asyncDispose](), 60_000)

const start = async (name: string) => await made.machine(name).ok(['systemctl', 'start', 'k0s'])
const stop = async (name: string) =>
  await made.machine(name).ok(['systemctl', 'stop', 'k0s'], { timeoutMs: 90_000 })

/** A token made on s1 and written to another machine. Returns its id. */
async function giveToken(role: 'controller' | 'worker', to: string): Promise<string> {
  const token = await made.ok('s1', 'token', 'create', '--role', role, '--expiry', '10m')
  await made.machine(to).writeFile(TOKEN, token, '600')
  return insideOf(token).id
}

function insideOf(token: string): { readonly id: string; readonly text: string } {
  const text = gunzipSync(Buffer.from(token.trim(), 'base64')).toString()
  const id = /token: ['"]?([a-z0-9]{6})\.[a-z0-9]{16}/.exec(text)?.[1]
  if (id === undefined) throw new Error(`no bootstrap token in ${text.slice(0, 200)}`)
  return { id, text }
}

async function membersSeenBy(name: string): Promise<readonly string[]> {
  const told: unknown = JSON.parse(await made.ok(name, 'etcd', 'member-list'))
  if (typeof told !== 'object' || told === null || !('members' in told)) throw new Error('no members')
  return Object.values(told.members as Record<string, string>).toSorted()
}

describe.skipIf(why !== undefined)(`k0s ${isReal('k0s') ? '' : '(stand-in)'} ${why ?? ''}`, () => {
  it.skipIf(isReal('k0s'))('says in all it tells that it is a stand-in', async () => {
    expect(await made.ok('s1', 'version')).toBe(`v${VERSION}+k0s.0.stand-in\n`)
    expect(await made.ok('s1', 'help')).toContain('stand-in')
    const { code, stdout, stderr } = await made.run('s1', 'nonsense')
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toMatch(/^stand-in: k0s: Error: unknown command "nonsense"/)
  })

  it('founds with a controller that has no token', async () => {
    const early = await made.run('s1', 'status')
    expect(early).toMatchObject({ code: 1, stdout: '' })
    expect(early.stderr).toContain('can\'t get "status" via "/run/k0s/status.sock"')
    await start('s1')
    await made.untilServing('s1')
    expect(await membersSeenBy('s1')).toEqual([`https://${ADDRESSES.s1}:2380`])
    expect(JSON.parse(await made.ok('s1', 'status', '-o', 'json'))).toMatchObject({
      Role: 'controller',
      Workloads: false,
      SingleNode: false,
    })
  })

  it('tells nobody without a name whether a server is ready', async () => {
    const ask = async (...who: readonly string[]) =>
      await made
        .machine('s1')
        .ok([
          ...['curl', '--silent', '--insecure', '--output', '/dev/null', '--write-out', '%{http_code}'],
          ...[...who, `https://${ADDRESSES.s1}:6443/readyz`],
        ])
    const pair = '/var/lib/k0s/pki/admin'
    expect(await ask()).toBe('401')
    expect(await ask('--cert', `${pair}.crt`, '--key', `${pair}.key`)).toBe('200')
  })

  it('trap: without its token file a unit is inactive, not failed, and its start succeeds', async () => {
    await start('w1')
    const shown = await made
      .machine('w1')
      .ok(['systemctl', 'show', '-p', 'ActiveState,ConditionResult', 'k0s'])
    expect(shown.split('\n').toSorted()).toEqual(['', 'ActiveState=inactive', 'ConditionResult=no'])
  })

  it('R9: makes, lists and invalidates tokens; a list needs a role, and the unknown is invalidated without complaint', async () => {
    const token = await made.ok('s1', 'token', 'create', '--role', 'worker', '--expiry', '10m')
    const { id, text } = insideOf(token)
    expect(text).toContain('kubelet-bootstrap')
    expect(text).toContain(`https://${ADDRESSES.s1}:6443`)
    const list = await made.ok('s1', 'token', 'list', '--role', 'worker')
    expect(list).toMatch(/^ID +ROLE +EXPIRES AT/)
    expect(list).toMatch(new RegExp(`^${id} +worker +\\d{4}-\\d\\d-\\d\\dT`, 'm'))
    const refused = await made.run('s1', 'token', 'list')
    expect(refused).toMatchObject({ code: 1, stdout: '' })
    expect(refused.stderr).toContain('unsupported role ""')
    expect(await made.ok('s1', 'token', 'invalidate', id)).toBe(`token ${id} deleted successfully\n`)
    const other = insideOf(
      await made.ok('s1', 'token', 'create', '--role', 'controller', '--expiry', '10m'),
    ).id
    // There are some, of another role.
    expect(await made.ok('s1', 'token', 'list', '--role', 'worker')).toBe('')
    await made.ok('s1', 'token', 'invalidate', other)
    expect(await made.ok('s1', 'token', 'list', '--role', 'worker')).toBe('No k0s join tokens found\n')
    expect(await made.ok('s1', 'token', 'invalidate', 'abc123')).toContain('deleted successfully')
    expect((await made.run('s1', 'token', 'create', '--role', 'king')).code).toBe(1)
  })

  it('prepares a token in files, which counts once its secret is in the cluster', async () => {
    const folder = '/root/prepared'
    await made.machine('s1').ok(['mkdir', '-m', '700', folder])
    const about = ['--cert', '/var/lib/k0s/pki/ca.crt', '--url', `https://${ADDRESSES.s1}:9443`]
    const where = ['--role', 'controller', '--valid', '10m', '--out', folder]
    await made.ok('s1', 'token', 'pre-shared', ...about, ...where)
    const files = (await made.machine('s1').ok(['ls', folder])).trim().split('\n')
    const { id, text } = insideOf(await made.machine('s1').readFile(`${folder}/${files[1]}`))
    expect(files).toEqual([`bootstrap-token-${id}.yaml`, `token_${id}`])
    expect(text).toContain(`https://${ADDRESSES.s1}:9443`)
    expect(text).toContain('controller-bootstrap')
    expect(await made.ok('s1', 'token', 'list', '--role', 'controller')).not.toContain(id)
    await made.ok('s1', 'kubectl', 'create', '-f', `${folder}/bootstrap-token-${id}.yaml`)
    expect(await made.ok('s1', 'token', 'list', '--role', 'controller')).toMatch(
      new RegExp(`^${id} +controller +\\d{4}-`, 'm'),
    )
    await made.ok('s1', 'token', 'invalidate', id)
    const bare = await made.run('s1', 'token', 'pre-shared', '--role', 'worker')
    expect(bare).toMatchObject({ code: 1, stdout: '' })
    expect(bare.stderr).toContain('required flag(s) "cert", "url" not set')
  })

  it('K4: a token without --expiry never ends', async () => {
    const { id } = insideOf(await made.ok('s1', 'token', 'create'))
    expect(await made.ok('s1', 'token', 'list', '--role', 'worker')).toMatch(
      new RegExp(`^${id} +worker *$`, 'm'),
    )
    await made.ok('s1', 'token', 'invalidate', id)
  })

  it('joins a worker by its token, and a pod answers', async () => {
    const id = await giveToken('worker', 'w1')
    await start('w1')
    await made.untilReady('s1', 'w1', VERSION)
    await made.ok('s1', 'token', 'invalidate', id)
    expect(await made.askPod('s1', 's2')).toBe(WEB_ANSWER)
    expect(await made.askPod('s1', 'w1')).toBe(WEB_ANSWER)
    const { code, stderr } = await made.run('w1', 'token', 'create')
    expect(code).toBe(1)
    expect(stderr).toContain('failed to read cluster CA from')
  })

  it('trap: the status of a healthy worker says that it does not reach the API', async () => {
    const { stdout } = await made.run('w1', 'status', '-o', 'json')
    expect(JSON.parse(stdout)).toMatchObject({
      Role: 'worker',
      Workloads: true,
      WorkerToAPIConnectionStatus: { Success: false },
    })
  })

  it('needs a joined worker’s token no more: a dummy in its place does for a restart', async () => {
    await made.machine('w1').writeFile(TOKEN, '# used\n', '600')
    await stop('w1')
    const before = new Date()
    await start('w1')
    await made.untilReady('s1', 'w1', VERSION, before)
  })

  it('refuses a worker’s token for a controller, and an empty one for a worker', async () => {
    await giveToken('worker', 's2')
    const words = ['controller', '--config=/etc/k0s/k0s.yaml', `--token-file=${TOKEN}`]
    const wrong = await made.run('s2', ...words)
    expect(wrong.code).toBe(1)
    expect(wrong.stderr).toContain('wrong token type kubelet-bootstrap, expected type: controller-bootstrap')
    await made.machine('s2').writeFile(TOKEN, '')
    const empty = await made.run('s2', 'worker', '--ignore-pre-flight-checks', `--token-file=${TOKEN}`)
    expect(empty.code).toBe(1)
    expect(empty.stderr).toMatch(/token file "\/etc\/k0s\/k0stoken" is empty/)
    await made.run('s2', 'reset')
  })

  it('joins a second controller, as a voter', async () => {
    await giveToken('controller', 's2')
    await start('s2')
    await made.untilServing('s2')
    const both = Object.values(ADDRESSES).map(address => `https://${address}:2380`)
    await waitUntil(
      'two members',
      async () => ((await membersSeenBy('s1')).length === 2 ? true : undefined),
      COMES,
    )
    expect(await membersSeenBy('s1')).toEqual(both)
    expect(await membersSeenBy('s2')).toEqual(both)
  })

  it('lets a member leave at once, resets it only when it is stopped, and takes it back under its old name', async () => {
    await made.ok('s1', 'etcd', 'leave', '--peer-address', ADDRESSES.s2)
    expect(await membersSeenBy('s1')).toEqual([`https://${ADDRESSES.s1}:2380`])
    const early = await made.run('s2', 'reset')
    expect(early.code).toBe(1)
    expect(early.stderr).toContain('please stop k0s before reset')
    await stop('s2')
    await made.ok('s2', 'reset')
    expect(await made.machine('s2').ok(['ls', '-A', '/var/lib/k0s'])).toBe('')
    await giveToken('controller', 's2')
    await start('s2')
    await made.untilServing('s2')
    expect(await membersSeenBy('s2')).toHaveLength(2)
  })

  it('takes back a worker that was reset under its old name', async () => {
    await stop('w1')
    await made.ok('w1', 'reset')
    await made.ok('s1', 'kubectl', 'delete', 'node', 'w1')
    await giveToken('worker', 'w1')
    await start('w1')
    await made.untilReady('s1', 'w1', VERSION)
  })

  it('keeps a cluster in an archive, from which a fresh controller starts', async () => {
    const lost = await made.run('s1', 'backup', '--save-path', '/root/nowhere')
    expect(lost.code).toBe(1)
    expect(lost.stderr).toContain('does not exist')
    // It takes the configuration that lies at the usual place, whatever a controller was started with.
    const elsewhere = await made.run('s1', 'backup', '--config=/root/k0s.yaml', '--save-path', '/root')
    expect(elsewhere.stderr).toContain('unknown flag: --config')
    await made.ok('s1', 'kubectl', 'create', 'configmap', 'before')
    await made.machine('s1').ok(['mkdir', '-p', '/root/backup'])
    await made.ok('s1', 'backup', '--save-path', '/root/backup')
    const [archive = '', ...others] = (await made.machine('s1').ok(['ls', '/root/backup'])).trim().split('\n')
    expect(archive).toMatch(/^k0s_backup_.*\.tar\.gz$/)
    expect(others).toEqual([])
    await made.ok('s1', 'kubectl', 'create', 'configmap', 'after')
    for (const name of ['s1', 's2']) {
      await stop(name)
      await made.ok(name, 'reset')
    }
    await made.ok('s1', 'restore', `/root/backup/${archive}`, '--config-out', '/root/restored.yaml')
    await start('s1')
    await made.untilServing('s1')
    expect(await membersSeenBy('s1')).toEqual([`https://${ADDRESSES.s1}:2380`])
    const names = await made.ok('s1', 'kubectl', 'get', 'configmaps', '-o', 'name')
    expect(names).toContain('configmap/before')
    expect(names).not.toContain('configmap/after')
    await made.untilReady('s1', 'w1', VERSION, new Date())
  })

  it('refuses a worker of 1.35 where control groups are of the first version, unless told to go on', async () => {
    const path = `PATH=${programsIn('1.35.4')}:/usr/sbin:/usr/bin:/sbin:/bin`
    const words = ['env', path, packagedIn('k0s', '1.35.4'), 'worker', `--token-file=${TOKEN}`]
    const { code, stdout, stderr } = await made.machine('s2').exec(words)
    expect(code).toBe(1)
    expect(stdout + stderr).toContain('cgroup v1 is not supported')
  })
})
