import { create } from '@bufbuild/protobuf'
import { describe, expect, it } from 'vitest'
import { ClosureFetchSchema, type Target } from '../gen/muster/v1/manifest_pb.ts'
import { diffRevisions } from './explain-diff.ts'
import { sampleGroupTarget, sampleTarget } from './testing/sample-fleet.ts'

const diff = (before: Target[], after: Target[]) => diffRevisions({ targets: before }, { targets: after })

describe('diffRevisions', () => {
  it('is empty when nothing changes', () => {
    expect(diff([sampleTarget(), sampleGroupTarget()], [sampleGroupTarget(), sampleTarget()])).toEqual([])
  })

  it('tells hosts and groups of one name apart and sorts them', () => {
    const edge = sampleTarget({ host: 'edge' })
    const changes = diff([], [edge, sampleGroupTarget()])
    expect(changes.map(({ kind, name, change }) => [kind, name, change])).toEqual([
      ['group', 'edge', 'added'],
      ['host', 'edge', 'added'],
    ])
  })

  it('names each field with what it was and becomes', () => {
    const value = create(ClosureFetchSchema, { storePath: '/nix/store/x', closureDigest: 'a'.repeat(64) })
    const [change] = diff(
      [sampleTarget({ labels: { rack: 'a', row: '' } })],
      [
        sampleTarget({
          labels: { rack: 'b' },
          way: { case: 'closure', value },
          binding: { serial: 'S' },
          system: 'aarch64-linux',
        }),
      ],
    )
    expect(change?.fields).toEqual(
      expect.arrayContaining([
        { field: 'label rack', from: 'a', to: 'b' },
        { field: 'label row', from: '', to: undefined },
        { field: 'way', from: 'source', to: 'closure' },
        { field: 'attribute', from: 'olaf', to: undefined },
        { field: 'store path', from: undefined, to: '/nix/store/x' },
        { field: 'binding disk serial', from: 'S4EVNX0M123456', to: undefined },
        { field: 'binding serial', from: undefined, to: 'S' },
        { field: 'system', from: 'x86_64-linux', to: 'aarch64-linux' },
      ]),
    )
    expect(change?.notes).toEqual([])
  })

  it('says which command acts when a host is dropped', () => {
    const [change] = diff([sampleTarget()], [])
    expect(change).toMatchObject({
      change: 'removed',
      notes: [expect.stringContaining('`muster remove olaf`')],
    })
  })

  it.each<[string, Target]>([
    ['cluster', sampleTarget({ cluster: 'other' })],
    ['role', sampleTarget({ role: 'worker' })],
  ])('says which command acts when a host changes its %s', (field, after) => {
    const [change] = diff([sampleTarget()], [after])
    expect(change?.notes).toEqual([expect.stringContaining('`muster leave olaf`')])
    expect(change?.notes[0]).toContain(field)
  })

  it('sees another distribution only where both are known', () => {
    const content = (distribution: string) => ({
      targets: [sampleTarget()],
      distributions: new Map([['home', distribution]]),
    })
    expect(diffRevisions(content('k3s'), content('k0s'))).toMatchObject([
      {
        fields: [{ field: 'distribution', from: 'k3s', to: 'k0s' }],
        notes: [expect.stringContaining('muster leave')],
      },
    ])
    expect(diffRevisions({ targets: [sampleTarget()] }, content('k0s'))).toEqual([])
  })

  it('has no note for a host that joins its first cluster', () => {
    const [change] = diff([sampleTarget({ role: 'none', cluster: '' })], [sampleTarget()])
    expect(change?.notes).toEqual([])
  })
})
