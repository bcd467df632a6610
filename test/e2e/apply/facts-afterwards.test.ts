import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { hasNix } from '../../nix/nix-library.ts'
import { until } from '../../support/shown.ts'
import { ApplyingFleet, inWords } from './applying-fleet.ts'

// With the interval that agents have by themselves, facts are read at the start and a day later: what is known sooner is known
// because of the operation.
let applying: ApplyingFleet

beforeAll(async () => {
  if (!hasNix) return
  applying = await ApplyingFleet.start()
  await applying.publish()
})
afterAll(async () => await applying?.[Symbol.asyncDispose]())

/** What `muster drift` says of a host. */
async function drift(host: string): Promise<Record<string, unknown>> {
  const [found] = await applying.fleet.json('drift', host)
  return found
}

describe.skipIf(!hasNix)(
  `facts after an operation ${hasNix ? '' : 'skipped: the command nix is missing'}`,
  () => {
    it('are of what was reached, and no drift is told until they come', async () => {
      await applying.addNode('olaf', { factsOfSystem: true })
      expect(await drift('olaf')).toMatchObject({ current: applying.before, state: 'behind' })
      const outcome = await applying.apply('olaf')
      expect(inWords(outcome)).toBe('succeeded')
      const states: unknown[] = []
      const settled = await until('facts of the new system', async () => {
        const found = await drift('olaf')
        states.push(found.state)
        return found.current === outcome.storePath ? found : undefined
      })
      expect(settled).toMatchObject({ state: 'in-sync', profile: outcome.storePath })
      expect(states.filter(state => state !== 'moving' && state !== 'in-sync')).toEqual([])
      expect(await applying.fleet.ok('drift')).toBe('')
    })

    it('are of the machine as it went back, and not as it was in the middle', async () => {
      const host = 'lateexit4'
      const node = await applying.addNode(host, { factsOfSystem: true })
      const [id = ''] = await applying.order([host])
      await until('the new system', () => (node.state().current !== applying.before ? true : undefined))
      const asked = ['query', `host == '${host}'`, '--live', '--select', 'facts.nixos.current']
      expect(JSON.stringify(await applying.fleet.json(...asked))).toContain(`-nixos-system-${host}-`)
      expect(inWords(await applying.outcome(id))).toBe('rolled back')
      await until('facts of the old system', async () =>
        (await drift(host)).current === applying.before ? true : undefined,
      )
    })
  },
)
