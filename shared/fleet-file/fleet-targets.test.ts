import { create } from '@bufbuild/protobuf'
import { describe, expect, it } from 'vitest'
import { TargetSchema } from '../gen/muster/v1/manifest_pb.ts'
import { sha256Hex } from '../ids.ts'
import { encodeTarget } from '../revision/read-target.ts'
import type { Fleet } from './fleet.ts'
import { type BuiltClosure, clusterEntries, fleetTargets } from './fleet-targets.ts'
import { formatProblems } from './problem.ts'
import { readFleetFile } from './read-fleet-file.ts'

const id = '5f1c0a7be2d94c3386a1f0d2b7c4e895'
const key = `cache.home-1:${'A'.repeat(43)}=`

function fleetOf(text: string, more = ''): Fleet {
  const result = readFleetFile(`[fleet]\nname = "home"\nid = "${id}"\n${more}\n${text}`, 'f')
  if (!result.ok) throw new Error(formatProblems(result.problems))
  return result.fleet
}

const text = `
[clusters.home]
distribution = "k3s"
[groups.edge]
admit = "facts.system.product == 'N100'"
name = "edge-{serial}"
role = "worker"
cluster = "home"
system = "aarch64-linux"
[groups.rack]
labels = { rack = "a" }
[hosts.olaf]
group = "rack"
role = "server"
cluster = "home"
disk = { serial = "S4EVNX0M123456" }
mac = "52:54:00:AB:CD:EF"
[hosts.nas]
config = "nixosConfigurations.storage"
cluster = "home"
[hosts.switch]
os = "external"
`

const built = (name: string): BuiltClosure => ({
  storePath: `/nix/store/${'a'.repeat(32)}-nixos-system-${name}`,
  closureDigest: sha256Hex(name),
  closureBytes: 7n,
})
const storePaths = new Map(['olaf', 'nas', 'edge'].map(name => [name, built(name)]))

describe('the targets of a fleet', () => {
  it('built from source are one for each host and each group that admits', () => {
    const targets = fleetTargets(fleetOf(text), { mode: 'source' })
    expect(targets).toEqual([
      create(TargetSchema, {
        fleetId: id,
        host: 'olaf',
        binding: { diskSerial: 'S4EVNX0M123456', mac: '52:54:00:ab:cd:ef' },
        system: 'x86_64-linux',
        way: { case: 'source', value: { attribute: 'olaf' } },
        labels: { rack: 'a' },
        role: 'server',
        cluster: 'home',
        kubernetes: {},
      }),
      create(TargetSchema, {
        fleetId: id,
        host: 'nas',
        binding: {},
        system: 'x86_64-linux',
        way: { case: 'source', value: { attribute: 'storage' } },
        role: 'none',
      }),
      create(TargetSchema, {
        fleetId: id,
        host: 'switch',
        binding: {},
        system: 'x86_64-linux',
        role: 'none',
      }),
      create(TargetSchema, {
        fleetId: id,
        group: 'edge',
        binding: { rule: "facts.system.product == 'N100'", nameTemplate: 'edge-{serial}' },
        system: 'aarch64-linux',
        way: { case: 'source', value: { attribute: 'edge' } },
        role: 'worker',
        cluster: 'home',
        kubernetes: {},
      }),
    ])
  })

  it('built by the publisher name the path, where to fetch it and whose signature it needs', () => {
    const more = `store = "https://cache.home"\npublic-keys = ["${key}"]`
    const [olaf] = fleetTargets(fleetOf(text, more), {
      mode: 'closure',
      storePaths,
      publicKeys: [key, 'own-1:x'],
    })
    expect(olaf?.way).toMatchObject({
      case: 'closure',
      value: { ...built('olaf'), substituters: ['https://cache.home'], publicKeys: [key, 'own-1:x'] },
    })
  })

  it('are refused whole when a closure, its key or a real store path is missing', () => {
    const more = `public-keys = ["${key}"]`
    const without = new Map([...storePaths].filter(([name]) => name !== 'nas'))
    const forged = new Map(storePaths).set('nas', { ...built('nas'), storePath: '/nix/store/../../etc' })
    const fleet = fleetOf(text, more)
    expect(() => fleetTargets(fleet, { mode: 'closure', storePaths: without })).toThrow(
      'no closure was built for nas',
    )
    expect(() => fleetTargets(fleet, { mode: 'closure', storePaths: forged })).toThrow(
      'built for nas is no path',
    )
    expect(() => fleetTargets(fleetOf(text), { mode: 'closure', storePaths })).toThrow(
      'write public-keys in [fleet]',
    )
  })

  it('tell which Kubernetes it shall be, and where it comes from when it lives apart', () => {
    const apart = text
      .replace('"k3s"', '"k3s"\nversion = "1.34.3"\nlife = "apart"')
      .replace('os = "external"', 'os = "external"\nrole = "worker"\ncluster = "home"')
    const source = new Map(
      fleetTargets(fleetOf(apart), { mode: 'source' }).map(target => [target.host, target.kubernetes]),
    )
    const package_ = (name: string) => `nixosConfigurations.${name}.config.muster.kubernetes.profile.package`
    expect(source.get('olaf')).toMatchObject({
      version: '1.34.3',
      apart: true,
      externalSystem: false,
      way: { case: 'source', value: { attribute: package_('olaf') } },
    })
    expect(source.get('switch')).toMatchObject({
      externalSystem: true,
      way: { value: { attribute: package_('switch') } },
    })
    expect(source.get('nas')).toBeUndefined()

    const more = `public-keys = ["${key}"]`
    const mode = { mode: 'closure', storePaths } as const
    expect(() => fleetTargets(fleetOf(apart, more), mode)).toThrow('built for Kubernetes of olaf')
    const kubernetesPaths = new Map(['olaf', 'switch', 'edge'].map(name => [name, built(`k3s-${name}`)]))
    const fetched = fleetTargets(fleetOf(apart, more), { ...mode, kubernetesPaths })
    expect(fetched.find(({ host }) => host === 'switch')).toMatchObject({
      way: { case: undefined },
      kubernetes: { way: { case: 'closure', value: { ...built('k3s-switch'), publicKeys: [key] } } },
    })
    for (const target of fetched) expect(encodeTarget(target).target).toEqual(target)
  })

  it('go with the clusters that the manifest names, members and their keys', () => {
    const machine = 'ab'.repeat(32)
    const fleet = fleetOf(text.replace('mac = ', `machine = "${machine}"\nmac = `))
    expect(clusterEntries(fleet)).toMatchObject([
      {
        name: 'home',
        distribution: 'k3s',
        version: '',
        admitsWorkers: true,
        members: [{ host: 'olaf', role: 'server', machine }],
      },
    ])
  })

  it('have the bytes that were signed in earlier versions', () => {
    const digests = fleetTargets(fleetOf(text), { mode: 'source' }).map(target => encodeTarget(target).digest)
    expect(digests).toMatchInlineSnapshot(`
      [
        "4eee635112e479f7c3e3e13e639ab75ebf2e9430964c439d479dff3a384fc46e",
        "4d0a70e236afb6289b163bc5369a4870053c063a599b507348f5e9dd2250ba89",
        "084a2093c146475d79260ed9d18a2a46c3b144532ac4f4887981eb3f9be21a0a",
        "061585f6b00cd9ae442a63ba4fa6ceea00358b8cd0399fca9f81ec921e282b68",
      ]
    `)
  })
})
