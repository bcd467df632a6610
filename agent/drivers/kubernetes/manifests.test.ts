import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { JsonObject } from '../../../shared/read-value.ts'
import {
  type InventoryEntry,
  identityOf,
  joinInventories,
  judgePrune,
  labelled,
  orphansOf,
  readInventory,
  writeInventory,
} from './manifests.ts'
import { readManifests } from './read-manifests.ts'

const entry = (name: string, change: Partial<InventoryEntry> = {}): InventoryEntry => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  namespace: 'app',
  name,
  uid: `uid-${name}`,
  ...change,
})
const live = (uid: string, set = 'lab'): JsonObject => ({
  metadata: { uid, labels: { 'muster/manifests': set } },
})

describe('T49: what the set no longer has', () => {
  it.each<[string, InventoryEntry, JsonObject | undefined, string]>([
    ['is deleted by its uid', entry('a'), live('uid-a'), 'delete'],
    ['is deleted when it was made just before a crash', entry('a', { uid: undefined }), live('u'), 'delete'],
    ['is forgotten when it is gone', entry('a'), undefined, 'forget'],
    ['stays when somebody made it anew', entry('a'), live('other'), 'keep'],
    ['stays without our label', entry('a'), { metadata: { uid: 'uid-a' } }, 'keep'],
    ['stays with the label of another set', entry('a'), live('uid-a', 'other'), 'keep'],
    ['stays when it is a namespace', entry('a', { kind: 'Namespace', namespace: '' }), live('uid-a'), 'keep'],
    [
      'stays when it is a definition',
      entry('a', { apiVersion: 'apiextensions.k8s.io/v1', kind: 'CustomResourceDefinition', namespace: '' }),
      live('uid-a'),
      'keep',
    ],
  ])('%s', (_, each, object, step) => expect(judgePrune(each, object, 'lab').kind).toBe(step))

  it('is never something that it still has, whatever version it is written in', () => {
    const anEntry = fc
      .record({
        apiVersion: fc.constantFrom('v1', 'apps/v1', 'apps/v1beta1'),
        kind: fc.constantFrom('A', 'B'),
        namespace: fc.constantFrom('', 'x'),
        name: fc.constantFrom('a', 'b', 'c'),
      })
      .map(each => ({ ...each, uid: identityOf(each) }))
    fc.assert(
      fc.property(fc.array(anEntry), fc.array(anEntry), (before, wanted) => {
        const kept = new Set(wanted.map(identityOf))
        const orphans = orphansOf(before, wanted)
        expect(orphans.some(each => kept.has(identityOf(each)))).toBe(false)
        for (const each of before) expect(kept.has(identityOf(each)) || orphans.includes(each)).toBe(true)
      }),
    )
  })
})

describe('an inventory', () => {
  it('is read as it was written', () => {
    const entries = [entry('a'), entry('b', { uid: undefined, namespace: '' })]
    expect(readInventory(writeInventory(entries))).toEqual(entries)
  })

  it.each([
    '',
    '{}',
    '[{"kind":"X"}]',
    '[1]',
    '[{"apiVersion":"v1/../..","kind":"X","namespace":"","name":"a"}]',
  ])('that is damaged is none: %s', text => expect(readInventory(text)).toBeUndefined())

  it('keeps the uid that it knows', () => {
    expect(joinInventories([entry('a')], [entry('a', { uid: undefined })])).toEqual([entry('a')])
    expect(joinInventories([entry('a')], [entry('a', { uid: 'new' })])).toEqual([entry('a', { uid: 'new' })])
  })
})

describe('manifests', () => {
  const read = (text: string) => readManifests(new Map([['web.yaml', text]]))

  it('T49: a separator within a certificate separates nothing', () => {
    const pem = '-----BEGIN CERTIFICATE-----\n    ---\n    -----END CERTIFICATE-----'
    const text = `apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData:\n  x: |\n    ${pem}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n`
    const objects = read(text)
    expect(objects).toMatchObject({ kind: 'done', value: [{ kind: 'Secret' }, { kind: 'ConfigMap' }] })
  })

  it('are read as Kubernetes reads them', () => {
    const text =
      'apiVersion: v1\nkind: X\nmetadata: {name: a}\nmode: 0644\non: yes\ntime: 22:30\nday: 2026-11-28\n---\n---\n'
    expect(read(text)).toMatchObject({
      kind: 'done',
      value: [{ mode: 420, time: '22:30', day: '2026-11-28' }],
    })
  })

  it('are taken out of a list', () => {
    const item = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}'
    expect(read(`{"apiVersion":"v1","kind":"List","items":[${item}]}`)).toMatchObject({
      value: [{ kind: 'ConfigMap' }],
    })
  })

  it.each([
    ['kind: X\nmetadata: {name: a}\n', /web\.yaml, line 1: wanted apiVersion/],
    [
      'apiVersion: v1\nkind: X\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Z\nmetadata: {generateName: a}\n',
      /line 5: wanted metadata.name/,
    ],
    ['a: [\n', /web\.yaml: /],
    ['a: 1\na: 2\n', /unique/],
  ])('are refused with their place: %s', (text, reason) => {
    expect(read(text)).toMatchObject({ kind: 'failed', reason: expect.stringMatching(reason) })
  })

  it('carry our label beside their own', () => {
    expect(labelled({ metadata: { name: 'a', labels: { x: 'y' } } }, 'lab')).toEqual({
      metadata: { name: 'a', labels: { x: 'y', 'muster/manifests': 'lab' } },
    })
  })
})
