import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { GateAnswer, Verdict } from './gate-answer.ts'
import { type GateRecord, judgeGates, newRecord, noteAnswer, UNHEALTHY_IN_A_ROW } from './judge-gates.ts'

const FRESH = 20
const rules = { soakMs: 30, deadlineMs: 300 }

interface Step {
  readonly verdict: Verdict
  readonly waitMs: number
  readonly lastsMs: number
}

function answer(gate: string, verdict: Verdict, startedAtMs: number, endedAtMs = startedAtMs): GateAnswer {
  return { gate, verdict, reason: `is ${verdict}`, output: '', startedAtMs, endedAtMs }
}

function answersOf(gate: string, steps: readonly Step[], startMs: number): readonly GateAnswer[] {
  let now = startMs
  return steps.map(({ verdict, waitMs, lastsMs }) => {
    const started = now + waitMs
    now = started + lastsMs
    return answer(gate, verdict, started, now)
  })
}

function recordOf(
  answers: readonly GateAnswer[],
  activatedAtMs = 0,
  { gate = 'web', grace = true }: { gate?: string; grace?: boolean } = {},
): GateRecord {
  return answers.reduce(
    (record, next) => noteAnswer(record, next, activatedAtMs),
    newRecord(gate, FRESH, grace),
  )
}

/** Answers every 10 ms from 0 on: `h` healthy, `u` unhealthy, `-` unavailable, `.` none. */
function word(text: string, stepMs = 10): readonly GateAnswer[] {
  const verdicts = { h: 'healthy', u: 'unhealthy', '-': 'unavailable' } as const
  return [...text].flatMap((letter, index) =>
    letter === 'h' || letter === 'u' || letter === '-'
      ? answer('web', verdicts[letter], index * stepMs, index * stepMs)
      : [],
  )
}

const judgeWord = (text: string, grace = true) =>
  judgeGates([recordOf(word(text), 0, { grace })], (text.length - 1) * 10, rules)

const stepsOf = (...verdicts: readonly Verdict[]) =>
  fc.array(
    fc.record({
      verdict: fc.constantFrom(...verdicts),
      waitMs: fc.integer({ min: 0, max: 25 }),
      lastsMs: fc.integer({ min: 0, max: 10 }),
    }),
    { maxLength: 25 },
  )
const steps = stepsOf('healthy', 'healthy', 'healthy', 'unhealthy', 'unavailable')
const sickly = stepsOf('healthy', 'unhealthy', 'unhealthy', 'unavailable')

describe('judgeGates', () => {
  it.each([
    ['hhhh', 'proved'],
    ['hhh', 'holding'],
    ['h...', 'holding'],
    ['uuuuuuhhhh', 'proved'],
    ['uuuuuuuuuuuu', 'holding'],
    ['huuhhh', 'holding'],
    ['huuhhhh', 'proved'],
    ['huuu', 'unhealthy'],
    ['hhhhuuu', 'unhealthy'],
    ['huu-u', 'unhealthy'],
    ['hhhh-', 'holding'],
    ['hh-hh', 'proved'],
    ['hh---hh', 'holding'],
    ['--------', 'holding'],
  ])('reads %s as %s: a start may fail, a fall may not, and silence proves nothing', (text, kind) => {
    expect(judgeWord(text).kind).toBe(kind)
  })

  it('gives no grace to a gate without any', () => {
    expect(judgeWord('uu', false).kind).toBe('holding')
    expect(judgeWord('uuu', false)).toMatchObject({ kind: 'unhealthy', gate: 'web' })
  })

  it.each([
    ['unhealthy', 'u', { kind: 'unhealthy', reason: 'is unhealthy' }],
    [
      'T67: not askable, which is not unhealthy',
      '-',
      { kind: 'not-proved', reason: 'could not be asked: is unavailable' },
    ],
    ['never answered', '.', { kind: 'not-proved', reason: 'has not answered yet' }],
    ['healthy for too short a time', 'h', { kind: 'not-proved', reason: 'held for 0 s of 0 s' }],
  ])('at the deadline tells what is %s', (_, text, expected) => {
    const record = recordOf(word(`${'.'.repeat(30)}${text}`))
    expect(judgeGates([record], 300, rules)).toMatchObject({ ...expected, gate: 'web' })
  })

  it('N30: proves nothing without an answer, and nothing without a gate', () => {
    expect(judgeGates([newRecord('web', FRESH, true)], 100, { ...rules, soakMs: 0 }).kind).toBe('holding')
    expect(judgeGates([], 0, { ...rules, soakMs: 0 }).kind).toBe('not-proved')
  })

  it('N29: proves nothing by an answer that is older than it may be, or than the activation', () => {
    const record = recordOf(word('hhhh'))
    expect(judgeGates([record], 30 + FRESH, rules).kind).toBe('proved')
    expect(judgeGates([record], 31 + FRESH, rules)).toMatchObject({
      kind: 'holding',
      missing: 'has not answered for a while',
    })
    expect(recordOf(word('hhhh'), 1_000)).toEqual(newRecord('web', FRESH, true))
  })

  it('names the worst gate: unhealthy before not asked before not held for long enough', () => {
    const at = (gate: string, verdict: Verdict) => recordOf([answer(gate, verdict, 5)], 0, { gate })
    const records = [at('slow', 'healthy'), at('dark', 'unavailable'), at('bad', 'unhealthy')]
    const named = (some: readonly GateRecord[]) => judgeGates(some, 10, rules)
    expect(named(records)).toMatchObject({ kind: 'holding', gate: 'bad' })
    expect(named(records.slice(0, 2))).toMatchObject({ kind: 'holding', gate: 'dark' })
    expect(named(records.slice(0, 1))).toMatchObject({ kind: 'holding', gate: 'slow', sinceMs: 5 })
  })
})

describe('whatever the answers are', () => {
  it('proof needs healthy answers of every gate over the whole soak time, with no unhealthy one and no long gap between', () => {
    let proofs = 0
    fc.assert(
      fc.property(fc.array(steps, { minLength: 1, maxLength: 3 }), fc.nat(400), (all, afterMs) => {
        const histories = all.map((some, index) => answersOf(`g${index}`, some, 0))
        const now = Math.max(0, ...histories.map(answers => answers.at(-1)?.endedAtMs ?? 0)) + (afterMs % 25)
        const records = histories.map((answers, index) => recordOf(answers, 0, { gate: `g${index}` }))
        if (judgeGates(records, now, rules).kind !== 'proved') return
        proofs += 1
        for (const answers of histories) {
          const last = answers.at(-1)
          expect(last?.verdict).toBe('healthy')
          expect(now - (last?.endedAtMs ?? 0)).toBeLessThanOrEqual(FRESH)
          const lastBad = answers.findLastIndex(({ verdict }) => verdict === 'unhealthy')
          const good = answers.slice(lastBad + 1).filter(({ verdict }) => verdict === 'healthy')
          const gapless = good.slice(
            1 +
              good.findLastIndex((one, index) => {
                const next = good[index + 1]
                return next !== undefined && next.startedAtMs - one.endedAtMs > FRESH
              }),
          )
          const held = (gapless.at(-1)?.startedAtMs ?? 0) - (gapless[0]?.endedAtMs ?? 0)
          expect(held).toBeGreaterThanOrEqual(rules.soakMs)
        }
      }),
      { numRuns: 3_000 },
    )
    // A property over proofs says nothing when there are none.
    expect(proofs).toBeGreaterThan(20)
  })

  it('it is unhealthy before the deadline only after health and three unhealthy answers without a healthy one between', () => {
    let falls = 0
    fc.assert(
      fc.property(sickly, some => {
        const answers = answersOf('web', some, 0)
        const now = answers.at(-1)?.endedAtMs ?? 0
        const fell =
          judgeGates([recordOf(answers)], now, { ...rules, deadlineMs: now + 1 }).kind === 'unhealthy'
        const lastGood = answers.findLastIndex(({ verdict }) => verdict === 'healthy')
        const bad = answers.slice(lastGood + 1).filter(({ verdict }) => verdict === 'unhealthy')
        expect(fell).toBe(lastGood >= 0 && bad.length >= UNHEALTHY_IN_A_ROW)
        if (fell) falls += 1
      }),
      { numRuns: 3_000 },
    )
    expect(falls).toBeGreaterThan(20)
  })

  it('an answer from before the activation, of another gate or out of order changes nothing', () => {
    fc.assert(
      fc.property(steps, steps, fc.integer({ min: 0, max: 200 }), (old, young, activatedAtMs) => {
        const before = answersOf('web', old, 0).filter(({ startedAtMs }) => startedAtMs < activatedAtMs)
        const after = answersOf('web', young, activatedAtMs)
        const expected = recordOf(after, activatedAtMs)
        expect(recordOf([...before, ...after], activatedAtMs)).toEqual(expected)
        expect(recordOf([...after, ...before], activatedAtMs)).toEqual(expected)
        const strange = answersOf('other', old, activatedAtMs)
        expect(recordOf([...after, ...strange], activatedAtMs)).toEqual(expected)
      }),
    )
  })

  it('waiting never makes it healthier: without new answers no judgement turns into proof', () => {
    fc.assert(
      fc.property(steps, fc.nat(200), (some, laterMs) => {
        const answers = answersOf('web', some, 0)
        const record = recordOf(answers)
        const now = answers.at(-1)?.endedAtMs ?? 0
        const later = judgeGates([record], now + laterMs, rules).kind
        if (judgeGates([record], now, rules).kind !== 'proved') expect(later).not.toBe('proved')
      }),
    )
  })

  it('the time ends it: at the deadline nothing is left holding', () => {
    fc.assert(
      fc.property(fc.array(steps, { maxLength: 3 }), all => {
        const records = all.map((some, index) =>
          recordOf(answersOf(`g${index}`, some, 0), 0, { gate: `g${index}` }),
        )
        expect(judgeGates(records, 5_000, { ...rules, deadlineMs: 5_000 }).kind).not.toBe('holding')
      }),
    )
  })
})
