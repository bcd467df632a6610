import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { DISTRIBUTIONS, parseClusterFacts } from './cluster-facts.ts'
import { readJoinSecret, writeJoinSecret } from './join-secret.ts'
import { redact } from './redact.ts'

const word = fc.stringMatching(/^[!-~]{1,60}$/)
const aSecret = fc.record({
  distribution: fc.constantFrom(...DISTRIBUTIONS),
  role: fc.constantFrom('server', 'worker', 'server+worker'),
  server: word,
  token: word,
  agentToken: fc.option(word, { nil: undefined }),
  files: fc
    .dictionary(fc.stringMatching(/^(etcd\/)?[a-z-]{1,20}\.(crt|key|pub)$/), fc.string())
    .map(files => new Map(Object.entries(files))),
  initialCluster: fc.option(word, { nil: undefined }),
})

describe('a join secret', () => {
  it('is read as it was written', () => {
    fc.assert(
      fc.property(aSecret, secret => {
        expect(readJoinSecret(writeJoinSecret(secret))).toEqual(secret)
      }),
    )
  })

  it.each([
    ['a file elsewhere', { files: { '../../etc/passwd.key': 'x' } }],
    ['a line more in a variable', { server: 'a:1\nEVIL=1' }],
    ['a line more in the token', { token: 'a\nb' }],
    ['another distribution', { distribution: 'other' }],
    ['no role', { role: undefined }],
    ['files that are none', { files: [] }],
    ['members with a line more', { initialCluster: 'n1=x\nA=b' }],
  ])('with %s is none', (_, change) => {
    const good = { distribution: 'k3s', role: 'worker', server: 'a:1', token: 't', files: {} }
    expect(readJoinSecret(JSON.stringify(good))).toBeDefined()
    expect(readJoinSecret(JSON.stringify({ ...good, ...change }))).toBeUndefined()
  })

  it('has a bound', () => {
    const secret = {
      distribution: 'k3s',
      role: 'worker',
      server: 'a:1',
      token: 't',
      files: { 'a.key': 'x'.repeat(100_000) },
    }
    expect(readJoinSecret(JSON.stringify(secret))).toBeUndefined()
  })
})

describe('what is told of a failure', () => {
  it.each([
    `K10${'a'.repeat(64)}::server:verysecret`,
    'token abcdef.0123456789abcdef refused',
    'password=verysecret',
    '-----BEGIN EC PRIVATE KEY-----\nverysecret\n-----END EC PRIVATE KEY-----',
    `H4sI${'verysecret'.repeat(30)}`,
  ])('holds no secret: %s', text => expect(redact(text)).not.toMatch(/verysecret|0123456789abcdef/))

  it('is one line with an end', () => {
    expect(redact('a\n  b\n')).toBe('a; b')
    expect(redact('word '.repeat(1_000)).length).toBeLessThan(700)
  })
})

describe('what the configuration says', () => {
  const good = {
    cluster: 'lab',
    distribution: 'k0s',
    role: 'server',
    life: 'apart',
    apiPort: 6443,
    certificateNames: [],
    servers: { n1: '10.0.0.1', n2: null },
    units: ['k0s.service'],
    programs: ['/p/bin'],
    version: null,
  }
  it('is read', () => {
    const reading = parseClusterFacts(JSON.stringify(good))
    expect(reading).toMatchObject({
      kind: 'facts',
      facts: { version: undefined, etcdDataDir: '/var/lib/etcd' },
    })
    if (reading.kind === 'facts') expect(reading.facts.servers.get('n2')).toBeUndefined()
    expect(reading).not.toHaveProperty('facts.kubelet')
  })

  it.each([
    [
      'components',
      undefined,
      { folder: '/var/lib/kubelet', runtime: 'unix:///run/containerd/containerd.sock' },
    ],
    [
      'kubernetes',
      undefined,
      { folder: '/var/lib/kubernetes', runtime: 'unix:///run/containerd/containerd.sock' },
    ],
    [
      'components',
      { folder: '/srv/kubelet', runtime: '/var/run/crio/crio.sock' },
      { folder: '/srv/kubelet', runtime: 'unix:///var/run/crio/crio.sock' },
    ],
    ['k0s', { folder: '/srv/kubelet' }, undefined],
  ])(
    'of a kubelet of %s says where its pods are and what runs them: %j',
    (distribution, kubelet, expected) => {
      const text = JSON.stringify({ ...good, distribution, kubelet, units: ['kubelet.service'] })
      const reading = parseClusterFacts(text)
      expect(reading.kind === 'facts' && reading.facts.kubelet).toEqual(expected)
    },
  )

  it.each([
    [{ cluster: '' }, 'cluster'],
    [{ distribution: 'rke2' }, 'distribution'],
    [{ role: 'king' }, 'role'],
    [{ apiPort: 0 }, 'apiPort'],
    [{ units: ['--help'] }, 'units'],
    [{ programs: ['bin'] }, 'programs'],
    [{ files: ['/etc/../root/x'] }, 'files'],
    [{ files: ['/srv/x'] }, 'files'],
    [{ servers: { n1: 3 } }, 'servers'],
    [{ etcdDataDir: 'etcd' }, 'etcdDataDir'],
    [{ etcdDataDir: '/etcd' }, 'etcdDataDir'],
    [{ etcdDataDir: '/srv/../etcd' }, 'etcdDataDir'],
    [{ distribution: 'components', kubelet: { folder: '/kubelet' } }, 'kubelet'],
    [{ distribution: 'components', kubelet: { runtime: 'tcp://10.0.0.1:1' } }, 'kubelet'],
  ])('and refused with the field: %j', (change, field) => {
    const reading = parseClusterFacts(JSON.stringify({ ...good, ...change }))
    expect(reading).toMatchObject({ kind: 'unreadable', reason: expect.stringContaining(`${field}: wanted`) })
  })
})
