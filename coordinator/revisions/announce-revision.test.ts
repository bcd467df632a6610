import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it, onTestFinished } from 'vitest'
import type { Assignment } from '../enrolment/assign.ts'
import { openStore } from '../store/store.ts'
import { followRevision } from './announce-revision.ts'
import { fleetTargetsCache } from './fleet-targets.ts'

const hostOf = (name: string): Assignment =>
  name === '' ? { kind: 'none', reason: 'no host' } : { kind: 'host', host: name, group: '', boundBy: 'key' }

describe('following a published revision', () => {
  it('wakes exactly the machines that are another host than before, and those that came meanwhile', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'muster-announce-'))
    onTestFinished(() => rm(folder, { recursive: true, force: true }))
    await using store = await openStore(join(folder, 'store.sqlite'), new Date())
    const hosts = fc.constantFrom('', 'a', 'b', 'c')
    const machine = fc.record({ before: hosts, after: hosts, late: fc.boolean() })
    await fc.assert(
      fc.asyncProperty(fc.array(machine, { maxLength: 150 }), async fleet => {
        let isDone = false
        const woken: string[] = []
        const ids = () =>
          [...fleet.keys()].filter(index => isDone || fleet[index]?.late === false).map(String)
        await followRevision({
          db: store.db,
          fleetTargets: fleetTargetsCache(),
          directory: {
            retarget: async () => {
              isDone = true
            },
            assignment: id => {
              const one = fleet[Number(id)]
              return hostOf((isDone ? one?.after : one?.before) ?? '')
            },
          },
          registry: { machines: () => ids(), wake: id => woken.push(id) },
        })
        const wanted = fleet.flatMap(({ before, after, late }, index) =>
          late || before !== after ? [String(index)] : [],
        )
        expect(woken).toEqual(wanted)
      }),
    )
  })
})
