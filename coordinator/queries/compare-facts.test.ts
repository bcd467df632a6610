import { create, type MessageInitShape, toJson } from '@bufbuild/protobuf'
import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { type Facts, FactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import { compareFacts } from './compare-facts.ts'

const GIB = 1024n ** 3n
const disk = (serial: string, name: string, size = 1_000n) => ({
  name,
  path: `/dev/disk/by-id/${name}`,
  serial,
  size,
  model: 'WD',
})

const BASE: MessageInitShape<typeof FactsSchema> = {
  system: { vendor: 'Acme', product: 'N100', hostname: 'olaf' },
  memory: { total: 16n * GIB, modules: [{ locator: 'A1', size: 16n * GIB }] },
  disks: [disk('S1', 'sda'), disk('S2', 'sdb')],
  interfaces: [{ name: 'eth0', mac: '02:00:00:00:00:01', physical: true, speed: 1000n, carrier: true }],
  pci: [{ slot: '0000:00:02.0', vendorId: '8086', deviceId: '1' }],
}

function facts(change: MessageInitShape<typeof FactsSchema> = {}): Facts {
  return create(FactsSchema, Object.assign({}, BASE, change))
}

const shown = (before: Facts, after: Facts) =>
  compareFacts(before, after).map(({ part, name, field, before: old, after: fresh, hardware }) =>
    [part, name, field, old && fresh ? 'changed' : old ? 'gone' : 'new', hardware ? 'hardware' : 'soft'].join(
      ' ',
    ),
  )

it('a disk that came, went or was swapped is told by its serial number, wherever it stands in the list', () => {
  const swapped = facts({ disks: [disk('S3', 'sda'), disk('S2', 'sdb')] })
  expect(shown(facts(), swapped)).toEqual(['disk S1  gone hardware', 'disk S3  new hardware'])
  const larger = facts({ disks: [disk('S2', 'sdb', 2_000n), disk('S1', 'sda')] })
  expect(compareFacts(facts(), larger)).toEqual([
    { part: 'disk', name: 'S2', field: 'size', before: '"1000"', after: '"2000"', hardware: true },
  ])
})

it('names that the kernel gives anew at a boot, cables and new systems are no change of the hardware', () => {
  const renamed = facts({
    disks: [disk('S2', 'sda'), disk('S1', 'sdb')],
    interfaces: [{ name: 'lan0', mac: '02:00:00:00:00:01', physical: true, carrier: false }],
    os: { kernel: '6.12', bootId: 'x', bootedAt: timestampFromDate(new Date(0)) },
    nixos: { generation: 7n },
    sshHostKeys: ['ssh-ed25519 AAAA'],
    memory: { total: 16n * GIB - 40n * 1024n ** 2n, modules: [{ locator: 'A1', size: 16n * GIB }] },
  })
  const found = compareFacts(facts(), renamed)
  expect(found.filter(({ hardware }) => hardware)).toEqual([])
  expect(new Set(found.map(({ part }) => part))).toEqual(
    new Set(['disk', 'interface', 'os', 'nixos', 'ssh', 'memory']),
  )
})

it('another amount of memory is hardware, and so is a module that came', () => {
  const more = facts({
    memory: {
      total: 32n * GIB,
      modules: [
        { locator: 'A1', size: 16n * GIB },
        { locator: 'B1', size: 16n * GIB },
      ],
    },
  })
  expect(shown(facts(), more)).toEqual(['memory  total changed hardware', 'module B1  new hardware'])
})

it('two disks that nothing tells apart are still two', () => {
  const alike = { name: '', model: 'QEMU' }
  const one = facts({ disks: [alike] })
  const two = facts({ disks: [alike, alike] })
  expect(shown(one, two)).toEqual(['disk QEMU (2)  new hardware'])
})

const name = fc.constantFrom('a', 'b', 'c', 'd')
const someFacts = fc
  .record({
    disks: fc.array(fc.record({ serial: name, name, size: fc.bigInt(0n, 3n) }), { maxLength: 4 }),
    interfaces: fc.array(fc.record({ mac: name, name, physical: fc.boolean() }), { maxLength: 4 }),
    pci: fc.array(fc.record({ slot: name, deviceId: name }), { maxLength: 4 }),
    system: fc.option(fc.record({ product: name, hostname: name }), { nil: undefined }),
    cpu: fc.option(fc.record({ cores: fc.bigInt(0n, 2n) }), { nil: undefined }),
  })
  .map(parts => create(FactsSchema, parts))

it('is empty exactly for equal facts in any order, and backwards it tells the same the other way round', () => {
  fc.assert(
    fc.property(someFacts, someFacts, (a, b) => {
      expect(compareFacts(a, a)).toEqual([])
      const key = (way: readonly string[]) => way.join('\u0000')
      const forth = compareFacts(a, b).map(d => key([d.part, d.name, d.field, d.before, d.after]))
      const back = compareFacts(b, a).map(d => key([d.part, d.name, d.field, d.after, d.before]))
      expect(forth.toSorted()).toEqual(back.toSorted())
      if (forth.length > 0) return
      const sorted = (facts: Facts) => {
        const json = toJson(FactsSchema, facts)
        return JSON.stringify(json, (_, value: unknown) =>
          Array.isArray(value) ? value.map(item => JSON.stringify(item)).toSorted() : value,
        )
      }
      expect(sorted(a)).toBe(sorted(b))
    }),
  )
})
