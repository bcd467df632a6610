import { describe, expect, it } from 'vitest'
import { GATES, OVERRIDABLE } from '../../coordinator/rollouts/plan/decision.ts'
import { PASSES } from '../../coordinator/rollouts/plan/gate-table.ts'
import { cellsOf, readPage } from './pages.ts'

const page = readPage('docs/rollouts.md')
/** The rows of the table under a line that begins so, without its heading. */
function rowsUnder(heading: string): readonly (readonly string[])[] {
  const lines = page.split('\n')
  const from = lines.findIndex(line => line.startsWith(heading))
  expect(from, heading).toBeGreaterThan(-1)
  const rows: string[][] = []
  for (const line of lines.slice(from + 2)) {
    const cells = cellsOf(line)
    if (!cells) break
    rows.push(cells)
  }
  return rows
}
const namesIn = (cell: string) => [...cell.matchAll(/`([a-z-]+)`/g)].map(([, name = '']) => name)

describe('docs/rollouts.md', () => {
  it('names every gate that there is, and an override for those that a word opens and for no other', () => {
    const told = rowsUnder('| gate |').map(([gate = '', , opens = '']) => [
      namesIn(gate)[0],
      opens.includes('override'),
    ])
    const known = GATES.map(gate => [gate, OVERRIDABLE.includes(gate)])
    expect(told.toSorted()).toEqual(known.toSorted())
  })

  it('names for each action the gates that do not hold it', () => {
    const told = new Map<string, string[]>()
    let action = ''
    for (const [name = '', gates = ''] of rowsUnder('| action |')) {
      if (name !== '') action = name
      told.set(action, [...(told.get(action) ?? []), ...namesIn(gates)])
    }
    const brings = ['pin', 'quarantine', 'skew']
    expect(told.get('all but apply and upgrade')).toEqual(brings)
    expect(
      [PASSES.apply, PASSES.upgrade, PASSES.reboot, PASSES.restart].map(each => Object.keys(each)),
    ).toEqual([[], [], brings, brings])
    const besides = (passed: object) =>
      Object.keys(passed)
        .filter(gate => !brings.includes(gate))
        .toSorted()
    expect(told.get('rollback')?.toSorted()).toEqual(besides(PASSES.rollback))
    expect(told.get('drain')?.toSorted()).toEqual(besides(PASSES.drain))
    expect(told.get('leave')?.toSorted()).toEqual(besides(PASSES.leave))
    expect(told.get('rotate tokens')?.toSorted()).toEqual(besides(PASSES['rotate-tokens']))
    expect(told.get('restore')?.toSorted()).toEqual(besides(PASSES.restore))
    expect(besides(PASSES.wipe)).toEqual(besides(PASSES.restore))
    const dead = new Set([...(told.get('leave') ?? []), ...(told.get('leave `--dead`') ?? [])])
    expect([...dead].toSorted()).toEqual(besides(PASSES['leave-dead']))
  })
})
