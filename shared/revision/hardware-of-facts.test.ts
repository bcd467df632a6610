import { create } from '@bufbuild/protobuf'
import { describe, expect, it } from 'vitest'
import { FactsSchema } from '../gen/muster/v1/facts_pb.ts'
import { expandName } from './expand-name.ts'
import { hardwareClaim, hardwareOf } from './hardware-of-facts.ts'

const facts = create(FactsSchema, {
  system: { serial: ' SN123 ', uuid: 'AAAAAAAA-2222-3333-4444-555555555555' },
  interfaces: [
    { name: 'br0', physical: false, mac: '12:9f:ab:00:11:22' },
    { name: 'enp2s0', physical: true, mac: '52:54:00:12:34:AA' },
    { name: 'enp1s0', physical: true, mac: '52:54:00:12:34:56' },
    { name: 'enp3s0', physical: true },
  ],
  disks: [
    { name: 'sdb', serial: 'STICK', removable: true },
    { name: 'sda', serial: 'DISK' },
  ],
})

describe('what ties a machine to a host', () => {
  it('is of its hardware alone: no bridge that a configuration makes renames it, no stick binds it', () => {
    expect(hardwareClaim(facts)).toEqual({
      serial: 'SN123',
      uuid: 'aaaaaaaa-2222-3333-4444-555555555555',
      macs: ['52:54:00:12:34:56', '52:54:00:12:34:aa'],
      diskSerials: ['DISK'],
    })
    const named = expandName('edge-{mac}', hardwareOf('ab'.repeat(32), hardwareClaim(facts)))
    expect(named).toEqual({ kind: 'ok', name: 'edge-52-54-00-12-34-56' })
  })

  it('is missing where it cannot be read, which equals nothing', () => {
    const unknown = hardwareOf('ab', hardwareClaim(create(FactsSchema, {})))
    expect(unknown).toEqual({ machineId: 'ab' })
  })
})
