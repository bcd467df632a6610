import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { expandNameTemplate, templateProblem } from './name-template.ts'
import { nameProblem } from './text-types.ts'

describe('a name template', () => {
  it('puts facts into a name', () => {
    expect(expandNameTemplate('edge-{serial}', { serial: 'PF3XQ1AB' })).toEqual({ name: 'edge-pf3xq1ab' })
    expect(expandNameTemplate('edge-{serial}', { serial: '/7XKB1R2/CN12/' })).toEqual({
      name: 'edge-7xkb1r2-cn12',
    })
    expect(expandNameTemplate('{mac}', { mac: '52:54:00:12:34:56' })).toEqual({ name: '52-54-00-12-34-56' })
    expect(expandNameTemplate('m-{machine}', { machine: 'ab'.repeat(32) })).toEqual({
      name: 'm-abababababab',
    })
  })

  it('gives no name without the fact it needs', () => {
    for (const serial of [undefined, '', '   ', '///', 'ü']) {
      expect(expandNameTemplate('edge-{serial}', { serial })).toEqual({
        problem: 'the machine reports no serial, which the name needs',
      })
    }
    expect(expandNameTemplate('edge-{serial}', { serial: 'x'.repeat(60) })).toHaveProperty('problem')
  })

  it.each([
    'edge',
    '',
    'edge-{}',
    'edge-{cereal}',
    'Edge-{serial}',
    '-{serial}',
    '{serial}-',
    '../{serial}',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: this is what somebody may write
    '${serial}',
    '{serial',
    'a{{serial}}',
    `${'x'.repeat(63)}{serial}`,
  ])('is not %j', template => {
    expect(templateProblem(template)).toBeDefined()
    expect(expandNameTemplate(template, { serial: 'a' })).toHaveProperty('problem')
  })

  it('T12: makes a valid name or none of whatever a machine claims', () => {
    const nasty = fc.stringMatching(/^["'$`{}\\/.\n\r\0a-zA-Z0-9 ü-]{0,80}$/)
    const template = fc.constantFrom('edge-{serial}', '{uuid}', '{mac}-x', '{serial}{machine}')
    fc.assert(
      fc.property(template, nasty, nasty, nasty, nasty, (template, serial, uuid, mac, machine) => {
        const result = expandNameTemplate(template, { serial, uuid, mac, machine })
        if ('name' in result) expect(nameProblem(result.name)).toBeUndefined()
        else expect(result.problem).toMatch(/reports no|is not valid/)
      }),
      { numRuns: 500 },
    )
  })
})
