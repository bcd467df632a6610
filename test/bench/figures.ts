/** What the benchmark measures: the names and units of the file that `--json` writes. */
export interface Figures {
  readonly enrolments_per_second: number
  readonly floor_connects_per_second: number
  readonly memory_per_agent_bytes: number
  readonly floor_memory_per_connection_bytes: number
  readonly heartbeats_per_second_500: number
  readonly heartbeats_per_second_5000: number
  readonly fanout_seconds: number
  readonly floor_fanout_seconds: number
  readonly query_stored_p99_ms: number
  readonly query_live_p99_ms: number
  readonly query_stored_10k_p99_ms: number
  readonly query_live_2k_p99_ms: number
  readonly agent_idle_rss_bytes: number
  readonly agent_idle_cpu_percent: number
  readonly rollout_plan_10k_ms: number
}

/** What a figure should be, and whether it is. */
export interface Judged {
  readonly name: string
  readonly shown: string
  /** What it is held against, measured in the same run; empty where there is nothing. */
  readonly beside: string
  readonly aim: string
  readonly met: boolean
}

const MIB = 1024 ** 2

const NOTHING: Figures = {
  enrolments_per_second: Number.NaN,
  floor_connects_per_second: Number.NaN,
  memory_per_agent_bytes: Number.NaN,
  floor_memory_per_connection_bytes: Number.NaN,
  heartbeats_per_second_500: Number.NaN,
  heartbeats_per_second_5000: Number.NaN,
  fanout_seconds: Number.NaN,
  floor_fanout_seconds: Number.NaN,
  query_stored_p99_ms: Number.NaN,
  query_live_p99_ms: Number.NaN,
  query_stored_10k_p99_ms: Number.NaN,
  query_live_2k_p99_ms: Number.NaN,
  agent_idle_rss_bytes: Number.NaN,
  agent_idle_cpu_percent: Number.NaN,
  rollout_plan_10k_ms: Number.NaN,
}

/** Holds the figures against their aims; of what was not measured nothing is said. */
export function judgeFigures(measured: Partial<Figures>): readonly Judged[] {
  const figures = { ...NOTHING, ...measured }
  const enrolments = figures.enrolments_per_second / figures.floor_connects_per_second
  const memory = figures.memory_per_agent_bytes / figures.floor_memory_per_connection_bytes
  const growth = figures.heartbeats_per_second_5000 / figures.heartbeats_per_second_500
  const fanout = figures.fanout_seconds / figures.floor_fanout_seconds
  const { query_stored_p99_ms: stored, query_live_p99_ms: live } = figures
  const { query_stored_10k_p99_ms: stored10k, query_live_2k_p99_ms: live2k } = figures
  const { agent_idle_rss_bytes: rss, agent_idle_cpu_percent: cpu } = figures
  const all: readonly (Judged & { readonly of: keyof Figures })[] = [
    {
      of: 'enrolments_per_second',
      name: 'enrolments per second',
      shown: whole(figures.enrolments_per_second),
      beside: `${whole(figures.floor_connects_per_second)} bare TLS connects, ${ratio(enrolments)}`,
      aim: 'at least 0.4 of the connects',
      met: enrolments >= 0.4,
    },
    {
      of: 'memory_per_agent_bytes',
      name: 'memory per connected agent',
      shown: kib(figures.memory_per_agent_bytes),
      beside: `${kib(figures.floor_memory_per_connection_bytes)} a raw stream, ${ratio(memory)}`,
      aim: 'at most 1.25 raw streams',
      met: figures.memory_per_agent_bytes > 0 && memory > 0 && memory <= 1.25,
    },
    {
      of: 'heartbeats_per_second_500',
      name: 'heartbeats per second, 500 machines',
      shown: whole(figures.heartbeats_per_second_500),
      beside: '',
      aim: '',
      met: true,
    },
    {
      of: 'heartbeats_per_second_5000',
      name: 'heartbeats per second, 5,000 machines',
      shown: whole(figures.heartbeats_per_second_5000),
      beside: `${whole(figures.heartbeats_per_second_500)} with 500, ${ratio(growth)}`,
      aim: 'at least 0.8 of those with 500',
      met: growth >= 0.8,
    },
    {
      of: 'fanout_seconds',
      name: 'published revision reaches all',
      shown: seconds(figures.fanout_seconds),
      beside: `${seconds(figures.floor_fanout_seconds)} the bare bytes, ${ratio(fanout)}`,
      aim: 'at most 1.3 times the bare bytes',
      met: fanout <= 1.3,
    },
    {
      of: 'query_stored_p99_ms',
      name: 'question to the store, p99',
      shown: ms(stored),
      beside: '',
      aim: 'below 100 ms',
      met: stored < 100,
    },
    {
      of: 'query_live_p99_ms',
      name: 'question asked live, p99',
      shown: ms(live),
      beside: '',
      aim: 'below 1 s',
      met: live < 1000,
    },
    {
      of: 'query_stored_10k_p99_ms',
      name: 'question to the store, 10,000 machines, p99',
      shown: ms(stored10k),
      beside: '',
      aim: 'below 100 ms',
      met: stored10k < 100,
    },
    {
      of: 'query_live_2k_p99_ms',
      name: 'question asked live, 2,000 agents, p99',
      shown: ms(live2k),
      beside: '',
      aim: 'below 1 s',
      met: live2k < 1000,
    },
    {
      of: 'agent_idle_rss_bytes',
      name: 'memory of the idle agent',
      shown: `${(rss / MIB).toFixed(1)} MiB`,
      beside: '',
      aim: 'at most 64 MiB',
      met: rss > 0 && rss <= 64 * MIB,
    },
    {
      of: 'agent_idle_cpu_percent',
      name: 'processor of the idle agent',
      shown: `${cpu.toFixed(3)} %`,
      beside: '',
      aim: 'at most 0.1 % of a core',
      met: cpu <= 0.1,
    },
    {
      of: 'rollout_plan_10k_ms',
      name: 'plan of a rollout over 10,000 hosts',
      shown: ms(figures.rollout_plan_10k_ms),
      beside: '',
      aim: 'below 200 ms',
      met: figures.rollout_plan_10k_ms < 200,
    },
  ]
  return all.flatMap(({ of, ...judged }) => (measured[of] === undefined ? [] : [judged]))
}

const whole = (value: number) => value.toFixed(0)
const ratio = (value: number) => `ratio ${value.toFixed(2)}`
const kib = (bytes: number) => `${(bytes / 1024).toFixed(1)} KiB`
const seconds = (value: number) => `${value.toFixed(3)} s`
const ms = (value: number) => `${value.toFixed(1)} ms`
