import { create } from '@bufbuild/protobuf'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { formatProblems } from '../fleet-file/problem.ts'
import { readFleetFile } from '../fleet-file/read-fleet-file.ts'
import { rolloutPolicyMessage, rolloutTargetMessage } from '../fleet-file/rollout-message.ts'
import { RolloutPolicySchema } from '../gen/muster/v1/manifest_pb.ts'
import { countOf, readAmount } from './amount.ts'
import { readWindow, windowText } from './maintenance-window.ts'
import { DEFAULT_POLICY, readHostPolicy, readRolloutPolicy } from './rollout-policy.ts'

const file = (more: string) => `
[fleet]
name = "home"
id = "5f1c0a7be2d94c3386a1f0d2b7c4e895"
[hosts.a]
[hosts.b]
after = ["a"]
windows = ["sat sun 22:00-04:00 Europe/Berlin"]
drain-limit = "10m"
${more}`

const settings = `
[rollout]
max-unavailable = "25%"
canaries = ["a"]
canary-size = 2
canary-soak = "10m"
soak = "2m"
on-failure = "continue"
max-failures = 3
spread = "rack"
silent-percent = 20
ask-gates = "before-each-step"
drain-limit = "3m"
windows = ["02:00-05:00 UTC"]
`

describe('what the fleet file says of rollouts', () => {
  it.each([
    ['', 'where-any'],
    ['ask-gates = "never"\n', 'never'],
    ['ask-gates = "before-each-step"\n', 'before-each-step'],
  ])('asks the gates of hosts that have some where nothing else is said: %j', (line, askGates) => {
    const result = readFleetFile(file(`[rollout]\nsoak = "1m"\n${line}`), 'fleet.toml')
    if (!result.ok) throw new Error(formatProblems(result.problems))
    expect(readRolloutPolicy(rolloutPolicyMessage(result.fleet))).toMatchObject({ value: { askGates } })
    expect(readRolloutPolicy(undefined)).toMatchObject({ value: { askGates: 'where-any' } })
  })

  it('reaches the coordinator whole, through manifest and target', () => {
    const result = readFleetFile(file(settings), 'fleet.toml')
    expect(formatProblems(result.problems)).toBe('')
    if (!result.ok) throw new Error('not read')
    const policy = readRolloutPolicy(rolloutPolicyMessage(result.fleet))
    expect(policy).toEqual({
      kind: 'ok',
      value: {
        maxUnavailable: { kind: 'percent', percent: 25 },
        canaries: ['a'],
        canarySize: { kind: 'number', number: 2 },
        canarySoakMs: 600_000,
        soakMs: 120_000,
        onFailure: 'continue',
        maxFailures: 3,
        spread: 'rack',
        silentPercent: 20,
        askGates: 'before-each-step',
        drainLimitMs: 180_000,
        windows: [{ days: [1, 2, 3, 4, 5, 6, 7], fromMinute: 120, toMinute: 300, timeZone: 'UTC' }],
        follows: new Map(),
      },
    })
    const b = result.fleet.hosts.find(({ name }) => name === 'b')
    expect(b && readHostPolicy(rolloutTargetMessage(b.rollout))).toEqual({
      kind: 'ok',
      value: {
        windows: [{ days: [6, 7], fromMinute: 1320, toMinute: 240, timeZone: 'Europe/Berlin' }],
        after: ['a'],
        drainLimitMs: 600_000,
      },
    })
  })

  it('says nothing where nothing is written, so that manifests and targets keep their bytes', () => {
    const result = readFleetFile(file('').replace(/after[^\n]*\n|windows[^\n]*\n|drain[^\n]*\n/g, ''), 'f')
    if (!result.ok) throw new Error('not read')
    expect(rolloutPolicyMessage(result.fleet)).toBeUndefined()
    expect(result.fleet.hosts.map(({ rollout }) => rolloutTargetMessage(rollout))).toEqual([
      undefined,
      undefined,
    ])
    expect(readRolloutPolicy(undefined)).toEqual({ kind: 'ok', value: DEFAULT_POLICY })
  })

  it.each([
    ['max-unavailable = 0', 'is no number or share'],
    ['max-unavailable = "0%"', 'is no number or share'],
    ['max-unavailable = "101%"', 'is no number or share'],
    ['canaries = ["c"]', 'no host "c" is defined'],
    ['max-failures = 2', 'has no effect without on-failure'],
    ['windows = ["22:00-04:00 Mars/Olympus"]', 'is no time zone'],
    ['windows = ["funday 22:00-04:00 UTC"]', 'is no maintenance window'],
    ['windows = ["24:00-04:00 UTC"]', 'times are from 00:00 to 23:59'],
  ])('T44: refuses %s before anything is published', (line, reason) => {
    const result = readFleetFile(file(`[rollout]\n${line}\n`), 'fleet.toml')
    expect(result.ok).toBe(false)
    expect(formatProblems(result.problems)).toContain(reason)
  })

  it('refuses edges that lead in a circle, of hosts and of clusters', () => {
    const circle = readFleetFile(
      `${file('')}[hosts.c]\nafter = ["d"]\n[hosts.d]\nafter = ["c"]\n`,
      'fleet.toml',
    )
    expect(formatProblems(circle.problems)).toContain(
      'leads in a circle, in which no host could be the first: c after d after c',
    )
  })

  it('refuses what it does not know', () => {
    const of = (change: object) => readRolloutPolicy(create(RolloutPolicySchema, change)).kind
    expect(of({ onFailure: 'hope' })).toBe('refused')
    expect(of({ maxUnavailable: 'all' })).toBe('refused')
    expect(of({ windows: [{ days: [8], from: '00:00', to: '01:00', timeZone: 'UTC' }] })).toBe('refused')
    expect(of({ canaries: ['../x'] })).toBe('refused')
  })
})

describe('a number of hosts', () => {
  it('T41: is never nothing where there is any host: 10 % of 50 are 5, of 5 is 1', () => {
    const ten = readAmount('10%')
    if (!ten) throw new Error('not read')
    expect([50, 5, 1, 0].map(total => countOf(ten, total))).toEqual([5, 1, 1, 0])
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 100 }), fc.integer({ min: 1, max: 20_000 }), (percent, total) => {
        const count = countOf({ kind: 'percent', percent }, total)
        expect(count).toBeGreaterThanOrEqual(1)
        expect(count).toBeLessThanOrEqual(Math.max(1, (percent * total) / 100))
      }),
    )
  })
})

describe('a maintenance window', () => {
  it('is read as it is written', () => {
    for (const text of [
      '22:00-04:00 Europe/Berlin',
      'sat sun 02:00-05:00 UTC',
      'mon 00:00-00:00 Asia/Tokyo',
    ]) {
      const window = readWindow(text)
      expect(typeof window === 'string' ? window : windowText(window)).toBe(text)
    }
  })
})
