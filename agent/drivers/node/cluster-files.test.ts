import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createRootedFiles } from '../../system/rooted-files.ts'
import { AUTHORITY_PEM } from '../testing/driver-fixture.ts'
import { createScriptedSystem } from '../testing/scripted-system.ts'
import { authorityId, readCertificateEnds } from './certificates.ts'
import { type ClusterFiles, createClusterFiles } from './cluster-files.ts'
import { readDiskData } from './disk-data.ts'

let root = ''
let files: ClusterFiles
let sealedOf: string[] = []
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'muster-cluster-files-'))
  sealedOf = []
  files = createClusterFiles({
    stateDir: '/state',
    runDir: '/run/muster-cluster',
    root,
    seal: async (name, bytes) => {
      // What a boot needs is on the disk before the units can see it.
      expect(await readdir(`${root}/run/muster-cluster`)).not.toContain(name)
      sealedOf.push(name)
      return Buffer.from(bytes).reverse()
    },
  })
})
afterEach(async () => await rm(root, { recursive: true }))
const put = async (path: string, text: string) => {
  await mkdir(dirname(root + path), { recursive: true })
  await writeFile(root + path, text)
}

describe('files of a cluster', () => {
  it('are for root alone, sealed first and open then, with what units wait for at the end', async () => {
    await files.put('token', 'secret')
    await files.setReady()
    expect(sealedOf).toEqual(['token', 'ready'])
    expect((await stat(`${root}/run/muster-cluster/token`)).mode & 0o777).toBe(0o600)
    expect((await stat(`${root}/run/muster-cluster`)).mode & 0o777).toBe(0o700)
    expect(await readFile(`${root}/state/sealed/token`, 'utf8')).toBe('terces')
    expect(await files.get('token')).toBe('secret')
    expect(await files.get('agent-token')).toBeUndefined()
  })

  it('are all taken back, and marks stay what they are', async () => {
    await files.put('token', 'secret')
    await files.setReady()
    await files.mark('begun', 'op1')
    await files.clear()
    expect(await readdir(`${root}/run/muster-cluster`)).toEqual([])
    expect(await readdir(`${root}/state/sealed`)).toEqual([])
    expect(await files.readMark('begun')).toBe('op1')
    await files.unmark('begun')
    await files.unmark('begun')
    expect(await files.readMark('begun')).toBeUndefined()
    await files.clear()
  })

  it('that are not there are no failure to list, move or remove', async () => {
    expect(await files.list('/nowhere')).toEqual([])
    expect(await files.move('/nowhere', '/elsewhere')).toBe(false)
    await files.remove('/no/where')
    expect(await files.read('/nowhere')).toBeUndefined()
  })
})

describe('data on a disk', () => {
  const read = async () => await readDiskData(createScriptedSystem(root, []))

  it('is none on an empty one', async () => expect(await read()).toEqual({ kind: 'none' }))

  it.each([
    ['k3s', true, '/var/lib/rancher/k3s/server/db/etcd/x', '/var/lib/rancher/k3s/server/tls/server-ca.crt'],
    [
      'k3s',
      false,
      '/var/lib/rancher/k3s/agent/client-kubelet.crt',
      '/var/lib/rancher/k3s/agent/server-ca.crt',
    ],
    ['k0s', true, '/var/lib/k0s/etcd/member/x', '/var/lib/k0s/pki/ca.crt'],
    ['k0s', false, '/var/lib/k0s/kubelet.conf', '/var/lib/k0s/pki/ca.crt'],
    ['kubernetes', true, '/var/lib/etcd/member/x', '/var/lib/kubernetes/pki/ca.crt'],
    ['kubernetes', true, '/etc/kubernetes/pki/ca.key', '/etc/kubernetes/pki/ca.crt'],
    ['kubernetes', false, '/var/lib/kubernetes/kubelet.conf', '/var/lib/kubernetes/pki/ca.crt'],
    ['easyCerts', true, '/var/lib/cfssl/ca-key.pem', '/var/lib/cfssl/ca.pem'],
    [
      'easyCerts',
      true,
      '/var/lib/kubernetes/secrets/kube-apiserver.pem',
      '/var/lib/kubernetes/secrets/ca.pem',
    ],
    [
      'easyCerts',
      false,
      '/var/lib/kubernetes/secrets/kubelet-client.pem',
      '/var/lib/kubernetes/secrets/ca.pem',
    ],
  ])('of %s, server %s, is told by %s', async (distribution, server, path, authority) => {
    await put(path, 'x')
    expect(await read()).toMatchObject({ kind: 'unreadable', reason: expect.stringContaining('authority') })
    await put(authority, AUTHORITY_PEM)
    expect(await read()).toEqual({
      kind: 'cluster',
      distribution,
      server,
      authority: authorityId(Buffer.from(AUTHORITY_PEM)),
    })
  })

  it('of a master with easyCerts is told by its authority, whose datastore lies where every etcd has it', async () => {
    await put('/var/lib/etcd/member/wal', 'x')
    await put('/var/lib/cfssl/ca-key.pem', 'x')
    await put('/var/lib/kubernetes/secrets/ca.pem', AUTHORITY_PEM)
    expect(await read()).toMatchObject({ kind: 'cluster', distribution: 'easyCerts', server: true })
  })

  it('of easyCerts does not count beside that of a cluster of ours: somebody left it there', async () => {
    await put('/var/lib/kubernetes/kubelet.conf', 'x')
    await put('/var/lib/kubernetes/pki/ca.crt', AUTHORITY_PEM)
    await put('/var/lib/cfssl/ca-key.pem', 'x')
    await put('/var/lib/cfssl/ca.pem', 'no certificate')
    expect(await read()).toMatchObject({ kind: 'cluster', server: false })
  })

  it('of a worker whose kubeconfig holds the authority needs no other file', async () => {
    const data = Buffer.from(AUTHORITY_PEM).toString('base64')
    await put('/var/lib/k0s/kubelet.conf', `clusters:\n- cluster:\n    certificate-authority-data: ${data}\n`)
    expect(await read()).toMatchObject({ authority: authorityId(Buffer.from(AUTHORITY_PEM)) })
  })

  it('that cannot be looked at is not none', async () => {
    const system = createScriptedSystem(root, [])
    const blind = { ...system, exists: async () => ({ kind: 'unreadable', code: 'EACCES' }) as const }
    expect(await readDiskData(blind)).toEqual({
      kind: 'unreadable',
      reason: expect.stringContaining('EACCES'),
    })
  })
})

describe('certificates', () => {
  it('tell their ends, and a damaged one is a failure', async () => {
    await put('/pki/ca.crt', `leading text\n${AUTHORITY_PEM}`)
    await put('/pki/ca.key', 'not read')
    const ends = await readCertificateEnds(files, ['/pki', '/nowhere'])
    expect(ends).toMatchObject({ kind: 'done', value: [{ path: '/pki/ca.crt', authority: true }] })
    await put('/pki/bad.crt', 'x')
    expect(await readCertificateEnds(files, ['/pki'])).toMatchObject({ class: 'unreadable' })
    expect((await createRootedFiles(root).exists('/pki/ca.key')).kind).toBe('present')
  })
})
