import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { judgeIdentity } from './judge-identity.ts'

const one = { serial: 'S1', uuid: 'U1', disksDigest: 'D1' }
const classes = (input: Partial<Parameters<typeof judgeIdentity>[0]>) =>
  judgeIdentity({ claimed: one, known: undefined, others: [], accepted: [], ...input }).map(
    finding => finding.class,
  )

describe('judgeIdentity', () => {
  it('T7: finds a clone where serial and UUID of one key both changed, and only shows one change', () => {
    expect(classes({ known: { serial: 'S0', uuid: 'U0', disksDigest: 'D1' } })).toEqual(['clone'])
    expect(classes({ known: { serial: 'S0', uuid: 'U1', disksDigest: 'D1' } })).toEqual(['similar'])
    expect(classes({ known: { serial: 'S1', uuid: 'U0', disksDigest: 'D1' } })).toEqual(['similar'])
    expect(classes({ known: { serial: 'S1', uuid: 'U1', disksDigest: 'D0' } })).toEqual([])
  })

  it('finds a collision where another key has the same serial and the same disks', () => {
    expect(classes({ others: [{ id: 'b', serial: 'S1', uuid: 'U9', disksDigest: 'D1' }] })).toEqual([
      'collision',
    ])
    expect(classes({ others: [{ id: 'b', serial: 'S1', uuid: 'U9', disksDigest: 'D9' }] })).toEqual([
      'similar',
    ])
  })

  it('only shows two machines with one SMBIOS UUID', () => {
    expect(classes({ others: [{ id: 'b', serial: 'S9', uuid: 'U1', disksDigest: 'D9' }] })).toEqual([
      'similar',
    ])
  })

  it('lets be what a person let be', () => {
    const others = [{ id: 'b', serial: 'S1', uuid: 'U1', disksDigest: 'D1' }]
    expect(classes({ others, accepted: ['b'] })).toEqual([])
  })

  const text = fc.constantFrom('', 'a', 'b')
  const parts = fc.record({ serial: text, uuid: text, disksDigest: text })
  const other = fc.record({ id: fc.constantFrom('x', 'y'), serial: text, uuid: text, disksDigest: text })

  it('never matches what is absent', () => {
    fc.assert(
      fc.property(parts, fc.option(parts, { nil: undefined }), fc.array(other), (claimed, known, others) => {
        const found = judgeIdentity({ claimed, known, others, accepted: [] })
        const has = (kind: string) => found.some(finding => finding.class === kind)
        if (claimed.serial === '' || claimed.disksDigest === '') expect(has('collision')).toBe(false)
        if (claimed.serial === '' || claimed.uuid === '') expect(has('clone')).toBe(false)
        if (known?.serial === '' || known?.uuid === '') expect(has('clone')).toBe(false)
        if (claimed.serial === '' && claimed.uuid === '') expect(found).toEqual([])
      }),
    )
  })

  it('judges two machines alike from both sides', () => {
    fc.assert(
      fc.property(parts, parts, (a, b) => {
        const judge = (claimed: typeof a, rival: typeof a) =>
          judgeIdentity({ claimed, known: undefined, others: [{ id: 'x', ...rival }], accepted: [] }).map(
            finding => finding.class,
          )
        expect(judge(a, b)).toEqual(judge(b, a))
      }),
    )
  })
})
