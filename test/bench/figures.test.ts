import { describe, expect, it } from 'vitest'
import { type Figures, judgeFigures } from './figures.ts'
import { renderTable } from './table.ts'

const GOOD: Figures = {
  enrolments_per_second: 200,
  floor_connects_per_second: 500,
  memory_per_agent_bytes: 125_000,
  floor_memory_per_connection_bytes: 100_000,
  heartbeats_per_second_500: 10_000,
  heartbeats_per_second_5000: 8_000,
  fanout_seconds: 1.3,
  floor_fanout_seconds: 1,
  query_stored_p99_ms: 99.9,
  query_live_p99_ms: 999,
  query_stored_10k_p99_ms: 99.9,
  query_live_2k_p99_ms: 999,
  agent_idle_rss_bytes: 64 * 1024 ** 2,
  agent_idle_cpu_percent: 0.1,
  rollout_plan_10k_ms: 199.9,
}

const missed = (change: Partial<Figures>) =>
  judgeFigures({ ...GOOD, ...change })
    .filter(({ met }) => !met)
    .map(({ name }) => name)

describe('the aims of the benchmark', () => {
  it('are met by figures that lie on them', () => {
    expect(missed({})).toEqual([])
  })

  it.each<[Partial<Figures>, string]>([
    [{ enrolments_per_second: 199 }, 'enrolments per second'],
    [{ memory_per_agent_bytes: 125_001 }, 'memory per connected agent'],
    // Less memory with the agents than without them is no success but a measurement that failed.
    [{ memory_per_agent_bytes: -1 }, 'memory per connected agent'],
    [{ floor_memory_per_connection_bytes: -1 }, 'memory per connected agent'],
    [{ heartbeats_per_second_5000: 7_999 }, 'heartbeats per second, 5,000 machines'],
    [{ fanout_seconds: 1.31 }, 'published revision reaches all'],
    [{ query_stored_p99_ms: 100 }, 'question to the store, p99'],
    [{ query_live_p99_ms: 1000 }, 'question asked live, p99'],
    [{ query_stored_10k_p99_ms: 100 }, 'question to the store, 10,000 machines, p99'],
    [{ query_live_2k_p99_ms: 1000 }, 'question asked live, 2,000 agents, p99'],
    [{ agent_idle_rss_bytes: 64 * 1024 ** 2 + 1 }, 'memory of the idle agent'],
    [{ agent_idle_cpu_percent: 0.11 }, 'processor of the idle agent'],
    [{ rollout_plan_10k_ms: 200 }, 'plan of a rollout over 10,000 hosts'],
    [{ enrolments_per_second: Number.NaN }, 'enrolments per second'],
  ])('are missed by %o', (change, name) => {
    expect(missed(change)).toEqual([name])
  })
})

describe('a run of some parts', () => {
  it('says nothing of what it did not measure', () => {
    const part = { fanout_seconds: 2, floor_fanout_seconds: 1 }
    expect(judgeFigures(part).map(({ name, met }) => [name, met])).toEqual([
      ['published revision reaches all', false],
    ])
  })
})

describe('the table of the benchmark', () => {
  it('lines its columns up', () => {
    expect(
      renderTable([
        ['a', 'what', ''],
        ['long', '1'],
      ]),
    ).toBe('a     what\nlong  1')
  })
})
