import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { describe, expect, it } from 'vitest'
import {
  type ClusterEntrySchema,
  type JobGateSchema,
  KubernetesTargetSchema,
  ManifestSchema,
  TargetSchema,
} from '../gen/muster/v1/manifest_pb.ts'
import { contradiction, readClusters, sortedClusters } from './clusters.ts'
import { judgeRevision } from './judge-revision.ts'
import { encodeTarget } from './read-target.ts'
import { sameContent } from './same-content.ts'
import { sampleInput, samplePayloadInput, sampleRevision, sampleTarget } from './testing/sample-fleet.ts'

const key = (letter: string) => letter.repeat(64)
const home = (
  change: MessageInitShape<typeof ClusterEntrySchema> = {},
): MessageInitShape<typeof ClusterEntrySchema> => ({
  name: 'home',
  distribution: 'k3s',
  version: '1.34.3',
  endpoint: '10.0.100.9',
  members: [
    { host: 'olaf', role: 'server', machine: key('a') },
    { host: 'nils', role: 'worker' },
  ],
  ...change,
})
const hosts = new Map(['olaf', 'nils', 'nas'].map(host => [host, key('0')]))
const read = (...clusters: MessageInitShape<typeof ClusterEntrySchema>[]) =>
  readClusters(create(ManifestSchema, { clusters }), hosts)

describe('the clusters of a manifest', () => {
  it('are read into plain types, and none is no fault', () => {
    expect(read()).toEqual(new Map())
    expect(read(home({ version: '', endpoint: '', admitsWorkers: true }))).toEqual(
      new Map([
        [
          'home',
          {
            cluster: 'home',
            distribution: 'k3s',
            version: undefined,
            endpoint: undefined,
            gates: [],
            admitsWorkers: true,
            members: [
              { host: 'olaf', role: 'server', machine: key('a') },
              { host: 'nils', role: 'worker', machine: undefined },
            ],
          },
        ],
      ]),
    )
  })

  const member = (host: string, role = 'worker', machine = '') => ({ members: [{ host, role, machine }] })
  const two = (host: string) => ({ host, role: 'server', machine: key('a') })
  it.each([
    ['a name that is none', [home({ name: 'Home!' })], 'a name must be'],
    ['a cluster twice', [home(), home({ members: [] })], 'home: stands there twice'],
    ['another distribution', [home({ distribution: 'rke2' })], 'distribution: must be k3s'],
    ['a version that is none', [home({ version: '1.34' })], 'version: must be such as 1.34.3'],
    ['an endpoint with a scheme', [home({ endpoint: 'https://x/' })], 'endpoint: must be'],
    ['a member the revision has no target for', [home(member('ghost'))], '"ghost": is no host'],
    ['a host in two clusters', [home(), home({ name: 'b', ...member('olaf') })], 'olaf: is named twice'],
    ['a role that is none', [home(member('nas', 'none'))], 'nas: role must be'],
    ['a key that is none', [home(member('nas', 'server', 'abc'))], 'nas: machine must be'],
    ['one machine as two members', [home({ members: [two('olaf'), two('nas')] })], 'another member too'],
    ['more than anybody has', Array.from({ length: 101 }, (_, n) => home({ name: `c${n}` })), 'at most 100'],
  ])('are refused with %s', (_, clusters, reason) => {
    expect(read(...clusters)).toContain(reason)
  })

  const job = (change: MessageInitShape<typeof JobGateSchema> = {}) =>
    home({ gates: [{ name: 'smoke', path: 'gates/smoke.yaml', ...change }] })
  it('bring the Jobs that are asked before they are touched, in order of their names', () => {
    const gates = [
      { name: 'web', path: 'gates/web.json', deadline: { seconds: 30n } },
      { name: 'smoke', path: 'gates/smoke.yaml' },
    ]
    const sorted = sortedClusters([home({ gates })])
    const clusters = read(...sorted)
    if (typeof clusters === 'string') throw new Error(clusters)
    expect(clusters.get('home')?.gates).toEqual([
      { name: 'smoke', path: 'gates/smoke.yaml', deadlineMs: 120_000 },
      { name: 'web', path: 'gates/web.json', deadlineMs: 30_000 },
    ])
  })

  it.each([
    ['a name that is none', job({ name: 'Smoke' }), 'gates: a name must be'],
    ['a path out of the tree', job({ path: '../smoke.yaml' }), 'gate smoke job: write the path'],
    ['a file of another kind', job({ path: 'gates/smoke.sh' }), 'gate smoke job: write the path'],
    ['no time', job({ deadline: { seconds: 0n } }), 'gate smoke deadline: must be from'],
    ['more time than a drained host has', job({ deadline: { seconds: 241n } }), 'gate smoke deadline'],
    ['one twice', home({ gates: [...job().gates!, ...job().gates!] }), 'gate smoke: stands there twice'],
    [
      'more than anybody has',
      home({ gates: Array.from({ length: 17 }, (_, n) => ({ name: `g${n}`, path: 'a.yaml' })) }),
      'more than 16 gates',
    ],
  ])('are refused with Jobs that have %s', (_, cluster, reason) => {
    expect(read(cluster)).toContain(reason)
  })

  it('must say of a target what the target says of itself', () => {
    const clusters = read(home(), home({ name: 'b', members: [] }))
    if (typeof clusters === 'string') throw new Error(clusters)
    const olaf = sampleTarget({ binding: { machine: key('a') } })
    expect(contradiction(clusters, olaf)).toBeUndefined()
    expect(contradiction(new Map(), olaf)).toBeUndefined()
    expect(contradiction(clusters, { ...olaf, role: 'worker' })).toContain('another role or machine')
    expect(contradiction(clusters, sampleTarget())).toContain('another role or machine')
    expect(contradiction(clusters, { ...olaf, cluster: 'b' })).toContain('has it in cluster home')
    expect(contradiction(clusters, { ...olaf, cluster: 'c' })).toContain('knows no cluster c')
    expect(contradiction(clusters, { ...olaf, cluster: '', role: 'none' })).toContain('in cluster home')
    expect(contradiction(clusters, { ...olaf, host: '', group: 'edge' })).toContain('admits no workers')
  })

  it('travel in the revision; a node refuses one that contradicts its own target', () => {
    const target = sampleTarget({ binding: { diskSerial: 'S4EVNX0M123456', machine: key('a') } })
    const members = [{ host: 'olaf', role: 'server', machine: key('a') }]
    const revision = sampleRevision({ targets: [target], clusters: [home({ members })] })
    expect(revision.manifest.clusters.get('home')?.members).toHaveLength(1)
    const plain = sampleRevision({ targets: [target] })
    expect(sameContent(plain.manifest, plain.manifest)).toBe(true)
    expect(sameContent(plain.manifest, revision.manifest)).toBe(false)
    expect(() => sampleRevision({ targets: [target], clusters: [home({ members: [] })] })).toThrow(
      'does not have it in cluster home',
    )
    // Nobody publishes such a revision with our programs; a node does not rest on that.
    const forged = toBinary(ManifestSchema, {
      ...revision.manifest.manifest,
      clusters: [create(ManifestSchema, { clusters: [home({ members: [] })] }).clusters[0]!],
    })
    const input = { ...samplePayloadInput(forged), targetBytes: revision.targets[0]!.bytes }
    expect(judgeRevision(input)).toMatchObject({
      class: 'target-mismatch',
      reason: expect.stringContaining('does not have it in cluster home'),
    })
  })
})

describe('the Kubernetes of a target', () => {
  const attribute = 'nixosConfigurations.olaf.config.muster.kubernetes.profile.package'
  const source = (value = attribute) => ({ case: 'source', value: { attribute: value } }) as const
  const target = (kubernetes: MessageInitShape<typeof KubernetesTargetSchema>, change: object = {}) =>
    create(TargetSchema, {
      ...sampleTarget(),
      kubernetes: create(KubernetesTargetSchema, kubernetes),
      ...change,
    })

  it('comes with the system, or apart from the tree or a store', () => {
    for (const kubernetes of [{}, { version: '1.34.3' }, { apart: true, way: source() }]) {
      expect(encodeTarget(target(kubernetes)).digest).toHaveLength(64)
    }
  })

  it.each<readonly [string, MessageInitShape<typeof KubernetesTargetSchema>, object, string]>([
    ['a version that is none', { version: 'latest' }, {}, 'version: must be'],
    ['no role', {}, { role: 'none' }, 'belongs to a member'],
    ['a way although it comes with the system', { way: source() }, {}, 'has a way of its own'],
    ['no way although it lives apart', { apart: true }, {}, 'neither source nor closure'],
    [
      'an attribute that leaves the tree',
      { apart: true, way: source(`${attribute}#x`) },
      {},
      'must be nixosConf',
    ],
    ['another attribute', { apart: true, way: source('packages.x') }, {}, 'must be nixosConfigurations.NAME'],
    [
      'an external system that has a target',
      { apart: true, externalSystem: true, way: source() },
      {},
      'exactly where',
    ],
    [
      'no word of the external system',
      { apart: true, way: source() },
      { way: { case: undefined } },
      'exactly where',
    ],
    [
      'a closure without keys',
      {
        apart: true,
        way: {
          case: 'closure',
          value: { storePath: `/nix/store/${'a'.repeat(32)}-k3s`, closureDigest: key('a') },
        },
      },
      {},
      'public_keys: at least one',
    ],
  ])('is refused with %s', (_, kubernetes, change, reason) => {
    expect(() => encodeTarget(target(kubernetes, change))).toThrow(reason)
  })

  it('alone is installed where the system is somebody else’s, and no system there', () => {
    const external = target(
      { apart: true, externalSystem: true, way: source() },
      { way: { case: undefined } },
    )
    const revision = sampleRevision({ targets: [external] })
    expect(judgeRevision(sampleInput(revision, { part: 'kubernetes' }))).toMatchObject({ kind: 'accepted' })
    expect(judgeRevision(sampleInput(revision))).toMatchObject({
      class: 'system',
      reason: expect.stringContaining('`muster cluster upgrade home` moves its Kubernetes'),
    })
    const together = sampleRevision({ targets: [target({})] })
    expect(judgeRevision(sampleInput(together, { part: 'kubernetes' }))).toMatchObject({
      class: 'system',
      reason: expect.stringContaining('comes with the system'),
    })
  })
})
