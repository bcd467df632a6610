import { spawn } from 'node:child_process'
import { watch } from 'node:fs'
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { signingKeyPem } from '../../shared/envelope/keys.ts'
import { findMachine } from '../store/machines.ts'
import { openOperations } from '../store/operations.ts'
import { newestRevision, treeDigests, trees } from '../store/revisions.ts'
import { openStore, type Store } from '../store/store.ts'
import { openBlobs } from './blobs.ts'
import { loadFleetTargets } from './fleet-targets.ts'
import { addMachine, KEY, sampleFleet } from './testing/sample-fleet.ts'

const OLAF = 'a'.repeat(64)

/** Runs the program until so many changes on disk were seen; says what it had answered by then. */
async function runUntilKilled(folder: string, changes: number): Promise<string[]> {
  const program = join(import.meta.dirname, 'testing/publish-and-order.ts')
  const child = spawn(process.execPath, ['--import', 'tsx', program, folder, OLAF], {
    cwd: import.meta.dirname,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const answers: string[] = []
  const reading = createInterface({ input: child.stdout }).on('line', line => answers.push(line))
  const read = new Promise(resolve => reading.once('close', resolve))
  const ended = new Promise(resolve => child.once('exit', resolve))
  let left = changes
  const count = () => {
    if (--left === 0) child.kill('SIGKILL')
  }
  const watchers = [folder, join(folder, 'blobs', 'incoming')].map(path => watch(path, count))
  await ended
  await read
  for (const watcher of watchers) watcher.close()
  expect({ signal: child.signalCode, exit: child.exitCode }).toEqual({ signal: 'SIGKILL', exit: null })
  return answers
}

async function numbersOf(store: Store): Promise<number[]> {
  const rows = await store.db.selectFrom('revisions').select('number').orderBy('number').execute()
  return rows.map(row => row.number)
}

it('loses, doubles and blocks nothing when it is killed while it publishes, orders and takes reports', async () => {
  await using fleet = await sampleFleet()
  await writeFile(join(fleet.folder, 'key.pem'), signingKeyPem(KEY))
  await addMachine(fleet.store, OLAF)
  await fleet.store[Symbol.asyncDispose]()
  let published = 0
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 3, max: 200 }), async changes => {
      const answers = await runUntilKilled(fleet.folder, changes)
      await using store = await openStore(join(fleet.folder, 'store.sqlite'), new Date())
      // Revisions: all that were answered, without a gap, each with its targets and its tree.
      const numbers = await numbersOf(store)
      expect(numbers).toEqual(numbers.map((_, at) => at + 1))
      const told = answers.filter(line => line.startsWith('published')).map(line => Number(line.slice(10)))
      expect(numbers.length).toBeGreaterThanOrEqual(Math.max(0, ...told))
      const blobs = await openBlobs(join(fleet.folder, 'blobs'))
      await blobs.sweep(await treeDigests(store.db))
      expect(await readdir(join(fleet.folder, 'blobs', 'incoming'))).toEqual([])
      for (const tree of await trees(store.db)) {
        let length = 0
        for await (const chunk of blobs.read(tree)) length += chunk.length
        expect(length).toBe(tree.length)
      }
      const newest = await newestRevision(store.db)
      expect((await loadFleetTargets(store.db)).revision).toBe(newest?.manifest.number ?? 0)
      // Operations: each order once, those that ended are over, and at most the last one is open.
      const operations = await store.db.selectFrom('operations').selectAll().execute()
      const requests = await store.db.selectFrom('requests').selectAll().execute()
      expect(operations.length).toBe(requests.length)
      for (const line of answers.filter(text => !text.startsWith('published'))) {
        const [verb, id] = line.split(' ')
        const row = operations.find(operation => operation.id === id)
        expect(row).toBeDefined()
        if (verb === 'ended') expect(row?.outcome_class).toBe(1)
      }
      const open = await openOperations(store.db, [OLAF])
      expect(open.length).toBeLessThanOrEqual(1)
      const applied = (await findMachine(store.db, OLAF))?.applied_revision ?? 0
      const succeeded = operations.filter(row => row.outcome_class === 1).map(row => row.revision)
      expect(applied).toBe(Math.max(0, ...succeeded))
      published = Math.max(published, numbers.length)
    }),
    { numRuns: 5, examples: [[6], [30], [47], [101]] },
  )
  expect(published).toBeGreaterThan(2)
})
