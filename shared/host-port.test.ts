import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseHostPort } from './host-port.ts'

describe('host and port', () => {
  it('come back from their text, IPv6 in brackets', () => {
    const port = fc.integer({ min: 1, max: 65_535 })
    fc.assert(
      fc.property(fc.oneof(fc.domain(), fc.ipV4()), port, (host, number) => {
        expect(parseHostPort(`${host}:${number}`)).toEqual({ host, port: number })
      }),
    )
    fc.assert(
      fc.property(fc.ipV6(), port, (host, number) => {
        expect(parseHostPort(`[${host}]:${number}`)).toEqual({ host, port: number })
      }),
    )
  })

  it.each([
    '',
    'hub.example',
    ':7444',
    'hub.example:',
    'hub.example:0',
    'hub.example:65536',
    'hub.example:-1',
    'hub.example:7444 ',
    'hub.example:7444\n',
    'a b:1',
    'hub.example:7443/x',
    'fd00::1:7444',
    '[hub.example]:7444',
    'unix:/run/x',
    'https://hub.example:7444',
    `${'a'.repeat(254)}:1`,
  ])('are not made up from something else: %j', text => {
    expect(parseHostPort(text)).toBeUndefined()
  })

  it('may name any free port where somebody listens', () => {
    expect(parseHostPort('[::]:0', 0)).toEqual({ host: '::', port: 0 })
    expect(parseHostPort('0.0.0.0:65536', 0)).toBeUndefined()
  })
})
