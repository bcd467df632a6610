import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { MachineDirectory } from '../machines/directory.ts'
import { entryOf, type MachineState } from '../machines/entry.ts'
import {
  openTestAuthorities,
  openTestFleet,
  type TestFleet,
  targetOf,
} from '../machines/testing/test-fleet.ts'
import { indexTargets } from '../revisions/fleet-targets.ts'
import { newMachineRow } from '../store/machines.ts'

const HOSTS = ['db1', 'db2', 'web', 'nas'] as const
const idOf = (index: number) => String(index).repeat(64)

let made: Awaited<ReturnType<typeof openTestAuthorities>>
let fleet: TestFleet
beforeAll(async () => {
  made = await openTestAuthorities()
  fleet = await openTestFleet(made.authorities)
})
afterAll(async () => {
  await fleet[Symbol.asyncDispose]()
  await made[Symbol.asyncDispose]()
})

interface Told {
  readonly state: MachineState
  readonly serial: string
  /** What it says that it acted as. */
  readonly said: string
  readonly bound: string | undefined
}

const machines = fc.array(
  fc.record<Told>({
    state: fc.constantFrom('active', 'active', 'enrolled', 'pending', 'evicted'),
    serial: fc.constantFrom('', 'S-db1', 'S-web', 'S-9'),
    said: fc.constantFrom('', 'gone', 'not a host!', ...HOSTS, ...HOSTS),
    bound: fc.constantFrom(undefined, undefined, undefined, undefined, ...HOSTS),
  }),
  { minLength: 1, maxLength: 5 },
)

/** A fleet file that ties db1 and web to a serial, db2 to a key and nas to nothing. */
async function directoryOf(all: readonly Told[], say = true): Promise<MachineDirectory> {
  const bindings = { db1: { serial: 'S-db1' }, web: { serial: 'S-web' }, db2: { machine: idOf(2) }, nas: {} }
  const targets = HOSTS.map(host => targetOf({ host, binding: bindings[host] }))
  const directory = await MachineDirectory.load(fleet.deps.store.db, indexTargets(7, 'f'.repeat(64), targets))
  all.forEach(({ state, serial, said }, index) => {
    const row = newMachineRow({ id: idOf(index), publicKey: Buffer.of(1), state, nowMs: 1, address: '' })
    directory.put(entryOf({ ...row, serial, acting_host: say ? said : '' }, []))
  })
  const taken = new Set<string>()
  all.forEach(({ bound }, index) => {
    if (bound === undefined || taken.has(bound)) return
    taken.add(bound)
    directory.bind(idOf(index), bound)
  })
  return directory
}

describe('what a machine says of the host it acted as', () => {
  it('makes no machine any host, whatever it says', async () => {
    await fc.assert(
      fc.asyncProperty(machines, async all => {
        const [said, silent] = [await directoryOf(all), await directoryOf(all, false)]
        all.forEach((_, index) => {
          expect(said.assignment(idOf(index))).toEqual(silent.assignment(idOf(index)))
        })
        for (const host of HOSTS) expect(said.machineOf(host)).toBe(silent.machineOf(host))
      }),
      { numRuns: 200 },
    )
  })

  it('is proposed of one machine at most, only where it is no host, nobody is that host, and the fleet file does not rule it out', async () => {
    let proposed = 0
    await fc.assert(
      fc.asyncProperty(machines, async all => {
        const directory = await directoryOf(all)
        const hosts: string[] = []
        all.forEach(({ state, said }, index) => {
          const id = idOf(index)
          const proposal = directory.proposal(id)
          if (proposal.kind === 'none') return
          expect(said).toBe(proposal.host)
          expect(HOSTS).toContain(proposal.host)
          expect(['active', 'enrolled']).toContain(state)
          expect(directory.assignment(id).kind).toBe('none')
          if (proposal.kind === 'conflict') return
          hosts.push(proposal.host)
          expect(directory.claimants(proposal.host)).toEqual([])
          // An operator who binds it gets just that.
          directory.bind(id, proposal.host)
          expect(directory.assignment(id)).toMatchObject({
            kind: 'host',
            host: proposal.host,
            boundBy: 'hand',
          })
          directory.bind(id, undefined)
        })
        expect(new Set(hosts).size).toBe(hosts.length)
        proposed += hosts.length
      }),
      { numRuns: 600 },
    )
    // A world in which nobody is proposed would prove nothing.
    expect(proposed).toBeGreaterThan(5)
  })

  it('is shown with what is in the way, and follows the fleet file', async () => {
    const told = (change: Partial<Told>): Told => ({
      state: 'active',
      serial: '',
      said: 'nas',
      bound: undefined,
      ...change,
    })
    const of = async (all: readonly Told[], index = 0) => (await directoryOf(all)).proposal(idOf(index))
    expect(await of([told({})])).toEqual({ kind: 'host', host: 'nas' })
    expect(await of([told({}), told({})])).toMatchObject({
      kind: 'conflict',
      reason: 'so does machine 111111111111',
    })
    expect(await of([told({}), told({ said: '', bound: 'nas' })])).toMatchObject({
      reason: 'that is machine 111111111111',
    })
    expect(await of([told({ said: 'db1', serial: 'S-9' })])).toMatchObject({
      reason: expect.stringContaining('serial S-db1'),
    })
    expect(await of([told({ said: 'db2' })])).toMatchObject({
      reason: expect.stringContaining("another machine's key"),
    })
    expect(await of([told({ said: 'gone' })])).toEqual({ kind: 'none' })
    const directory = await directoryOf([told({ said: 'gone' }), told({})])
    await directory.retarget(
      fleet.deps.store.db,
      indexTargets(8, 'e'.repeat(64), [targetOf({ host: 'gone', binding: {} })]),
    )
    expect(directory.proposal(idOf(0))).toEqual({ kind: 'host', host: 'gone' })
    expect(directory.proposal(idOf(1))).toEqual({ kind: 'none' })
  })
})
