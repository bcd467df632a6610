import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { NodeStatusSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { FactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import {
  DisksAnswerSchema,
  JournalLineSchema,
  PortsAnswerSchema,
  UnitsAnswerSchema,
} from '../../shared/gen/muster/v1/probe_pb.ts'
import { VARIABLE_NAMES } from '../../shared/query/expression.ts'
import type { ClusterSnapshot } from '../clusters/cluster-snapshot.ts'
import { MachineDirectory } from '../machines/directory.ts'
import { addMachine, type SampleFleet, START, sampleFleet } from '../revisions/testing/sample-fleet.ts'
import { clusterVariables } from './cluster-variables.ts'
import { compileField, readContexts } from './evaluate-fleet.ts'
import { vocabularyOf, vocabularyOfValue } from './testing/vocabulary.ts'

let fleet: SampleFleet
beforeEach(async () => {
  fleet = await sampleFleet()
})
afterEach(() => fleet[Symbol.asyncDispose]())

const page = await readFile(join(import.meta.dirname, '../../docs/reference/query.md'), 'utf8').catch(
  () => '',
)

/** What the page documents: names in the first column, types in the second. */
function documented(): Record<string, string> {
  const rows = page.matchAll(/^\| `((?:[a-z]+)(?:[.[\]A-Za-z_]*))` \| ([^|]+) \|/gm)
  return Object.fromEntries([...rows].map(([, name = '', type = '']) => [name, type.trim()]))
}

const MACHINE = 'a'.repeat(64)

it('docs/reference/query.md documents every variable with its type, and no other', async () => {
  await addMachine(fleet.store, MACHINE, { certificate_not_after: START.getTime() + 1 })
  const directory = await MachineDirectory.load(fleet.store.db, fleet.fleetTargets.current())
  const entry = directory.get(MACHINE)
  if (!entry) throw new Error('the machine is not there')
  const deps = {
    store: fleet.store,
    directory,
    clock: fleet.clock,
    sessions: { online: () => true, lastMessage: () => undefined },
    conditions: { stuckAfterMs: 600_000, certificateWarnMs: 86_400_000 },
  }
  const where = compileField('expression', 'machine.id == "" && status.online && now > now && host == ""')
  const contextOf = await readContexts(deps, { where, select: [] }, [entry])
  const { machine, status, host, now } = contextOf(entry)
  const snapshot: ClusterSnapshot = {
    distribution: 'k3s',
    hosts: [{ host: 'olaf', role: 'server', machine: MACHINE }],
    record: {
      name: 'home',
      count: 1,
      firstServer: MACHINE,
      joins: [],
      clears: [],
      leaves: [],
      left: new Map(),
      attempts: new Map(),
      settledMs: 0,
      setBackAt: 0,
      founding: {
        state: 'founded',
        machine: MACHINE,
        host: 'olaf',
        operation: 'x',
        atMs: 0,
        attempt: 1,
        authority: 'b'.repeat(64),
        adopted: false,
      },
    },
    machines: new Map([
      [
        MACHINE,
        {
          connected: true,
          gone: false,
          occupied: false,
          observation: {
            asOfMs: START.getTime(),
            part: 'home',
            data: { kind: 'cluster', authority: 'b'.repeat(64), distribution: 'k3s', server: true },
            version: '1.34.3',
            view: {
              ready: true,
              members: [{ name: 'olaf', learner: false, healthy: true }],
              nodes: [{ name: 'olaf', uid: 'u', ready: true, version: '1.34.3' }],
            },
          },
        },
      ],
    ]),
  }
  const clusters = await clusterVariables(
    { names: () => ['home'], snapshot: async () => snapshot },
    START.getTime() + 1,
  )
  const journal = [...vocabularyOf('live.journal[]', JournalLineSchema)]
  const expected = new Map([
    ...[vocabularyOf('facts', FactsSchema), vocabularyOf('node', NodeStatusSchema)].flatMap(map => [...map]),
    ...vocabularyOfValue('machine', machine),
    ...vocabularyOfValue('host', host),
    ...vocabularyOfValue('status', status),
    ...vocabularyOfValue('cluster', clusters.get(MACHINE)),
    ...vocabularyOfValue('now', now),
    ...[...vocabularyOf('live', UnitsAnswerSchema)].filter(([name]) => name !== 'live.truncated'),
    ...[...vocabularyOf('live', DisksAnswerSchema)].filter(([name]) => name !== 'live.truncated'),
    ...[...vocabularyOf('live', PortsAnswerSchema)].filter(([name]) => name !== 'live.truncated'),
    ...journal,
    ['live.truncated', 'list of text'],
    ['labels', 'texts by name'],
  ])
  // Says only whether the other is there.
  expected.delete('node.unitsRead')
  expect(documented()).toEqual(Object.fromEntries(expected))
  const roots = new Set([...expected.keys()].map(name => /^[a-z]+/.exec(name)?.[0]))
  expect([...roots].toSorted()).toEqual([...VARIABLE_NAMES].toSorted())
})
