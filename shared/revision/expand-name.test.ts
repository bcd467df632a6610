import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { checkNameTemplate, expandName } from './expand-name.ts'
import { isHostName } from './host-name.ts'
import { sampleHardware } from './testing/sample-fleet.ts'

const nameOf = (template: string, change = {}) => expandName(template, { ...sampleHardware, ...change })

describe('expandName', () => {
  it.each([
    ['edge-{serial}', 'edge-sn123'],
    ['{uuid}', '11111111-2222-3333-4444-555555555555'],
    ['n-{mac}', 'n-52-54-00-00-00-01'],
    ['{machine}', 'abababababab'],
    ['{serial}-{machine}', 'sn123-abababababab'],
  ])('%s gives %s', (template, name) => {
    expect(nameOf(template)).toEqual({ kind: 'ok', name })
  })

  it('does not depend on the order of interfaces', () => {
    expect(nameOf('{mac}', { macs: sampleHardware.macs?.toReversed() })).toEqual(nameOf('{mac}'))
  })

  it('T2: names what the machine cannot read', () => {
    for (const change of [{ serial: undefined }, { serial: '' }]) {
      expect(nameOf('edge-{serial}', change)).toMatchObject({
        kind: 'unreadable',
        reason: expect.stringContaining('serial'),
      })
    }
    expect(nameOf('{mac}', { macs: [] })).toMatchObject({ kind: 'unreadable' })
  })

  it('T12: gives a host name or refuses, whatever stands in the facts', () => {
    const texts = fc.oneof(
      fc.string(),
      fc.constantFrom('$' + '{x}', '../x', 'a"b', 'a\nb', '{serial}', '-', 'Ä'),
    )
    fc.assert(
      fc.property(texts, serial => {
        const result = nameOf('e{serial}', { serial })
        if (result.kind === 'ok') expect(isHostName(result.name)).toBe(true)
        if (/[^A-Za-z0-9-]/.test(serial)) expect(result.kind).not.toBe('ok')
      }),
    )
  })

  it('never gives two serial numbers that differ in more than case one name', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (a, b) => {
        fc.pre(a.toLowerCase() !== b.toLowerCase())
        const [first, second] = [nameOf('e-{serial}', { serial: a }), nameOf('e-{serial}', { serial: b })]
        if (first.kind === 'ok' && second.kind === 'ok') expect(first.name).not.toBe(second.name)
      }),
    )
  })

  it.each([
    'edge',
    '',
    '{foo}',
    '{}',
    'Edge-{serial}',
    'a.{serial}',
    '{serial',
    `${'a'.repeat(300)}{serial}`,
    '{toString}',
  ])('refuses the template %j', template => {
    expect(checkNameTemplate(template)).toBeDefined()
    expect(nameOf(template).kind).toBe('refused')
  })

  it('refuses a name that is too long', () => {
    expect(nameOf(`${'a'.repeat(60)}-{serial}`).kind).toBe('refused')
  })
})
