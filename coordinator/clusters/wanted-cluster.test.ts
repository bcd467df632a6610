import { create } from '@bufbuild/protobuf'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { FactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import { BindingSchema, type Target } from '../../shared/gen/muster/v1/manifest_pb.ts'
import type { KnownCluster } from '../../shared/revision/clusters.ts'
import { MachineDirectory } from '../machines/directory.ts'
import { indexTargets } from '../revisions/fleet-targets.ts'
import { addMachine, type SampleFleet, sampleFleet, targetOf } from '../revisions/testing/sample-fleet.ts'
import { standingsOf } from './standings.ts'
import { clusterOfMachine, wantedCluster } from './wanted-cluster.ts'

const idOf = (letter: string) => letter.repeat(64)

let fleet: SampleFleet
beforeEach(async () => {
  fleet = await sampleFleet()
})
afterEach(() => fleet[Symbol.asyncDispose]())

const home: KnownCluster = {
  cluster: 'home',
  distribution: 'k3s',
  version: undefined,
  gates: [],
  endpoint: '10.0.100.9',
  admitsWorkers: true,
  members: [
    { host: 's2', role: 'server', machine: undefined },
    { host: 's1', role: 'server+worker', machine: idOf('a') },
    { host: 'w1', role: 'worker', machine: undefined },
  ],
}

function targets() {
  const of = (host: string, role: string, machine: string): Target => ({
    ...targetOf(fleet.fleetId, host, { machine }),
    role,
    cluster: 'home',
  })
  const group: Target = {
    ...targetOf(fleet.fleetId, ''),
    group: 'edge',
    role: 'worker',
    cluster: 'home',
    binding: create(BindingSchema, { rule: "facts.system.product == 'N100'", nameTemplate: 'edge-{serial}' }),
  }
  const none = targetOf(fleet.fleetId, 'nas', { machine: idOf('e') })
  const all = [
    of('s1', 'server+worker', idOf('a')),
    of('s2', 'server', idOf('b')),
    of('w1', 'worker', idOf('c')),
    group,
    none,
  ]
  return indexTargets(1, 'd'.repeat(64), all, new Map([['home', home]]))
}

it('is the hosts of the signed manifest with their machines, and machines that a group admits as workers', async () => {
  for (const letter of ['a', 'b', 'e']) await addMachine(fleet.store, idOf(letter))
  const directory = await MachineDirectory.load(fleet.store.db, targets())
  await addMachine(fleet.store, idOf('f'), { serial: 'x1' })
  const entry = directory.get(idOf('a'))
  if (!entry) throw new Error('the directory lost a machine')
  const identity = { ...entry.identity, serial: 'x1' }
  directory.put(
    { ...entry, id: idOf('f'), identity, factsDigest: 'f' },
    create(FactsSchema, { system: { product: 'N100', serial: 'x1' } }),
  )
  const wanted = wantedCluster(directory.targets, directory, 'home')
  expect(wanted).toMatchObject({ distribution: 'k3s', endpoint: '10.0.100.9' })
  expect(wanted?.hosts).toEqual([
    { host: 'edge-x1', role: 'worker', machine: idOf('f') },
    { host: 's1', role: 'server+worker', machine: idOf('a'), barred: undefined },
    // No node would believe a server whose key the manifest does not name.
    { host: 's2', role: 'server', machine: idOf('b'), barred: { gate: 'unkeyed', host: 's2' } },
    { host: 'w1', role: 'worker', machine: undefined, barred: undefined },
  ])
  expect(wantedCluster(directory.targets, directory, 'other')).toBeUndefined()
  const clusterOf = (letter: string) => clusterOfMachine(directory.targets, directory, idOf(letter))
  expect(['a', 'e', 'f', '0'].map(clusterOf)).toEqual(['home', undefined, 'home', undefined])
})

it('a machine stands as connected, sent away for good, or occupied by whatever keeps it from obeying', async () => {
  const { db } = fleet.store
  await addMachine(fleet.store, idOf('a'))
  await addMachine(fleet.store, idOf('b'), { state: 'evicted' })
  await addMachine(fleet.store, idOf('c'), { held_reason: 'by hand', held_since: 1 })
  await addMachine(fleet.store, idOf('d'))
  await db
    .insertInto('conditions')
    .values({ machine: idOf('d'), class: 'went-back', reason: 'journal', since: 1 })
    .execute()
  const directory = await MachineDirectory.load(db, targets())
  const disputed = new Set([idOf('d')])
  const sessions = {
    live: (machine: string) =>
      machine === idOf('c')
        ? undefined
        : { instance: 'i', bootId: 'b', startedMs: 7, disputed: disputed.has(machine) },
  }
  const standings = await standingsOf(
    { store: fleet.store, directory, sessions },
    ['a', 'b', 'c', 'd', '0'].map(idOf),
  )
  const allowed = ['apply']
  expect(Object.fromEntries([...standings].map(([id, standing]) => [id[0], standing]))).toEqual({
    a: { connected: true, sinceMs: 7, gone: false, occupied: false, allowed },
    b: { connected: false, sinceMs: 7, gone: true, occupied: true, allowed },
    c: { connected: false, gone: false, occupied: true, allowed },
    d: { connected: false, sinceMs: 7, gone: false, occupied: true, allowed },
  })
})
