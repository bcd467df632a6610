import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { durationMs } from '../../shared/duration.ts'
import type { Cluster, Settings } from '../../shared/fleet-file/fleet.ts'
import { readFleetFile } from '../../shared/fleet-file/read-fleet-file.ts'
import { evaluate, hasNix } from './nix-library.ts'

// fleet.toml has two readers, the one of the coordinator and command and the one of the flake. A host that they read
// differently would be shown as one thing and built as another.

const folder = mkdtempSync(join(tmpdir(), 'muster-readers-'))
afterAll(() => rmSync(folder, { recursive: true }))

const key = 'AAAAC3NzaC1lZDI1NTE5AAAAIMPbd1hUmIv6aCCbiKLhtXNZmWYdNmHLnJmPBEBfhFw1'
const word = fc.constantFrom('a', 'b', 'c1', 'x-y')
const user = fc.record({ keys: fc.constantFrom([`ssh-ed25519 ${key} one`], [`ssh-ed25519 ${key} two`]) })
const free = fc.letrec(tie => ({
  value: fc.oneof(
    { depthSize: 'small' },
    word,
    fc.integer(),
    fc.boolean(),
    fc.array(word, { maxLength: 2 }),
    tie('table'),
  ),
  table: fc.dictionary(word, tie('value'), { maxKeys: 3 }),
})).table

const shared = {
  labels: fc.dictionary(word, word, { maxKeys: 3 }),
  users: fc.dictionary(fc.constantFrom('ada', 'eve', 'tim'), user, { maxKeys: 2 }),
  extra: free,
  nameservers: fc.subarray(['10.0.0.1', '9.9.9.9', 'fd00::1']),
  system: fc.constantFrom('x86_64-linux', 'aarch64-linux'),
  nixpkgs: fc.constantFrom('nixpkgs', 'nixpkgs-stable'),
  gateway: fc.constantFrom('10.0.0.1', '10.0.0.254'),
  'prefix-length': fc.constantFrom(16, 24),
  interface: fc.constantFrom('eth0', 'enp1s0'),
  role: fc.constantFrom('worker', 'none', 'server', 'server+worker'),
  cluster: fc.constantFrom('home', 'lab'),
  gates: fc.subarray(['web', 'disk']),
  soak: fc.constantFrom('0s', '1m10s'),
  'confirm-within': fc.constantFrom('5m', '1h'),
  confirm: fc.constantFrom('coordinator', 'local'),
  reboot: fc.constantFrom('never', 'required', 'whenever-changed'),
  trial: fc.constantFrom('auto', 'none'),
  'tolerated-units': fc.subarray(['backup.service', 'x.timer']),
}
const own = fc.oneof(
  { weight: 6, arbitrary: fc.constant({}) },
  {
    weight: 2,
    arbitrary: fc.record({ config: fc.constantFrom('nixosConfigurations.nas', 'nixosConfigurations.box') }),
  },
  { weight: 1, arbitrary: fc.constant({ os: 'external' }) },
)
const layer = <M extends Record<string, fc.Arbitrary<unknown>>>(model: M) =>
  fc.record(model, { requiredKeys: [] })

const withOwn = (settings: fc.Arbitrary<object>) =>
  fc.tuple(settings, own).map(([table, more]) => ({ ...table, ...more }))
const hosts = fc.array(
  fc.tuple(withOwn(layer({ ...shared, group: fc.constantFrom('edge', 'settings') })), fc.boolean()),
  { minLength: 1, maxLength: 4 },
)

// What the check asks of every fleet: each cluster has a server, each group a host.
const always = {
  first: { role: 'server', cluster: 'home', group: 'edge' },
  second: { role: 'server', cluster: 'lab', group: 'settings' },
}
const clusterKeys = {
  // A member whose system somebody else manages needs it.
  life: fc.constant('apart'),
  version: fc.constantFrom('1.34.3', '1.35.4+k3s1'),
  endpoint: fc.constantFrom('10.0.0.9', 'c.home', 'fd00::9'),
  'endpoint-keeper': fc.constant('outside'),
  'node-interface': fc.constantFrom('tailscale0', 'eth0'),
  'pod-cidr': fc.constantFrom('10.244.0.0/16', '172.20.0.0/14'),
  'service-cidr': fc.constantFrom('10.96.0.0/12', '192.168.7.0/24'),
}
const cluster = fc.record(clusterKeys, { requiredKeys: ['life'] })
const fleets = fc.record({
  clusters: fc.record({ home: cluster, lab: cluster }),
  defaults: layer(shared),
  groups: fc.record({ edge: withOwn(layer(shared)), settings: layer(shared) }),
  hosts: hosts.map(drawnHosts => ({
    ...always,
    ...Object.fromEntries(
      drawnHosts.map(([host, isFixed], index) => [
        `h${index}`,
        isFixed ? { ...host, address: `10.0.0.${index + 2}` } : host,
      ]),
    ),
  })),
})

/** TOML that both readers know: every table below a section is an inline one. */
function toToml(sections: z.infer<typeof tables>): string {
  const inline = (value: unknown): string => {
    if (Array.isArray(value)) return `[${value.map(inline).join(', ')}]`
    if (typeof value !== 'object' || value === null) return JSON.stringify(value)
    return `{ ${Object.entries(value)
      .map(([name, inner]) => `${name} = ${inline(inner)}`)
      .join(', ')} }`
  }
  return Object.entries(sections)
    .map(
      ([name, table]) =>
        `[${name}]\n${Object.entries(table)
          .map(line => `${line[0]} = ${inline(line[1])}\n`)
          .join('')}`,
    )
    .join('\n')
}
const tables = z.record(z.string(), z.record(z.string(), z.unknown()))

function fileOf({ defaults, groups, hosts, clusters }: z.infer<typeof drawn>): string {
  const named = (kind: string, entries: Record<string, Record<string, unknown>>) =>
    Object.fromEntries(Object.entries(entries).map(([name, table]) => [`${kind}.${name}`, table]))
  return toToml({
    fleet: { name: 'home', id: '5f1c0a7be2d94c3386a1f0d2b7c4e895' },
    'clusters.home': { distribution: 'k3s', ...clusters.home },
    'clusters.lab': { distribution: 'k0s', ...clusters.lab },
    'gates.web': { units: ['nginx.service'] },
    'gates.disk': { disk: '/', free: '1 GiB' },
    defaults,
    ...named('groups', groups),
    ...named('hosts', hosts),
  })
}
const drawn = z.object({ defaults: tables.valueType, groups: tables, hosts: tables, clusters: tables })

const absent = <T>(value: T | undefined): T | null => value ?? null
const settingsOf = (entry: Settings) => ({
  role: entry.role,
  cluster: absent(entry.cluster),
  address: entry.address,
  prefixLength: absent(entry.prefixLength),
  gateway: absent(entry.gateway),
  nameservers: entry.nameservers,
  interface: absent(entry.interface),
  labels: entry.labels,
  users: Object.fromEntries(entry.users),
  extra: entry.extra,
  system: entry.system,
  nixpkgs: entry.nixpkgs,
  attribute: entry.attribute,
  ownConfig: entry.ownConfig,
  external: entry.external,
  safety: {
    gates: entry.safety.gates.map(({ name }) => name),
    soak: absent(entry.safety.soakMs),
    confirmWithin: absent(entry.safety.confirmWithinMs),
    confirm: absent(entry.safety.confirm),
    reboot: absent(entry.safety.reboot),
    trial: absent(entry.safety.trial),
    toleratedUnits: entry.safety.toleratedUnits,
  },
})

const clusterOf = (entry: Cluster) => ({
  name: entry.name,
  distribution: entry.distribution,
  version: absent(entry.version),
  life: entry.life,
  endpoint: absent(entry.endpoint),
  endpointKeeper: entry.endpointKeeper,
  nodeInterface: absent(entry.nodeInterface),
  podCidr: absent(entry.podCidr),
  serviceCidr: absent(entry.serviceCidr),
})

/** Nix hands durations on as they are written. */
const inMs = (value: unknown): unknown => (typeof value === 'string' ? durationMs(value) : value)
const safetyShape = z.record(z.string(), z.unknown())
const withMs = (safety: z.infer<typeof safetyShape>) => ({
  ...safety,
  soak: inMs(safety.soak),
  confirmWithin: inMs(safety.confirmWithin),
})

const seenByNix = z.array(z.object({ hosts: tables, groups: tables, clusters: tables }))

describe.skipIf(!hasNix)(
  `the two readers of fleet.toml ${hasNix ? '' : 'skipped: the command nix is missing'}`,
  () => {
    test('read every fleet file that passes the check alike', () => {
      const files = fc.sample(fleets, { numRuns: 400, seed: 20_261 }).map(value => fileOf(drawn.parse(value)))
      const read = files.map(text => readFleetFile(text, 'fleet.toml'))
      const good = files.flatMap((text, index) => {
        const result = read[index]
        return result?.ok === true ? [{ text, fleet: result.fleet }] : []
      })
      // The draw must not be one that the check refuses as a whole.
      expect(good.length).toBeGreaterThan(40)

      for (const [index, { text }] of good.entries()) {
        mkdirSync(join(folder, `${index}`))
        writeFileSync(join(folder, `${index}`, 'fleet.toml'), text)
      }
      const reader = join(import.meta.dirname, '../../nix/lib/read-fleet.nix')
      const answers = seenByNix.parse(
        evaluate(`map (index: { inherit (import ${reader} (${folder} + "/\${toString index}")) hosts groups clusters; })
        (builtins.genList (index: index) ${good.length})`),
      )
      for (const [index, { text, fleet }] of good.entries()) {
        const clusters = Object.fromEntries(fleet.clusters.map(one => [one.name, clusterOf(one)]))
        expect(answers[index]?.clusters, `clusters in\n${text}`).toEqual(clusters)
        for (const kind of ['hosts', 'groups'] as const) {
          for (const entry of fleet[kind]) {
            const wanted = settingsOf(entry)
            const answer = answers[index]?.[kind][entry.name] ?? {}
            const nix: Record<string, unknown> = {
              ...answer,
              safety: withMs(safetyShape.parse(answer.safety)),
            }
            const got = Object.fromEntries(Object.keys(wanted).map(name => [name, nix[name]]))
            expect(got, `${kind} ${entry.name} in\n${text}`).toEqual(wanted)
          }
          expect(Object.keys(answers[index]?.[kind] ?? {}).sort()).toEqual(
            fleet[kind].map(({ name }) => name).sort(),
          )
        }
      }
    })
  },
)
