import { create } from '@bufbuild/protobuf'
import { describe, expect, it } from 'vitest'
import {
  ClosureFetchSchema,
  KubernetesTargetSchema,
  RebootPolicy,
  SafetySchema,
  type Target,
} from '../gen/muster/v1/manifest_pb.ts'
import { durationFromMs } from '../time.ts'
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

  it('tells which Kubernetes, and that no apply moves one that lives apart', () => {
    const attribute = 'nixosConfigurations.olaf.config.muster.kubernetes.profile.package'
    const running = (version: string, apart: boolean) =>
      sampleTarget({
        kubernetes: create(
          KubernetesTargetSchema,
          apart ? { version, apart, way: { case: 'source', value: { attribute } } } : { version },
        ),
      })
    const [apart] = diff([running('1.34.3', true)], [running('1.35.4', true)])
    expect(apart?.fields).toEqual([{ field: 'kubernetes version', from: '1.34.3', to: '1.35.4' }])
    expect(apart?.notes).toEqual([
      'Kubernetes of host olaf lives apart, and no apply moves it; `muster cluster upgrade home 1.35.4` does',
    ])
    const [together] = diff([running('1.34.3', false)], [running('1.35.4', false)])
    expect(together?.notes).toEqual([])
    const [moved] = diff([running('1.34.3', false)], [running('1.34.3', true)])
    expect(moved?.fields).toEqual(
      expect.arrayContaining([
        { field: 'kubernetes life', from: 'with-system', to: 'apart' },
        { field: 'kubernetes attribute', from: undefined, to: attribute },
      ]),
    )
  })

  it('explains how a change is proved from now on', () => {
    const tcp = { name: 'db', probe: { case: 'tcp', value: { address: 'db.home:5432' } } } as const
    const before = create(SafetySchema, { soak: durationFromMs(90_000), gates: [tcp], noTrial: true })
    const after = create(SafetySchema, {
      reboot: RebootPolicy.REQUIRED,
      confirmLocally: true,
      toleratedUnits: ['backup.service'],
      gates: [
        { ...tcp, deadline: durationFromMs(3_000) },
        { name: 'web', probe: { case: 'http', value: { url: 'http://a/', status: 200, contains: 'ok' } } },
        { name: 'own', probe: { case: 'script', value: { path: 'x.sh', arguments: ['a b'] } } },
      ],
    })
    const [change] = diff([sampleTarget({ safety: before })], [sampleTarget({ safety: after })])
    expect(change?.fields).toEqual([
      { field: 'soak', from: '90 s', to: undefined },
      { field: 'trial', from: 'none', to: undefined },
      { field: 'gates', from: 'db', to: 'db web own' },
      { field: 'gate db', from: 'tcp db.home:5432', to: 'tcp db.home:5432, deadline 3 s' },
      { field: 'confirm', from: undefined, to: 'local' },
      { field: 'reboot', from: undefined, to: 'required' },
      { field: 'tolerated units', from: undefined, to: 'backup.service' },
      { field: 'gate web', from: undefined, to: 'http http://a/, status 200, contains "ok"' },
      { field: 'gate own', from: undefined, to: 'script x.sh "a b"' },
    ])
    expect(diff([sampleTarget({ safety: after })], [sampleTarget({ safety: after })])).toEqual([])
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
