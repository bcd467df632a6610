import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { readServerNames } from './server-names.ts'

const values = (names: readonly string[], hostname = 'hub') => {
  const reading = readServerNames(names, hostname)
  return reading.ok ? reading.sans.map(({ kind, value }) => `${kind}:${value}`) : reading.reason
}

describe('readServerNames', () => {
  it('adds localhost and the computer’s own name to those configured, each once', () => {
    expect(values(['muster.example', '10.0.0.1', 'LOCALHOST'])).toEqual([
      'dns:muster.example',
      'ip:10.0.0.1',
      'dns:localhost',
      'ip:127.0.0.1',
      'ip:::1',
      'dns:hub',
    ])
  })

  it('gives names and addresses the form that certificates are compared in', () => {
    expect(values(['bücher.example', '[2001:DB8::0:1]', 'Hub.Example.'])).toEqual(
      expect.arrayContaining(['dns:xn--bcher-kva.example', 'ip:2001:db8::1', 'dns:hub.example']),
    )
  })

  it('refuses what is no name, and names it', () => {
    for (const bad of [
      '',
      'a b',
      '10.0.0.256',
      'http://x',
      'hub:7443',
      'fe80::1%eth0',
      '*.example',
      'a..b',
      '-a',
    ]) {
      expect(values([bad])).toContain(JSON.stringify(bad))
    }
    expect(values(Array.from({ length: 100 }, (_, index) => `h${index}`))).toContain('at most 64')
  })

  it('leaves the computer’s own name out when it is none', () => {
    for (const hostname of ['', '(none)', 'a b'])
      expect(values([], hostname)).not.toContain(`dns:${hostname}`)
  })

  it('takes any address and keeps its value', () => {
    fc.assert(
      fc.property(fc.ipV4(), ip => {
        expect(values([ip])).toContain(`ip:${ip}`)
      }),
    )
    fc.assert(
      fc.property(fc.ipV6(), ip => {
        const [first] = values([ip])
        expect(values([String(first).slice(3)])[0]).toBe(first)
      }),
    )
  })
})
