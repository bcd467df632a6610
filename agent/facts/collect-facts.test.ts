import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { create, toBinary, toJson } from '@bufbuild/protobuf'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { writeMadeUpRoot } from '../../scripts/made-up-root.ts'
import { FactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import { sha256Hex } from '../../shared/ids.ts'
import { createMadeUpSystem } from '../system/made-up-system.ts'
import { createRealSystem } from '../system/real-system.ts'
import type { System } from '../system/system.ts'
import { boundFacts, MAX_FACTS_BYTES } from './bound-facts.ts'
import { collectFacts } from './collect-facts.ts'

const options = { deadlineMs: 20_000, simulated: true, now: new Date('2026-11-20T00:00:00Z') }
const fixture = (name: string) =>
  createMadeUpSystem(new URL(`../../test/fixtures/roots/${name}`, import.meta.url).pathname)
const read = async (name: string) => toJson(FactsSchema, await collectFacts(fixture(name), options))

describe('the facts of', () => {
  test('a server with NVMe disks, a bond and pods', async () => {
    expect(await read('nvme-server')).toMatchSnapshot()
  })

  test('a virtual machine, whose serial is a placeholder and whose disks are not known to turn', async () => {
    expect(await read('virtual-machine')).toMatchSnapshot()
  })

  test('a board without SMBIOS, with a clock that is not set', async () => {
    expect(await read('raspberry')).toMatchSnapshot()
  })

  test('a machine with missing tools, placeholders and files that are not what they should be', async () => {
    expect(await read('broken')).toMatchSnapshot()
  })

  test('this very machine, twice the same and without an exception', async () => {
    const system = createRealSystem({ root: '/', path: '/usr/bin:/bin:/usr/sbin:/sbin' })
    const [one, two] = [await collectFacts(system, options), await collectFacts(system, options)]
    expect(one.os?.kernel).toMatch(/^\d+\./)
    expect(one.cpu?.threads).toBeGreaterThan(0n)
    expect(sha256Hex(toBinary(FactsSchema, one))).toBe(sha256Hex(toBinary(FactsSchema, two)))
  })
})

test('T34: what cannot be read is told and is not taken for nothing', async () => {
  const real = fixture('nvme-server')
  const denied: System = {
    ...real,
    readFile: async () => ({ kind: 'unreadable', code: 'EACCES' }),
    readLink: async () => ({ kind: 'unreadable', code: 'EACCES' }),
    listDir: async () => ({ kind: 'unreadable', code: 'EACCES' }),
  }
  const facts = await collectFacts(denied, options)
  for (const path of [
    '/proc/meminfo',
    '/etc/ssh',
    '/run/current-system',
    '/sys/class/dmi/id/product_serial',
  ]) {
    expect(facts.warnings).toContain(`${path}: unreadable (EACCES)`)
  }
  expect(facts.memory?.total).toBeUndefined()
  expect(facts.system?.serial).toBeUndefined()
})

test('a source that hangs costs its own fields and no more than its deadline', async () => {
  const real = fixture('nvme-server')
  const hanging: System = {
    ...real,
    run: (command, args, runOptions) =>
      command === 'lsblk' ? new Promise(() => {}) : real.run(command, args, runOptions),
  }
  const facts = await collectFacts(hanging, { ...options, deadlineMs: 1_500 })
  expect(facts.warnings).toContain('disks: not done within 1500 ms')
  expect(facts.disks).toEqual([])
  expect(facts.interfaces.length).toBeGreaterThan(0)
})

test('the digest does not change with pods and containers', async () => {
  const real = fixture('nvme-server')
  const busy: System = {
    ...real,
    run: async (command, args, runOptions) => {
      const result = await real.run(command, args, runOptions)
      if (command !== 'ip') return result
      const more = { ifname: 'veth99999999', mtu: 1450, address: '5e:00:00:00:00:01', addr_info: [] }
      return { ...result, stdout: JSON.stringify([...JSON.parse(result.stdout).reverse(), more]) }
    },
  }
  const [calm, changed] = [await collectFacts(real, options), await collectFacts(busy, options)]
  expect(toBinary(FactsSchema, changed)).toEqual(toBinary(FactsSchema, calm))
})

describe('made-up machines', () => {
  test('have facts without a warning, marked as simulated, each its own', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'muster-made-up-'))
    try {
      const seen = new Set<string>()
      for (const seed of [1, 'one', 'one two']) {
        const root = join(folder, String(seed))
        await writeMadeUpRoot(root, { seed: 'earlier', macs: ['02:00:00:00:00:01', '02:00:00:00:00:02'] })
        await writeMadeUpRoot(root, { seed, memoryBytes: 4 * 1024 ** 3 })
        const facts = await collectFacts(createMadeUpSystem(root), options)
        expect(facts.warnings).toEqual([])
        expect(facts.interfaces).toHaveLength(1)
        expect(facts).toMatchObject({ simulated: true, memory: { total: 4n * 1024n ** 3n } })
        for (const own of [
          facts.system?.serial,
          facts.system?.uuid,
          facts.disks[0]?.serial,
          facts.interfaces[0]?.mac,
        ]) {
          expect(own).toBeDefined()
          seen.add(String(own))
        }
      }
      expect(seen.size).toBe(12)
    } finally {
      await rm(folder, { recursive: true })
    }
  })
})

describe('bounds', () => {
  const paths = [
    'sys/class/dmi/id/product_serial',
    'sys/class/dmi/id/product_uuid',
    'sys/firmware/devicetree/base/model',
    'proc/cpuinfo',
    'proc/meminfo',
    'proc/stat',
    'etc/os-release',
    'etc/machine-id',
    'etc/ssh/ssh_host_rsa_key.pub',
    'commands/lsblk.json',
    'commands/ip-addr.json',
    'commands/dmidecode-17.txt',
    'commands/lspci.txt',
    'commands/lscpu.json',
    'commands/nix.txt',
    'commands/nixos-version.json',
    'commands/systemd-detect-virt.txt',
    'sys/block/sda/device/serial',
    'sys/block/sda/size',
    'sys/class/net/eth0/device/x',
    'sys/class/net/eth0/speed',
    'sys/class/net/eth0/address',
    'sys/bus/pci/devices/0000:00:00.0/vendor',
    'sys/class/tpm/tpm0/tpm_version_major',
    'sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f',
  ]
  const row = fc.record(
    {
      name: fc.oneof(fc.constant('sda'), fc.stringMatching(/^[a-z]{1,6}$/), fc.string({ unit: 'binary' })),
      ifname: fc.oneof(fc.stringMatching(/^[a-z]{1,6}$/), fc.string({ unit: 'binary' })),
      type: fc.constantFrom('disk', 'rom', 7),
      size: fc.oneof(fc.maxSafeInteger(), fc.double(), fc.string()),
      serial: fc.oneof(fc.string({ unit: 'binary', maxLength: 400 }), fc.constant(null)),
      model: fc.anything({ maxDepth: 1 }),
      wwn: fc.string(),
      address: fc.string(),
      addr_info: fc.oneof(
        fc.anything({ maxDepth: 1 }),
        fc.array(fc.record({ local: fc.ipV4(), prefixlen: fc.integer(), scope: fc.constant('global') })),
      ),
    },
    { requiredKeys: [] },
  )
  const content = fc.oneof(
    fc.uint8Array({ maxLength: 300 }).map(bytes => Buffer.from(bytes)),
    fc.string({ unit: 'binary', maxLength: 300 }).map(text => Buffer.from(text)),
    fc.json().map(text => Buffer.from(text)),
    fc.array(row, { maxLength: 20 }).map(rows => Buffer.from(JSON.stringify({ blockdevices: rows }))),
    fc.array(row, { maxLength: 20 }).map(rows => Buffer.from(JSON.stringify(rows))),
    fc.constant(Buffer.from('\tMemory Device\nMemory Device\n\tSize: 99999999 TB\n\tLocator: $HOME\n')),
  )

  test('random junk in files and output neither throws nor leaves the bounds', async () => {
    await fc.assert(
      fc.asyncProperty(fc.dictionary(fc.constantFrom(...paths), content), async files => {
        const root = await mkdtemp(join(tmpdir(), 'muster-junk-'))
        try {
          for (const [path, bytes] of Object.entries(files)) {
            await mkdir(join(root, dirname(path)), { recursive: true })
            await writeFile(join(root, path), bytes)
          }
          await mkdir(join(root, 'run'))
          await symlink('loop', join(root, 'run/loop'))
          await symlink('/run/loop', join(root, 'run/current-system'))
          const facts = await collectFacts(createMadeUpSystem(root), options)
          expect(toBinary(FactsSchema, facts).length).toBeLessThanOrEqual(MAX_FACTS_BYTES)
          expect(facts.warnings.length).toBeLessThanOrEqual(64)
          expect(facts.sshHostKeys.length).toBeLessThanOrEqual(8)
          expect(JSON.stringify(toJson(FactsSchema, facts))).not.toMatch(/(?<!\\)\\u00[01]/)
        } finally {
          await rm(root, { recursive: true })
        }
      }),
      { numRuns: 150 },
    )
  })

  test('facts that are too long lose what decides least first, and say so', () => {
    const long = 'ä'.repeat(64)
    const facts = create(FactsSchema, {
      disks: Array.from({ length: 256 }, (_, i) => ({
        name: `d${i}`,
        serial: long,
        model: long,
        path: long,
      })),
      pci: Array.from({ length: 512 }, (_, i) => ({ slot: `${i}`, description: long, gpu: i % 2 === 0 })),
      interfaces: Array.from({ length: 256 }, (_, i) => ({
        name: `e${i}`,
        physical: true,
        addresses: Array.from({ length: 32 }, () => '2001:db8::1234:5678:9abc:def0/64'),
      })),
      warnings: Array.from({ length: 64 }, () => long),
    })
    const bounded = boundFacts(facts)
    expect(toBinary(FactsSchema, bounded).length).toBeLessThanOrEqual(MAX_FACTS_BYTES)
    expect(bounded.disks.length).toBeGreaterThanOrEqual(16)
    expect(bounded.warnings[0]).toContain('left out')
  })
})
