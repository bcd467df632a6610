import { create, toBinary } from '@bufbuild/protobuf'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { FactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import { sha256Hex } from '../../shared/ids.ts'
import { celToJson } from '../../shared/query/cel-to-json.ts'
import { MachineDirectory } from '../machines/directory.ts'
import { refreshMachines } from '../machines/refresh.ts'
import { addMachine, type SampleFleet, sampleFleet } from '../revisions/testing/sample-fleet.ts'
import { insertFacts } from '../store/facts.ts'
import { answerFromStore, compileField } from './evaluate-fleet.ts'
import { FactsCache } from './facts-cache.ts'

const MACHINES = 6
const idOf = (number: number) => sha256Hex(`machine ${number}`)
const CONDITIONS = { stuckAfterMs: 600_000, certificateWarnMs: 86_400_000 }
const QUESTION = {
  where: compileField('where', 'facts.cpu.cores >= 4 || facts.disks.exists(d, d.name == "b")'),
  select: [compileField('select', 'facts.cpu.cores'), compileField('select', 'facts.disks.map(d, d.name)')],
}

/** Gives a machine facts as a session does: the store first, then memory. */
async function tell(
  { store }: SampleFleet,
  directory: MachineDirectory,
  number: number,
  given: { readonly cores: bigint; readonly disks: readonly string[] },
  at: number,
): Promise<void> {
  const facts = create(FactsSchema, {
    cpu: { cores: given.cores },
    disks: given.disks.map(name => ({ name })),
  })
  const bytes = toBinary(FactsSchema, facts)
  const digest = sha256Hex(bytes)
  await store.transact(async tx => {
    await insertFacts(tx, { machine: idOf(number), digest, at, facts: bytes })
    await tx
      .updateTable('machines')
      .set(({ eb }) => ({ facts_digest: digest, generation: eb('generation', '+', 1) }))
      .where('id', '=', idOf(number))
      .execute()
  })
  await refreshMachines(store.db, directory, [idOf(number)], facts)
}

const change = fc.record({
  number: fc.nat(MACHINES - 1),
  cores: fc.bigInt(0n, 8n),
  disks: fc.array(fc.constantFrom('a', 'b', 'c'), { maxLength: 2 }),
  ask: fc.boolean(),
})

it('answers from what it keeps as from what the store has, whatever changes and however little room there is', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(change, { minLength: 1, maxLength: 12 }),
      fc.constantFrom(1, 30, 60, 10_000),
      async (changes, mostBytes) => {
        await using fleet = await sampleFleet()
        for (let number = 0; number < MACHINES; number++) await addMachine(fleet.store, idOf(number))
        const directory = await MachineDirectory.load(fleet.store.db, fleet.fleetTargets.current())
        const sessions = { online: () => false, lastMessage: () => undefined }
        const kept = new FactsCache(mostBytes)
        const ask = async (factsCache: FactsCache) => {
          const deps = { ...fleet, directory, sessions, conditions: CONDITIONS, factsCache }
          const found: unknown[] = []
          for await (const answers of answerFromStore(deps, QUESTION, () => true)) {
            for (const one of answers) {
              const shown =
                one.kind === 'match'
                  ? one.values.map(value => (value === undefined ? undefined : celToJson(value)))
                  : []
              found.push([one.entry.id, one.kind, shown])
            }
          }
          return found
        }
        for (const [at, { number, cores, disks, ask: asked }] of changes.entries()) {
          await tell(fleet, directory, number, { cores, disks }, at + 1)
          if (!asked && at < changes.length - 1) continue
          expect(await ask(kept)).toEqual(await ask(new FactsCache()))
          expect(kept.bytes).toBeLessThanOrEqual(mostBytes)
        }
      },
    ),
    { numRuns: 25 },
  )
})

it('keeps what is asked for again and drops what nobody asked for since', async () => {
  await using fleet = await sampleFleet()
  for (let number = 0; number < 3; number++) await addMachine(fleet.store, idOf(number))
  const directory = await MachineDirectory.load(fleet.store.db, fleet.fleetTargets.current())
  for (let number = 0; number < 3; number++) {
    await tell(fleet, directory, number, { cores: BigInt(number + 1), disks: [] }, number + 1)
  }
  const entries = [0, 1, 2].flatMap(number => directory.get(idOf(number)) ?? [])
  const [first, second, third] = entries
  if (!first || !second || !third) throw new Error('a machine is missing')
  const read = (...asked: typeof entries) => cache.read(fleet.store.db, asked)
  const cache = new FactsCache(9) // of four bytes each: two
  const [facts] = await read(first, second)
  expect((await read(first))[0]).toBe(facts)
  await read(third)
  expect(cache.bytes).toBe(8)
  expect((await read(first))[0]).toBe(facts)
})
