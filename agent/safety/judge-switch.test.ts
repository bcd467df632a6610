import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'
import { outcomeName } from '../../shared/operation-names.ts'
import { blamedUnits, judgeSwitch, type SwitchFacts } from './judge-switch.ts'
import type { SwitchSeen } from './switch-unit.ts'

const at = new Date('2026-11-20T12:00:00Z')
const OLD = '/nix/store/old'
const NEW = '/nix/store/new'
const ACTIVATING = 'activating the configuration...'

interface Case extends Partial<Omit<SwitchSeen, 'end'>> {
  readonly exit?: number
  readonly signal?: string | undefined
  /** No end mark at all. */
  readonly gone?: boolean
  readonly failedBefore?: readonly string[]
  readonly failedAfter?: readonly string[]
  readonly cannotAsk?: boolean
  readonly tolerated?: readonly string[]
}

function facts({
  exit = 0,
  signal,
  gone = false,
  failedBefore = [],
  failedAfter = [],
  cannotAsk = false,
  tolerated = [],
  ...seen
}: Case): SwitchFacts {
  const end = {
    at,
    result: signal === undefined ? (exit === 0 ? 'success' : 'exit-code') : 'signal',
    code: signal === undefined ? 'exited' : 'killed',
    status: signal ?? String(exit),
  }
  return {
    seen: {
      began: true,
      end: gone ? undefined : end,
      overdue: undefined,
      alive: undefined,
      lines: [],
      opening: false,
      closing: false,
      listsLeft: false,
      currentAfter: OLD,
      ...seen,
    },
    target: NEW,
    currentBefore: OLD,
    failedBefore: new Set(failedBefore),
    failedAfter: cannotAsk ? undefined : new Set(failedAfter),
    tolerated,
  }
}

function words(given: Case): string {
  const verdict = judgeSwitch(facts(given))
  return verdict.kind === 'good'
    ? ['good', ...verdict.degraded].join(' ')
    : `${verdict.kind}: ${outcomeName(verdict.class)}`
}

const done = { currentAfter: NEW, opening: true, lines: [ACTIVATING] } as const
const middle = { opening: true, lines: [ACTIVATING], currentAfter: NEW } as const
const failedUnits = (...units: string[]) => [
  ACTIVATING,
  `warning: the following units failed: ${units.join(', ')}`,
]

describe('a switch', () => {
  it.each<[string, Case, string]>([
    ['0, and the new system runs', done, 'good'],
    ['T27: 0, but /run/current-system is still the old one', { opening: true }, 'touched: activation failed'],
    ['0, and current is a third system', { currentAfter: '/nix/store/x' }, 'touched: activation failed'],
    ['0, and current cannot be read', { currentAfter: undefined }, 'touched: activation failed'],
    ['N3: 0, and a unit has failed since', { ...done, failedAfter: ['a'] }, 'touched: activation failed'],
    ['0, and a tolerated unit has', { ...done, failedAfter: ['a'], tolerated: ['a'] }, 'good a'],
    ['0, and a unit that had failed before', { ...done, failedBefore: ['a'], failedAfter: ['a'] }, 'good'],
    ['0, and nobody can ask which units failed', { ...done, cannotAsk: true }, 'touched: unknown'],
    ['4, with a unit', { ...done, exit: 4, lines: failedUnits('a') }, 'touched: activation failed'],
    ['4, tolerated', { ...done, exit: 4, lines: failedUnits('a'), tolerated: ['a'] }, 'good a'],
    [
      '4, of two units, one tolerated',
      { ...done, exit: 4, lines: failedUnits('a', 'b'), tolerated: ['a'] },
      'touched: activation failed',
    ],
    [
      '4, for an old broken unit',
      { ...done, exit: 4, lines: failedUnits('a'), failedBefore: ['a'], failedAfter: ['a'] },
      'good',
    ],
    ['4, without a word', { ...done, exit: 4 }, 'touched: activation failed'],
    ['4, and current is old', { exit: 4, lines: failedUnits('a') }, 'touched: activation failed'],
    [
      '4, for the activation of a user',
      { ...done, exit: 4, lines: ['warning: user activation for ann failed'] },
      'touched: activation failed',
    ],
    [
      '4, for that of a user which may fail',
      {
        ...done,
        exit: 4,
        lines: ['warning: user activation for ann failed'],
        tolerated: ['user@ann.service'],
      },
      'good user@ann.service',
    ],
    [
      '4, for that of another user',
      {
        ...done,
        exit: 4,
        lines: ['warning: user activation for bob failed'],
        tolerated: ['user@ann.service'],
      },
      'touched: activation failed',
    ],
    [
      '1, before anything',
      { exit: 1, lines: ["Pre-switch check 'x' failed"] },
      'untouched: activation failed',
    ],
    [
      '1, by the check for what a switch cannot reach',
      { exit: 1, lines: ["Pre-switch check 'switchInhibitors' failed"] },
      'untouched: reboot required',
    ],
    ['1, in the middle', { ...middle, exit: 1 }, 'touched: activation failed'],
    [
      '1, in the middle, told by the line alone',
      { exit: 1, lines: [ACTIVATING] },
      'touched: activation failed',
    ],
    ['1, in the middle, told by the journal alone', { exit: 1, opening: true }, 'touched: activation failed'],
    ['2, of the activation script', { ...middle, exit: 2 }, 'touched: activation failed'],
    ['2, of the activation script, half way', { exit: 2, lines: [ACTIVATING] }, 'touched: activation failed'],
    ['2, silent', { exit: 2, listsLeft: true }, 'untouched: activation failed'],
    [
      '1, silent, with lists left: past its checks',
      { exit: 1, listsLeft: true },
      'touched: activation failed',
    ],
    ['11, silent, with lists left', { exit: 11, listsLeft: true }, 'touched: activation failed'],
    [
      '11, by the lock, while the other one has lists',
      { exit: 11, listsLeft: true, lines: ['Could not acquire lock'] },
      'untouched: busy',
    ],
    ['0, with lists left and no last word', { ...done, listsLeft: true }, 'touched: unknown'],
    ['0, with lists of the next run', { ...done, listsLeft: true, closing: true }, 'good'],
    ['4, with lists left and no last word', { ...done, exit: 4, listsLeft: true }, 'touched: unknown'],
    ['11, by the lock', { exit: 11, lines: ['Could not acquire lock'] }, 'untouched: busy'],
    ['11, in the middle', { ...middle, exit: 11 }, 'touched: activation failed'],
    [
      '11, in the middle, though it also speaks of a lock',
      { ...middle, exit: 11, lines: [ACTIVATING, 'Could not acquire lock'] },
      'touched: activation failed',
    ],
    ['11, before, for another reason', { exit: 11 }, 'untouched: activation failed'],
    ['100, before', { exit: 100 }, 'untouched: reboot required'],
    ['100, in the middle', { ...middle, exit: 100 }, 'touched: unknown'],
    ['T21: 101, in the middle', { ...middle, exit: 101 }, 'touched: unknown'],
    ['T21: 101, wherever it was', { exit: 101 }, 'touched: unknown'],
    ['an exit that nobody knows', { exit: 57 }, 'touched: unknown'],
    ['SIGKILL', { signal: 'KILL' }, 'touched: unknown'],
    ['SIGTERM after all was done', { ...done, signal: 'TERM' }, 'touched: unknown'],
    ['T22: no mark, after it began', { gone: true }, 'touched: unknown'],
    ['T22: no mark, and the new system runs', { gone: true, ...done }, 'touched: unknown'],
    ['no mark, and it never began', { gone: true, began: false }, 'untouched: refused'],
    [
      'its time is over, though it did end with 0 meanwhile',
      { ...done, overdue: 'waiting for x' },
      'touched: activation failed',
    ],
  ])('that ends with %s', (_, given, expected) => {
    expect(words(given)).toBe(expected)
  })

  it('that was never run, because its start could not be marked, touched nothing', () => {
    const { seen, ...rest } = facts({})
    const end = { at, result: 'exit-code', code: '', status: '' }
    expect(judgeSwitch({ ...rest, seen: { ...seen, began: false, end } })).toMatchObject({
      kind: 'untouched',
      class: OutcomeClass.REFUSED,
      refusal: 'not-started',
    })
  })

  it('says what it waited for, what runs, and the last error in its own words', () => {
    const overdue = judgeSwitch(facts({ overdue: 'waiting for k3s.service start', alive: 'x is there' }))
    expect(overdue.reason).toMatch(/waiting for k3s\.service start; x is there; .*old/)
    const lines = [ACTIVATING, 'Failed to get unit x.service', 'bye']
    expect(judgeSwitch(facts({ exit: 1, lines })).reason).toContain('exit 1: Failed to get unit x.service')
  })

  const anything: fc.Arbitrary<SwitchFacts> = fc
    .record({
      exit: fc.constantFrom(0, 1, 2, 4, 11, 57, 100, 101, 129, 137, 143),
      signal: fc.option(fc.constantFrom('KILL', 'TERM', 'HUP', 'ABRT'), { nil: undefined, freq: 4 }),
      gone: fc.boolean(),
      began: fc.boolean(),
      overdue: fc.option(fc.constant('waiting'), { nil: undefined, freq: 5 }),
      alive: fc.option(fc.constant('left'), { nil: undefined, freq: 5 }),
      opening: fc.boolean(),
      closing: fc.boolean(),
      listsLeft: fc.boolean(),
      currentAfter: fc.constantFrom(OLD, NEW, '/nix/store/other', undefined),
      cannotAsk: fc.boolean(),
      failedBefore: fc.subarray(['a', 'b', 'c']),
      failedAfter: fc.subarray(['a', 'b', 'c']),
      tolerated: fc.subarray(['a', 'b', 'c']),
      lines: fc.subarray([
        ACTIVATING,
        'Could not acquire lock',
        "Pre-switch check 'switchInhibitors' failed",
        'warning: the following units failed: a, c',
      ]),
    })
    .map(facts)

  it('A2: is good only by all its facts together, and untouched only where nothing speaks against it', () => {
    fc.assert(
      fc.property(anything, given => {
        const { seen, failedBefore, failedAfter, tolerated } = given
        const verdict = judgeSwitch(given)
        if (verdict.kind === 'good') {
          expect(seen.currentAfter).toBe(NEW)
          expect(seen.overdue).toBeUndefined()
          expect(seen.end?.code).toBe('exited')
          expect(['0', '4']).toContain(seen.end?.status)
          for (const unit of failedAfter ?? ['nobody could ask']) {
            expect(failedBefore?.has(unit) || tolerated.includes(unit)).toBe(true)
          }
          for (const unit of verdict.degraded) expect(tolerated).toContain(unit)
        }
        if (verdict.kind === 'untouched') {
          expect(seen.currentAfter).toBe(OLD)
          expect([seen.opening, seen.overdue]).toEqual([false, undefined])
          expect(seen.lines).not.toContain(ACTIVATING)
          expect(verdict.reason).toContain('nothing was touched')
        }
        if (verdict.kind === 'touched') {
          expect([OutcomeClass.UNKNOWN, OutcomeClass.ACTIVATION_FAILED]).toContain(verdict.class)
        }
      }),
      { numRuns: 5_000 },
    )
  })

  it('is never better for having failed more units', () => {
    fc.assert(
      fc.property(anything, fc.constantFrom('a', 'b', 'c'), (given, unit) => {
        const worse = { ...given, failedAfter: given.failedAfter && new Set([...given.failedAfter, unit]) }
        // What names no unit at all is held against it; another unit that fails may be a reason.
        if (judgeSwitch(given).kind !== 'good' && given.seen.end?.status !== '4') {
          expect(judgeSwitch(worse).kind).not.toBe('good')
        }
      }),
      { numRuns: 2_000 },
    )
  })
})

describe('units that the program blames', () => {
  it.each<[string, readonly string[]]>([
    ['warning: the following units failed: a.service, b.mount', ['a.service', 'b.mount']],
    ['Failed to start x.service: Unit x.service not found.', ['x.service']],
    ['Failed to restart x@1.service', ['x@1.service']],
    ['Failed to reload x.service.', ['x.service']],
    ['Failed to stop x.service', ['x.service']],
    ['warning: user activation for ann failed', ['user@ann.service']],
    ['Failed to run activate script', []],
    ['starting the following units: a.service', []],
    ['  warning: the following units failed: a.service  ', ['a.service']],
  ])('%s', (line, units) => {
    expect(blamedUnits([line])).toEqual(units)
  })

  it('are named once', () => {
    const line = 'warning: the following units failed: a.service'
    expect(blamedUnits([line, 'Failed to start a.service', line])).toEqual(['a.service'])
  })
})
