import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { addressKey, isNetworkEdge, parseAddress, sameNetwork, unusableAddress } from './address.ts'

function parsed(text: string) {
  const address = parseAddress(text)
  if (address === undefined) throw new Error(`${text} is no address`)
  return address
}

describe('an IP address', () => {
  it.each([
    '10.0.0',
    '10.0.0.256',
    '010.0.0.1',
    '10.0.0.1/24',
    'fe80::1%eth0',
    '1::2::3',
    ':',
    '',
    'dhcp',
    ' 10.0.0.1',
  ])('is not %j', text => {
    expect(parseAddress(text)).toBeUndefined()
  })

  it('is the same in each of its spellings', () => {
    for (const [a, b] of [
      ['fd00::1', 'FD00:0:0:0:0:0:0:1'],
      ['::ffff:10.0.0.1', '::ffff:a00:1'],
      ['::', '0:0:0:0:0:0:0:0'],
      ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
    ] as const) {
      expect(addressKey(parsed(a))).toBe(addressKey(parsed(b)))
    }
    expect(addressKey(parsed('0.0.0.1'))).not.toBe(addressKey(parsed('::1')))
  })

  it('has the value that its bytes spell', () => {
    fc.assert(
      fc.property(fc.ipV4(), text => {
        const value = text.split('.').reduce((sum, part) => sum * 256 + Number(part), 0)
        expect(parsed(text).bits).toBe(BigInt(value))
      }),
    )
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 0xffff }), { minLength: 8, maxLength: 8 }), groups => {
        const text = groups.map(group => group.toString(16)).join(':')
        expect(parsed(text).bits).toBe(
          BigInt(`0x${groups.map(group => group.toString(16).padStart(4, '0')).join('')}`),
        )
      }),
    )
  })

  it('lies in the network of its prefix', () => {
    expect(sameNetwork(parsed('10.0.1.5'), parsed('10.0.0.1'), 23)).toBe(true)
    expect(sameNetwork(parsed('10.0.1.5'), parsed('10.0.0.1'), 24)).toBe(false)
    expect(sameNetwork(parsed('fd00::1'), parsed('fd00::ffff'), 64)).toBe(true)
    expect(sameNetwork(parsed('fd00::1'), parsed('10.0.0.1'), 1)).toBe(false)
  })

  it('at the edge of its network is told apart, but not in the smallest ones', () => {
    expect(isNetworkEdge(parsed('10.0.0.0'), 24)).toBe(true)
    expect(isNetworkEdge(parsed('10.0.0.255'), 24)).toBe(true)
    expect(isNetworkEdge(parsed('10.0.0.255'), 23)).toBe(false)
    expect(isNetworkEdge(parsed('10.0.0.0'), 31)).toBe(false)
    expect(isNetworkEdge(parsed('fd00::'), 64)).toBe(false)
  })

  it('that no machine can have is named', () => {
    for (const text of [
      '0.0.0.0',
      '0.1.2.3',
      '127.0.0.1',
      '224.0.0.1',
      '255.255.255.255',
      '::',
      '::1',
      'ff02::1',
    ]) {
      expect(unusableAddress(parsed(text)), text).toBeDefined()
    }
    for (const text of ['10.0.0.1', '192.168.1.1', '169.254.0.1', 'fe80::1', '2001:db8::1']) {
      expect(unusableAddress(parsed(text)), text).toBeUndefined()
    }
  })
})
