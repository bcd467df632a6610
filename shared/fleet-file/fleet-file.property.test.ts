import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it, onTestFinished } from 'vitest'
import { durationMs } from '../duration.ts'
import { encodeTarget } from '../revision/read-target.ts'
import { readSafety } from '../revision/safety.ts'
import type { Fleet, Settings } from './fleet.ts'
import { fleetTargets } from './fleet-targets.ts'
import { formatProblems } from './problem.ts'
import { readFleetFile } from './read-fleet-file.ts'
import { confirmations, rebootPolicies, roles, sections, systems, trials } from './schema.ts'
import { nameProblem } from './text-types.ts'

const id = '5f1c0a7be2d94c3386a1f0d2b7c4e895'
const sshKey = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl'

/** A table as a generator makes it: TOML keys and values that JSON can write, which TOML writes the same way. */
interface Table {
  readonly [key: string]: Value
}
type Value = string | number | boolean | readonly Value[] | Table

function toml(value: Value): string {
  if (typeof value !== 'object') return JSON.stringify(value)
  if (Array.isArray(value)) return `[${value.map(toml).join(', ')}]`
  return `{ ${Object.entries(value)
    .map(([key, item]) => `${JSON.stringify(key)} = ${toml(item)}`)
    .join(', ')} }`
}

function section(header: string, table: Table): string {
  return `[${header}]\n${Object.entries(table)
    .map(([key, value]) => `${key} = ${toml(value)}\n`)
    .join('')}`
}

const word = fc.stringMatching(/^[a-z]{1,5}$/)
const labels = fc.dictionary(word, fc.stringMatching(/^[a-z0-9]{0,4}$/), {
  maxKeys: 3,
  noNullPrototype: true,
})
const users = fc.dictionary(word, fc.constantFrom({ keys: [sshKey] }, { keys: [`${sshKey} ada`, sshKey] }), {
  maxKeys: 2,
  noNullPrototype: true,
})
const leaf = fc.oneof(
  fc.string({ unit: 'grapheme', maxLength: 6 }).filter(isHarmless),
  fc.integer(),
  fc.boolean(),
)
const extra = fc.dictionary(
  fc.constantFrom('a', 'b', '__proto__', 'constructor', 'x y'),
  fc.oneof(
    leaf,
    fc.array(leaf, { maxLength: 2 }),
    fc.dictionary(fc.constantFrom('a', 'b', 'toString'), leaf, { maxKeys: 2 }),
  ),
  { maxKeys: 3 },
)

function isHarmless(text: string): boolean {
  return !/[\0\ud800-\udfff\u007f]/.test(text)
}

const gateNames = ['ga', 'gb', 'gc']
/** A gate of any kind, with or without what may stand beside it. */
const gate: fc.Arbitrary<Table> = fc
  .tuple(
    fc.oneof(
      fc.record({
        units: fc.uniqueArray(fc.constantFrom('a.service', 'b@1.timer', 'c.socket'), { minLength: 1 }),
      }),
      fc.record(
        {
          http: fc.constantFrom('http://127.0.0.1:8080/x?y=1', 'https://[fd00::1]/', 'http://web.home'),
          status: fc.integer({ min: 100, max: 599 }),
          contains: fc.constantFrom('ok', '"status": "up"'),
        },
        { requiredKeys: ['http'] },
      ),
      fc.record({ tcp: fc.constantFrom('127.0.0.1:1', '[fd00::1]:65535', 'db.home:5432') }),
      fc.record({
        disk: fc.constantFrom('/', '/var/lib/x y'),
        free: fc.constantFrom('1 B', '2 GiB', '1024TiB'),
      }),
      fc.record({
        reach: fc.uniqueArray(fc.constantFrom('10.0.0.1', 'fd00::1', 'router.home'), { minLength: 1 }),
      }),
      fc.record(
        {
          script: fc.constantFrom('checks/web.sh', '.x'),
          arguments: fc.array(fc.constantFrom('-v', '', 'a b')),
        },
        { requiredKeys: ['script'] },
      ),
    ),
    fc.record({ deadline: fc.constantFrom('1s', '90s', '10m') }, { requiredKeys: [] }),
  )
  .map(([asks, more]) => ({ ...asks, ...more }))

/** How a change is proved; each may be absent. Any of these soak times is well below any of the confirm times. */
const safetySettings = {
  gates: fc.subarray(gateNames),
  soak: fc.constantFrom('0s', '30s', '1m10s'),
  'confirm-within': fc.constantFrom('75s', '5m', '6h'),
  confirm: fc.constantFrom(...confirmations),
  reboot: fc.constantFrom(...rebootPolicies),
  trial: fc.constantFrom(...trials),
  'tolerated-units': fc.subarray(['backup.service', 'x.timer']),
}

/** Settings that any of the three layers may have; each may be absent. */
const settings = fc.record(
  {
    role: fc.constantFrom(...roles),
    cluster: fc.constantFrom('one', 'two'),
    'prefix-length': fc.integer({ min: 8, max: 24 }),
    gateway: fc.constant('10.0.0.1'),
    nameservers: fc.uniqueArray(fc.constantFrom('10.0.0.1', '9.9.9.9', 'fd00::53'), { maxLength: 3 }),
    interface: fc.constantFrom('eth0', 'enp1s0'),
    labels,
    users,
    extra,
    system: fc.constantFrom(...systems),
    nixpkgs: fc.constantFrom('nixpkgs', 'nixpkgs-stable'),
    ...safetySettings,
  },
  { requiredKeys: [] },
)
const own = fc.record(
  {
    config: fc.constantFrom('nixosConfigurations.nas', "nixosConfigurations.a_b'c"),
    os: fc.constant('external'),
  },
  { requiredKeys: [] },
)

interface Model {
  readonly gates: Readonly<Record<string, Table>>
  readonly defaults: Table
  readonly groups: Readonly<Record<string, Table>>
  readonly hosts: Readonly<Record<string, Table>>
}

/** A valid fleet: two clusters that have one server each, and hosts and groups with any settings on top of them. */
const model: fc.Arbitrary<Model> = fc
  .record({
    defaults: settings,
    gates: fc.tuple(gate, gate, gate),
    groups: fc.array(fc.tuple(settings, fc.boolean()), { maxLength: 3 }),
    hosts: fc.array(fc.tuple(settings, own, fc.nat({ max: 5 }), fc.boolean()), { maxLength: 6 }),
  })
  .map(({ defaults, gates, groups, hosts }) => {
    const groupTables = groups.map(([table, admits], index): [string, Table] => {
      const rule = { admit: `facts.n == ${index}`, name: `g${index}-{serial}` }
      const { role, ...rest } = table
      const worker = role === undefined || role.startsWith('server') ? 'worker' : role
      return [
        `g${index}`,
        admits ? { ...rest, ...rule, role: worker, cluster: 'one' } : { ...table, cluster: 'two' },
      ]
    })
    const hostTables = hosts.map(([table, { config, os }, group, fixed], index): [string, Table] => [
      `h${index}`,
      {
        ...table,
        cluster: 'one',
        ...(config !== undefined && os === undefined ? { config } : {}),
        ...(os === undefined ? {} : { os }),
        ...(group < groupTables.length ? { group: `g${group}` } : {}),
        ...(fixed ? { address: `10.0.0.${10 + index}`, 'prefix-length': 24 } : {}),
        mac: `52:54:00:00:00:0${index}`,
      },
    ])
    const usedBy = groupTables.map(([name], index): [string, Table] => [
      `u${index}`,
      { group: name, role: 'none' },
    ])
    return {
      defaults,
      gates: Object.fromEntries(gateNames.map((name, index) => [name, gates[index] ?? {}])),
      groups: Object.fromEntries(groupTables),
      hosts: Object.fromEntries([
        ...hostTables,
        ...usedBy,
        ['s1', { role: 'server', cluster: 'one' }],
        ['s2', { role: 'server+worker', cluster: 'two' }],
      ]),
    }
  })

function write({ defaults, gates, groups, hosts }: Model): string {
  return [
    section('fleet', { name: 'home', id }),
    section('defaults', defaults),
    section('clusters.one', { distribution: 'k3s', life: 'apart' }),
    section('clusters.two', { distribution: 'k0s', life: 'apart' }),
    ...Object.entries(gates).map(([name, table]) => section(`gates.${name}`, table)),
    ...Object.entries(groups).map(([name, table]) => section(`groups.${name}`, table)),
    ...Object.entries(hosts).map(([name, table]) => section(`hosts.${name}`, table)),
  ].join('\n')
}

function accept(text: string): Fleet {
  const result = readFleetFile(text, 'fleet.toml')
  if (!result.ok) throw new Error(`${formatProblems(result.problems)}\n${text}`)
  return result.fleet
}

/** What the layers give for a key that is taken whole: written down as simply as the documentation says it. */
function strongest(layers: readonly (Table | undefined)[], key: string): Value | undefined {
  return layers.find(layer => layer?.[key] !== undefined)?.[key]
}

function milliseconds(text: Value | undefined): number | undefined {
  return typeof text === 'string' ? durationMs(text) : undefined
}

function isTable(value: unknown): value is Table {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

describe('any valid fleet', () => {
  it('is accepted, and each host has its own settings over those of its group over the defaults', () => {
    fc.assert(
      fc.property(model, fleet => {
        const read = accept(write(fleet))
        expect(read.hosts.map(({ name }) => name)).toEqual(Object.keys(fleet.hosts))
        for (const host of read.hosts) {
          const own = fleet.hosts[host.name]
          const group = host.group === undefined ? undefined : fleet.groups[host.group]
          const layers = [own, group, fleet.defaults]
          const role = strongest(layers, 'role') ?? 'none'
          expect(host.role).toBe(role)
          expect(host.cluster).toBe(role === 'none' ? undefined : strongest(layers, 'cluster'))
          for (const key of ['interface', 'system', 'nixpkgs'] as const) {
            const fallback = { interface: undefined, system: 'x86_64-linux', nixpkgs: 'nixpkgs' }[key]
            expect(host[key]).toBe(strongest(layers, key) ?? fallback)
          }
          expect(host.nameservers).toEqual(strongest(layers, 'nameservers') ?? [])
          const fixed = host.address !== 'dhcp'
          expect(host.gateway).toBe(fixed ? strongest(layers, 'gateway') : undefined)
          expect(host.prefixLength).toBe(fixed ? strongest(layers, 'prefix-length') : undefined)
          const { safety } = host
          expect(safety.gates.map(({ name }) => name)).toEqual(strongest(layers, 'gates') ?? [])
          for (const { name, probe, deadlineMs } of safety.gates) {
            const written = fleet.gates[name]
            expect(Object.keys(written ?? {})).toContain(probe.kind)
            expect(deadlineMs).toEqual(milliseconds(written?.deadline))
          }
          expect(safety.soakMs).toBe(milliseconds(strongest(layers, 'soak')))
          expect(safety.confirmWithinMs).toBe(milliseconds(strongest(layers, 'confirm-within')))
          for (const key of ['confirm', 'reboot', 'trial'] as const) {
            expect(safety[key]).toBe(strongest(layers, key))
          }
          expect(safety.toleratedUnits).toEqual(strongest(layers, 'tolerated-units') ?? [])
          for (const key of ['labels', 'users'] as const) {
            const merged = new Map(layers.toReversed().flatMap(layer => Object.entries(layer?.[key] ?? {})))
            expect(key === 'labels' ? new Map(Object.entries(host.labels)) : host.users).toEqual(merged)
          }
          for (const layer of layers.slice(0, 1)) {
            for (const [key, value] of Object.entries(layer?.extra ?? {})) {
              // A table is merged with the one below it, anything else is as the host says.
              if (isTable(value)) expect(host.extra[key]).toMatchObject({ ...value })
              else expect(host.extra[key]).toEqual(value)
            }
          }
        }
      }),
      { numRuns: 200 },
    )
  })

  it('reaches the targets: what a machine reads of safety is what the file says of its host', () => {
    fc.assert(
      fc.property(model, fleet => {
        const read = accept(write(fleet))
        const targets = new Map(fleetTargets(read, { mode: 'source' }).map(target => [target.host, target]))
        for (const { name, external, safety } of read.hosts) {
          const target = targets.get(name)
          if (target === undefined) throw new Error(`${name} has no target`)
          const { bytes } = encodeTarget(target)
          expect(encodeTarget(target).bytes).toEqual(bytes)
          const reading = readSafety(target.safety)
          if (reading.kind !== 'ok') throw new Error(reading.reason)
          const got = reading.safety
          if (external) {
            expect(target.safety).toBeUndefined()
            continue
          }
          expect(got).toEqual({
            soakMs: safety.soakMs ?? 30_000,
            confirmWithinMs: safety.confirmWithinMs ?? 300_000,
            confirmLocally: safety.confirm === 'local',
            reboot: safety.reboot ?? 'never',
            trial: safety.trial ?? 'auto',
            toleratedUnits: safety.toleratedUnits,
            gates: safety.gates.map(gate => ({ ...gate, deadlineMs: gate.deadlineMs ?? 10_000 })),
          })
        }
      }),
      { numRuns: 100 },
    )
  })

  it('does not depend on the order of its tables', () => {
    fc.assert(
      fc.property(model, fc.infiniteStream(fc.nat()), (fleet, order) => {
        const tables = write(fleet).split('\n[')
        const shuffled = tables
          .slice(1)
          .map(table => ({ table, rank: order.next().value ?? 0 }))
          .toSorted((a, b) => a.rank - b.rank)
        const byName = (read: Fleet) => new Map(read.hosts.map(host => [host.name, host]))
        const again = accept([tables[0], ...shuffled.map(({ table }) => table)].join('\n['))
        expect(byName(again)).toEqual(byName(accept(write(fleet))))
      }),
      { numRuns: 50 },
    )
  })
})

// Each mistake is put into a random host of a random valid fleet. `line` is what is written, `key` what must be named.
const slips: readonly { readonly line: string; readonly key: string; readonly message: RegExp }[] = [
  { line: 'colour = "red"', key: 'colour', message: /^unknown key/ },
  { line: 'labells = {}', key: 'labells', message: /did you mean "labels"/ },
  { line: 'admit = "true"', key: 'admit', message: /belong here but in \[groups.NAME\]/ },
  { line: 'serial = 7', key: 'serial', message: /^a number stands where/ },
  { line: 'serial = "  "', key: 'serial', message: /is empty/ },
  { line: 'uuid = "x"', key: 'uuid', message: /is no UUID/ },
  { line: 'machine = ["x"]', key: 'machine', message: /^a list stands where/ },
  { line: 'disk = {}', key: 'disk.serial', message: /^is missing/ },
  { line: 'disk = { serial = "S1", size = 3 }', key: 'disk.size', message: /^unknown key/ },
  { line: 'serial = "DOUBLE"', key: 'serial', message: /binds host "other" in line \d+ too/ },
  { line: 'machine = 2020-01-01', key: 'machine', message: /^Nix reads no dates/ },
]

describe('any single mistake in any valid fleet', () => {
  it('is named with its line, column and key, and no other error is', () => {
    fc.assert(
      fc.property(model, fc.nat(), fc.constantFrom(...slips), (fleet, choice, slip) => {
        const names = Object.keys(fleet.hosts)
        const name = names[choice % names.length] ?? ''
        const valid = `${section('fleet', { name: 'home', id })}[hosts.other]\nrole = "none"\nserial = "DOUBLE"\n${write(fleet).split('\n').slice(3).join('\n')}`
        accept(valid)
        const lines = valid.split('\n')
        const line = lines.indexOf(`[hosts.${name}]`) + 2
        const { ok, problems } = readFleetFile(
          lines.toSpliced(line - 1, 0, slip.line).join('\n'),
          'fleet.toml',
        )
        expect(ok).toBe(false)
        const errors = problems.filter(({ severity }) => severity === 'error')
        expect(errors).toEqual([
          expect.objectContaining({
            line,
            path: `hosts.${name}.${slip.key}`,
            message: expect.stringMatching(slip.message),
          }),
        ])
        const column = errors[0]?.column ?? 0
        const atKey = column === 1
        const atValue = column === slip.line.indexOf('=') + 3
        const inTable = slip.line[column - 1] === 's'
        expect(atKey || atValue || inTable).toBe(true)
      }),
      { numRuns: 150 },
    )
  })
})

const nix = ['--extra-experimental-features', 'nix-command', 'eval', '--impure', '--json', '--expr']
const hasNix = spawnSync('nix', [...nix, '1'], { timeout: 30_000 }).status === 0

/** Settings as nix/lib/read-fleet.nix names them. */
function asNix(settings: Settings): unknown {
  const { role, cluster, address, prefixLength, gateway, nameservers, labels, system, nixpkgs, attribute } =
    settings
  return JSON.parse(
    JSON.stringify({
      role,
      address,
      nameservers,
      labels,
      system,
      nixpkgs,
      attribute,
      cluster: cluster ?? null,
      prefixLength: prefixLength ?? null,
      gateway: gateway ?? null,
      interface: settings.interface ?? null,
      users: Object.fromEntries(settings.users),
      ownConfig: settings.ownConfig,
      external: settings.external,
      extra: settings.extra,
      safety: {
        gates: settings.safety.gates.map(({ name }) => name),
        soak: settings.safety.soakMs ?? null,
        confirmWithin: settings.safety.confirmWithinMs ?? null,
        confirm: settings.safety.confirm ?? null,
        reboot: settings.safety.reboot ?? null,
        trial: settings.safety.trial ?? null,
        toleratedUnits: settings.safety.toleratedUnits,
      },
    }),
  )
}

describe('the library of the flake', () => {
  it.skipIf(!hasNix)('resolves any valid fleet as we do, with the installed Nix', () => {
    const folder = mkdtempSync(join(tmpdir(), 'muster-fleets-'))
    onTestFinished(() => rmSync(folder, { recursive: true }))
    const texts = fc.sample(model, { numRuns: 40, seed: 7 }).map(write)
    for (const [index, text] of texts.entries()) {
      mkdirSync(join(folder, String(index)))
      writeFileSync(join(folder, String(index), 'fleet.toml'), text)
    }
    const library = new URL('../../nix/lib/read-fleet.nix', import.meta.url).pathname
    const expression = `map (n: import ${library} (${folder} + "/\${toString n}")) (builtins.genList (n: n) ${texts.length})`
    const run = spawnSync('nix', [...nix, expression], { timeout: 60_000, maxBuffer: 64 * 1024 * 1024 })
    expect(run.status, run.stderr?.toString()).toBe(0)
    // Nix hands durations on as they are written.
    const read: { hosts: Record<string, unknown>; groups: Record<string, unknown> }[] = JSON.parse(
      run.stdout.toString(),
      (key, value: unknown) =>
        (key === 'soak' || key === 'confirmWithin') && typeof value === 'string' ? durationMs(value) : value,
    )
    expect(read).toHaveLength(texts.length)
    for (const [index, text] of texts.entries()) {
      const fleet = accept(text)
      for (const host of fleet.hosts) {
        const expected = {
          ...Object(asNix(host)),
          name: host.name,
          group: host.group ?? null,
          mac: host.binding.mac ?? null,
        }
        expect(read[index]?.hosts[host.name], text).toEqual(expected)
      }
      for (const group of fleet.groups.filter(({ admission }) => admission !== undefined)) {
        expect(read[index]?.groups[group.name], text).toMatchObject(Object(asNix(group)))
      }
    }
  })
})

describe('T12: text in a fleet file', () => {
  const nasty = fc.oneof(
    fc.constantFrom(
      '../../etc/passwd',
      `\${builtins.currentTime}`,
      '"; rm -rf / #',
      `''\${x}`,
      'a\nb',
      'a\u0000b',
      '$(id)',
      '`id`',
      'a/b',
      '..',
      'a b',
      '-rf',
      '{serial}',
      'nixosConfigurations.a.b',
      `nixosConfigurations."\${x}"`,
    ),
    fc.stringMatching(/^["'$`{}\\/.\n\r a-z;-]{0,20}$/),
  )
  // Every key whose value is text or holds text, in every section.
  const places = sections.flatMap(({ name, keys }) =>
    Object.keys(keys).map(key => ({ header: name.slice(1, -1).replace('NAME', 'x'), key })),
  )
  // What must stand beside a key of a gate, so that nothing but its own text can be wrong.
  const beside: Readonly<Record<string, Table>> = {
    status: { http: 'http://a' },
    contains: { http: 'http://a' },
    disk: { free: '1 GiB' },
    free: { disk: '/' },
    arguments: { script: 'x' },
    deadline: { units: ['a.service'] },
  }
  const shapes = [
    (text: string): Value => text,
    (text: string): Value => [text],
    (text: string): Value => ({ serial: text }),
    (text: string): Value => ({ [text]: text }),
    (text: string): Value => ({ [text]: { keys: [text] } }),
  ]

  it('never escapes into a name, an attribute, a path or a line of its own', () => {
    let accepted = 0
    const plain = /^[A-Za-z0-9_'.-]*$/
    fc.assert(
      fc.property(
        fc.constantFrom(...places),
        fc.constantFrom(...shapes),
        nasty,
        ({ header, key }, shape, text) => {
          const base: Record<string, Table> = {
            fleet: { name: 'home', id },
            'groups.x': { admit: 'facts.a', name: 'x-{serial}' },
            'hosts.h': {},
            'hosts.s': { role: 'server', cluster: 'c' },
            'clusters.c': { distribution: 'k3s' },
            'gates.x': header === 'gates.x' ? (beside[key] ?? {}) : { units: ['a.service'] },
            defaults: { gates: ['x'] },
          }
          const target = header === 'clusters.x' ? 'clusters.c' : header === 'hosts.x' ? 'hosts.h' : header
          const tables = { ...base, [target]: { ...base[target], [key]: shape(text) } }
          const source = Object.entries(tables)
            .map(([name, table]) => section(name, table))
            .join('\n')
          const result = readFleetFile(source, 'fleet.toml')
          const printed = formatProblems(result.problems)
          expect(
            printed
              .split('\n')
              .filter(line => line !== '')
              .every(line => line.startsWith('fleet.toml:')),
          ).toBe(true)
          if (!result.ok) return
          accepted += 1
          const { fleet } = result
          const names = [
            fleet.name,
            ...fleet.hosts.flatMap(({ name, cluster, group }) => [name, cluster ?? 'none', group ?? 'none']),
            ...fleet.groups.map(({ name }) => name),
            ...fleet.clusters.map(({ name }) => name),
          ]
          for (const name of names) expect(nameProblem(name)).toBeUndefined()
          for (const { attribute, nixpkgs, interface: link, users } of [...fleet.hosts, ...fleet.groups]) {
            for (const part of [attribute, nixpkgs, link ?? '', ...users.keys()]) {
              expect(part).toMatch(plain)
              expect(part).not.toContain('..')
            }
          }
          for (const { way, safety } of fleetTargets(fleet, { mode: 'source' })) {
            if (way.case === 'source') expect(way.value.attribute).toMatch(/^[A-Za-z0-9_'-]+$/)
            for (const { probe } of safety?.gates ?? []) {
              const words =
                probe.case === 'units' ? probe.value.units : probe.case === 'reach' ? probe.value.hosts : []
              // A word that begins with a dash is an option of the program that is given it.
              for (const word of words) expect(word).toMatch(/^[A-Za-z0-9:_.@\\][^\s]*$/)
              if (probe.case === 'script') expect(`/${probe.value.path}/`).not.toMatch(/\/(\.\.?)?\//)
            }
          }
        },
      ),
      { numRuns: 3_000 },
    )
    // A fuzz that is always refused would show nothing.
    expect(accepted).toBeGreaterThan(20)
  })

  it('never becomes the name of a host, a group or a cluster', () => {
    fc.assert(
      fc.property(fc.constantFrom('hosts', 'groups', 'clusters'), nasty, (kind, name) => {
        fc.pre(nameProblem(name) !== undefined)
        const text = `[fleet]\nname = "home"\nid = "${id}"\n[${kind}.${JSON.stringify(name)}]\n`
        expect(readFleetFile(text, 'fleet.toml').ok).toBe(false)
      }),
    )
  })
})
