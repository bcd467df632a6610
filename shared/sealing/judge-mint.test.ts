import { generateKeyPairSync } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { ClusterRole } from '../gen/muster/v1/cluster_pb.ts'
import { keyId } from '../x509/key-id.ts'
import { judgeMint, type MintRequest, type NamedCluster } from './judge-mint.ts'

function makeKey() {
  const der = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey.export({
    format: 'der',
    type: 'spki',
  })
  return { der, id: keyId(der) }
}
const server = makeKey()
const joiner = makeKey()
const worker = makeKey()
const stranger = makeKey()

const named: NamedCluster = {
  cluster: 'home',
  members: [
    { host: 'a', role: 'server', machine: server.id },
    { host: 'b', role: 'server+worker', machine: joiner.id },
    { host: 'c', role: 'server', machine: undefined },
    { host: 'd', role: 'worker', machine: worker.id },
    { host: 'e', role: 'worker', machine: undefined },
  ],
  admitsWorkers: false,
}
const request: MintRequest = {
  cluster: 'home',
  host: 'b',
  role: ClusterRole.SERVER_AND_WORKER,
  joinerKey: joiner.der,
  lifetimeMs: 600_000,
}
const judge = (change: Partial<MintRequest>, by = server.id, of = named) =>
  judgeMint(of, by, { ...request, ...change })

describe('a server that is asked to mint', () => {
  it('mints for the key that the signed manifest binds the host to', () => {
    expect(judge({})).toEqual({ kind: 'mint', recipient: joiner.id })
    const { role, joinerKey } = { role: ClusterRole.WORKER, joinerKey: worker.der }
    expect(judge({ host: 'd', role, joinerKey })).toEqual({ kind: 'mint', recipient: worker.id })
  })

  it('refuses a key that the coordinator put in its place, for servers and workers', () => {
    expect(judge({ joinerKey: stranger.der })).toMatchObject({ class: 'key' })
    expect(judge({ host: 'd', role: ClusterRole.WORKER, joinerKey: stranger.der })).toMatchObject({
      class: 'key',
    })
  })

  it('refuses a server that is not bound to a key, and a role that is not the host’s', () => {
    expect(judge({ host: 'c', role: ClusterRole.SERVER, joinerKey: stranger.der })).toMatchObject({
      class: 'key',
      reason: expect.stringContaining('publish'),
    })
    expect(judge({ host: 'd', role: ClusterRole.SERVER, joinerKey: worker.der })).toMatchObject({
      class: 'role',
    })
    expect(judge({ role: ClusterRole.UNSPECIFIED })).toMatchObject({ class: 'role' })
  })

  it('gives a worker bound by other hardware its token, and one admitted by a rule where there is one', () => {
    const role = ClusterRole.WORKER
    expect(judge({ host: 'e', role, joinerKey: stranger.der })).toMatchObject({ kind: 'mint' })
    const asked = { host: 'edge-1', role, joinerKey: stranger.der }
    expect(judge(asked)).toMatchObject({ class: 'host' })
    const open = { ...named, admitsWorkers: true }
    expect(judge(asked, server.id, open)).toMatchObject({ kind: 'mint' })
    expect(judge({ ...asked, role: ClusterRole.SERVER }, server.id, open)).toMatchObject({ class: 'host' })
    // A key that has a host cannot come in again under another name.
    expect(judge({ ...asked, joinerKey: worker.der }, server.id, open)).toMatchObject({ class: 'host' })
  })

  it('mints on a server of that cluster alone, and for ten minutes at most', () => {
    expect(judge({}, worker.id)).toMatchObject({ class: 'not-a-server' })
    expect(judge({}, stranger.id)).toMatchObject({ class: 'not-a-server' })
    expect(judge({ cluster: 'away' })).toMatchObject({ class: 'cluster' })
    for (const lifetimeMs of [0, 59_999, 600_001, 3_600_000, Number.NaN]) {
      expect(judge({ lifetimeMs })).toMatchObject({ class: 'lifetime' })
    }
    expect(judge({ joinerKey: joiner.der.subarray(1) })).toMatchObject({ class: 'key' })
  })
})
