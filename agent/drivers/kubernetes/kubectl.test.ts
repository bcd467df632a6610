import { once } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { sha256Hex } from '../../../shared/ids.ts'
import { type Authority, createAuthority, openAuthority } from '../../../shared/x509/authority.ts'
import { issueCertificate } from '../../../shared/x509/issue-certificate.ts'
import { generateMachineKey } from '../../../shared/x509/machine-key.ts'
import { createScriptedSystem, type Script, type ScriptedSystem } from '../testing/scripted-system.ts'
import { askApi } from './ask-api.ts'
import { createKubectl, isNotFound, type Kubectl } from './kubectl.ts'

interface Asked {
  readonly method: string
  readonly url: string
  readonly contentType: string | undefined
  readonly body: string
  /** Whether whoever asked showed a certificate of the authority. */
  readonly known: boolean
}

const CONF = '/etc/kubernetes/admin.conf'
const DATES = { notBefore: new Date(Date.now() - 86_400_000), notAfter: new Date(Date.now() + 86_400_000) }

let root: string
let server: Server
let authority: Authority
let foreign: Authority
let admin: { readonly cert: string; readonly key: string }
const asked: Asked[] = []
let answer: (response: ServerResponse, asked: Asked) => void

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'muster-kubectl-'))
  const [own, other, serverKey, adminKey] = await Promise.all([
    createAuthority({ ...DATES, bits: 2048 }).then(openAuthority),
    createAuthority({ ...DATES, bits: 2048 }).then(openAuthority),
    generateMachineKey(2048),
    generateMachineKey(2048),
  ])
  authority = own
  foreign = other
  const issue = (publicKeyDer: Uint8Array, kind: 'server' | 'operator') =>
    issueCertificate({
      authority,
      subject: { kind, id: sha256Hex(publicKeyDer) },
      publicKeyDer,
      ...DATES,
      ...(kind === 'server'
        ? {
            sans: [
              { kind: 'ip', value: '127.0.0.1' },
              { kind: 'dns', value: 'localhost' },
            ],
          }
        : {}),
    }).certificatePem
  admin = { cert: issue(adminKey.publicKeyDer, 'operator'), key: adminKey.privateKeyPem }
  server = createServer(
    {
      key: serverKey.privateKeyPem,
      cert: issue(serverKey.publicKeyDer, 'server'),
      ca: authority.certificatePem,
      requestCert: true,
      rejectUnauthorized: false,
    },
    (request, response) => void take(request, response),
  ).listen(0, '127.0.0.1')
  await once(server, 'listening')
})

afterAll(async () => {
  server.closeAllConnections()
  server.close()
  await rm(root, { recursive: true, force: true })
})

beforeEach(() => {
  asked.length = 0
  answer = json({ kind: 'Node' })
})

async function take(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const pieces: Buffer[] = []
  for await (const piece of request) pieces.push(piece)
  const { method = '', url = '', headers, socket } = request
  const known = 'authorized' in socket && socket.authorized === true
  const one = {
    method,
    url,
    contentType: headers['content-type'],
    body: Buffer.concat(pieces).toString('utf8'),
    known,
  }
  asked.push(one)
  answer(response, one)
}

const json =
  (value: unknown, status = 200) =>
  (response: ServerResponse) =>
    void response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value))

const base64 = (text: string) => Buffer.from(text).toString('base64')

interface Conf {
  readonly cluster?: Readonly<Record<string, unknown>>
  readonly user?: Readonly<Record<string, unknown>>
  readonly port?: number
}

/** A kubeconfig of two contexts, of which the second counts. */
function confOf({ cluster, user, port = (server.address() as AddressInfo).port }: Conf = {}) {
  return {
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'here',
    contexts: [
      { name: 'elsewhere', context: { cluster: 'elsewhere', user: 'elsewhere' } },
      { name: 'here', context: { cluster: 'own', user: 'admin' } },
    ],
    clusters: [
      { name: 'elsewhere', cluster: { server: 'https://127.0.0.1:1' } },
      {
        name: 'own',
        cluster: {
          server: `https://127.0.0.1:${port}`,
          'certificate-authority-data': base64(authority.certificatePem),
          ...cluster,
        },
      },
    ],
    users: [
      {
        name: 'admin',
        user: {
          'client-certificate-data': base64(admin.cert),
          'client-key-data': base64(admin.key),
          ...user,
        },
      },
    ],
  }
}

/** JSON is YAML. */
async function open(
  conf: unknown,
  script: Script = [],
): Promise<{ readonly kubectl: Kubectl; readonly system: ScriptedSystem }> {
  const folder = await mkdtemp(join(root, 'machine-'))
  const system = createScriptedSystem(folder, script)
  await mkdir(join(folder, 'etc/kubernetes'), { recursive: true })
  if (conf !== undefined)
    await writeFile(join(folder, CONF), typeof conf === 'string' ? conf : JSON.stringify(conf))
  await writeFile(join(folder, 'etc/kubernetes/ca.crt'), authority.certificatePem)
  await writeFile(join(folder, 'etc/kubernetes/both.pem'), `${admin.cert}${admin.key}`)
  await writeFile(join(folder, 'etc/kubernetes/admin.crt'), admin.cert)
  await writeFile(join(folder, 'etc/kubernetes/admin.key'), admin.key)
  const programs = { system, folders: [] }
  const before = [`--kubeconfig=${CONF}`]
  return {
    kubectl: createKubectl({ programs, program: 'kubectl', before, kubeconfig: CONF, askApi }),
    system,
  }
}

describe('an API server is asked directly', () => {
  it('as the one that the kubeconfig names, and no program is started for it', async () => {
    const { kubectl, system } = await open(confOf())
    answer = json({ kind: 'Node', metadata: { name: 'n1' } })
    expect(await kubectl.get('/api/v1/nodes/n1')).toEqual({
      kind: 'done',
      value: { kind: 'Node', metadata: { name: 'n1' } },
    })
    answer = response => void response.end('ok')
    expect(await kubectl.getText('/readyz')).toEqual({ kind: 'done', value: 'ok' })
    expect(asked).toMatchObject([
      { method: 'GET', url: '/api/v1/nodes/n1', known: true },
      { method: 'GET', url: '/readyz', known: true },
    ])
    expect(system.ran).toEqual([])
  })

  it('also where the kubeconfig names files beside itself', async () => {
    const { kubectl } = await open(
      confOf({
        user: {
          'client-certificate-data': undefined,
          'client-key-data': undefined,
          'client-certificate': 'admin.crt',
          'client-key': `/etc/kubernetes/admin.key`,
        },
      }),
    )
    expect(await kubectl.get('/api/v1/nodes/n1')).toMatchObject({ kind: 'done' })
    expect(asked).toMatchObject([{ known: true }])
  })

  it('page by page for a list', async () => {
    const { kubectl } = await open(confOf())
    answer = (response, { url }) => {
      const next = new URL(url, 'https://x').searchParams.get('continue')
      json(next === null ? { items: [{ n: 1 }], metadata: { continue: 'a+b/c' } } : { items: [{ next }] })(
        response,
      )
    }
    expect(await kubectl.list('/api/v1/nodes', 10)).toEqual({
      kind: 'done',
      value: [{ n: 1 }, { next: 'a+b/c' }],
    })
    expect(asked).toHaveLength(2)
  })

  it('to create, patch and remove', async () => {
    const { kubectl, system } = await open(confOf())
    await kubectl.create('/api/v1/namespaces/x/pods/p/eviction', { kind: 'Eviction' })
    await kubectl.patchNode('n1', { spec: { unschedulable: true } })
    await kubectl.remove('/api/v1/nodes/n1', 'u1')
    expect(asked).toMatchObject([
      {
        method: 'POST',
        url: '/api/v1/namespaces/x/pods/p/eviction',
        contentType: 'application/json',
        body: '{"kind":"Eviction"}',
      },
      {
        method: 'PATCH',
        url: '/api/v1/nodes/n1',
        contentType: 'application/merge-patch+json',
        body: '{"spec":{"unschedulable":true}}',
      },
      { method: 'DELETE', url: '/api/v1/nodes/n1', contentType: 'application/json' },
    ])
    expect(JSON.parse(asked[2]?.body ?? '')).toMatchObject({ preconditions: { uid: 'u1' } })
    expect(system.ran).toEqual([])
  })

  it('and its own word for a failure is kept, without what looks like a secret', async () => {
    const { kubectl } = await open(confOf())
    answer = json({ kind: 'Status', reason: 'NotFound', message: 'nodes "n9" not found' }, 404)
    const missing = await kubectl.get('/api/v1/nodes/n9')
    expect(missing).toMatchObject({ kind: 'failed', class: 'not-found', status: 'NotFound' })
    expect(missing).toMatchObject({ reason: expect.stringContaining('nodes "n9" not found') })
    expect(isNotFound(missing)).toBe(true)
    answer = json(
      { kind: 'Status', reason: 'TooManyRequests', message: 'token: abcdef.0123456789abcdef' },
      429,
    )
    const busy = await kubectl.create('/x', {})
    expect(busy).toMatchObject({ kind: 'failed', class: 'command', status: 'TooManyRequests' })
    expect(JSON.stringify(busy)).not.toContain('0123456789abcdef')
    // Of a server that is not well, in words; and of whatever stands before one.
    answer = response =>
      void response.writeHead(500).end('[-]etcd failed: reason withheld\nreadyz check failed')
    const unwell = await kubectl.getText('/readyz')
    expect(unwell).toMatchObject({ kind: 'failed', class: 'command' })
    expect(unwell).toMatchObject({ reason: expect.stringContaining('[-]etcd failed') })
    expect(isNotFound(unwell)).toBe(false)
  })

  it('and of a kind that it does not know it says so in words, which is NotFound as kubectl has it', async () => {
    const { kubectl } = await open(confOf())
    answer = response => void response.writeHead(404).end('404 page not found\n')
    const missing = await kubectl.get('/apis/none.example/v1')
    expect(isNotFound(missing)).toBe(true)
    expect(missing).toMatchObject({ class: 'not-found', status: 'NotFound', said: '404 page not found' })
    // What is no such word of it stays what it is.
    answer = json({ kind: 'Status', message: 'x' }, 404)
    expect(isNotFound(await kubectl.get('/a'))).toBe(false)
  })

  it('again when it says when, and never twice what would be done twice', async () => {
    const { kubectl } = await open(confOf())
    const busy = (response: ServerResponse) => {
      response.setHeader('retry-after', '1')
      json({ kind: 'Status', reason: 'TooManyRequests', message: 'later' }, 429)(response)
    }
    answer = response => (asked.length === 1 ? busy(response) : json({ kind: 'Node' })(response))
    expect(await kubectl.get('/api/v1/nodes/n1')).toMatchObject({ kind: 'done' })
    expect(asked).toHaveLength(2)
    asked.length = 0
    answer = busy
    expect(await kubectl.create('/eviction', {})).toMatchObject({ status: 'TooManyRequests', said: 'later' })
    expect(asked).toHaveLength(1)
    // Over the time it is what the server said, and not that it was late.
    const access = await accessOf(confOf())
    const one = { method: 'GET', path: '/', maxAnswerBytes: 1_000, deadlineMs: 300 } as const
    expect(await askApi(access, one)).toMatchObject({ class: 'command', status: 'TooManyRequests' })
  })

  it('by the name of a server, and with certificate and key in one file as a kubelet keeps them', async () => {
    const { port } = server.address() as AddressInfo
    const { kubectl, system } = await open(
      confOf({
        cluster: {
          server: `https://localhost:${port}`,
          'certificate-authority-data': '',
          'certificate-authority': 'ca.crt',
        },
        user: {
          'client-certificate-data': '',
          'client-key-data': undefined,
          'client-certificate': 'both.pem',
          'client-key': '/etc/kubernetes/both.pem',
        },
      }),
    )
    expect(await kubectl.get('/api/v1/nodes/n1')).toMatchObject({ kind: 'done' })
    expect(asked).toMatchObject([{ known: true }])
    expect(system.ran).toEqual([])
  })

  it('and an answer that is cut off, too long or no JSON is none', async () => {
    const { kubectl } = await open(confOf())
    answer = response => {
      response.writeHead(200, { 'content-length': 100 })
      response.write('{"kind":"Node"}', () => response.destroy())
    }
    expect(await kubectl.get('/a')).toMatchObject({ kind: 'failed', class: 'command' })
    answer = response => void response.end('ok')
    expect(await kubectl.get('/a')).toMatchObject({ kind: 'failed', class: 'unreadable' })
    answer = response => void response.end(Buffer.alloc(17 * 1024 * 1024, ' '))
    expect(await kubectl.getText('/a')).toMatchObject({ kind: 'failed', class: 'unreadable' })
  })

  it('and nobody who answers within the time is a failure of its own, as is a person who cancels', async () => {
    const { url, ca, cert, key } = await accessOf(confOf())
    answer = () => {}
    const one = { method: 'GET', path: '/', maxAnswerBytes: 100, deadlineMs: 200 } as const
    expect(await askApi({ url, ca, cert, key }, one)).toMatchObject({ kind: 'failed', class: 'timed-out' })
    const stop = new AbortController()
    const running = askApi({ url, ca, cert, key }, { ...one, deadlineMs: 60_000, signal: stop.signal })
    stop.abort()
    expect(await running).toMatchObject({ kind: 'failed', class: 'cancelled' })
    const { kubectl } = await open(confOf({ port: 1 }))
    expect(await kubectl.getText('/readyz')).toMatchObject({
      kind: 'failed',
      class: 'command',
      reason: expect.stringContaining('ECONNREFUSED'),
    })
  })

  it('only if it is of the authority that the kubeconfig names', async () => {
    const ca = base64(foreign.certificatePem)
    const { kubectl, system } = await open(confOf({ cluster: { 'certificate-authority-data': ca } }))
    expect(await kubectl.getText('/readyz')).toMatchObject({ kind: 'failed', class: 'command' })
    expect([asked, system.ran]).toEqual([[], []])
  })
})

describe('it is asked by way of kubectl', () => {
  const script: Script = [[/get --raw \/readyz/, 'ok']]

  it.each<[string, () => unknown]>([
    ['there is no kubeconfig', () => undefined],
    ['it is no YAML', () => '{'],
    ['a token is shown', () => confOf({ user: { token: 'x' } })],
    ['a program says who asks', () => confOf({ user: { exec: { command: 'x' } } })],
    ['the server need not be the right one', () => confOf({ cluster: { 'insecure-skip-tls-verify': true } })],
    ['a proxy stands between', () => confOf({ cluster: { 'proxy-url': 'http://127.0.0.1:3128' } })],
    ['the server has a path', () => confOf({ cluster: { server: 'https://127.0.0.1/k8s' } })],
    ['nothing protects the way', () => confOf({ cluster: { server: 'http://127.0.0.1' } })],
    ['there is nothing in it', () => confOf({ user: { 'client-key-data': '' } })],
    ['a file is missing', () => confOf({ user: { 'client-key-data': undefined, 'client-key': 'none' } })],
    ['the context is not there', () => ({ ...confOf(), 'current-context': 'other' })],
  ])('where %s', async (_, conf) => {
    const { kubectl, system } = await open(conf(), script)
    expect(await kubectl.getText('/readyz')).toEqual({ kind: 'done', value: 'ok' })
    expect(system.ran.map(({ line }) => line)).toEqual([
      `kubectl --kubeconfig=${CONF} get --raw /readyz --request-timeout=20s`,
    ])
    expect(asked).toEqual([])
  })

  it('to apply', async () => {
    const { kubectl, system } = await open(confOf(), [[/ apply /, '{"kind":"Pod"}']])
    expect(await kubectl.apply([{ kind: 'Pod' }], 'muster')).toEqual({
      kind: 'done',
      value: [{ kind: 'Pod' }],
    })
    expect(system.ran).toHaveLength(1)
  })
})

async function accessOf(conf: ReturnType<typeof confOf>) {
  const { readKubeconfig } = await import('./read-kubeconfig.ts')
  const access = await readKubeconfig(CONF, JSON.stringify(conf), async () => undefined)
  if (!access) throw new Error('the kubeconfig names no way')
  return access
}
