import fc from 'fast-check'
import { expect, it } from 'vitest'
import { StateQuestions } from './state-questions.ts'

it('an answer is dated by its question, counts once, and never after a newer one', () => {
  const questions = new StateQuestions()
  const first = questions.ask('m', 1_000)
  const second = questions.ask('m', 2_000)
  expect(questions.answered('m', 'made up')).toBeUndefined()
  expect(questions.answered('other', first)).toBeUndefined()
  expect(questions.answered('m', second)).toBe(2_000)
  expect(questions.answered('m', second)).toBeUndefined()
  expect(questions.answered('m', first)).toBeUndefined()
})

it('whose answer is on its way is known, until it has come or is overdue', () => {
  const questions = new StateQuestions()
  expect(questions.awaits('m', 0)).toBe(false)
  const id = questions.ask('m', 1_000)
  expect(questions.awaits('m', 999)).toBe(true)
  expect(questions.awaits('other', 999)).toBe(false)
  expect(questions.awaits('m', 1_000)).toBe(false)
  questions.answered('m', id)
  expect(questions.awaits('m', 999)).toBe(false)
})

it('a question of another process is none of this one’s', () => {
  const before = new StateQuestions().ask('m', 1_000)
  expect(new StateQuestions().answered('m', before)).toBeUndefined()
})

it('a machine is asked every so often with jitter, earlier when something is under way, at once when it is hurried', () => {
  const questions = new StateQuestions()
  expect(questions.due('m', 20_000, 0)).toBe(true)
  expect(questions.due('m', 20_000, 15_999)).toBe(false)
  expect(questions.due('m', 20_000, 24_001)).toBe(true)
  expect(questions.due('m', 3_000, 24_100)).toBe(false)
  expect(questions.due('m', 3_000, 27_800)).toBe(true)
  questions.hurry('m')
  expect(questions.due('m', 20_000, 27_801)).toBe(true)
})

it('what is asked of a machine that never answers is bounded, and begins anew with its next session', () => {
  const questions = new StateQuestions()
  const asked: number[] = []
  for (let now = 0; now < 600_000; now += 500) {
    if (!questions.due('m', 3_000, now)) continue
    questions.ask('m', now)
    asked.push(now)
  }
  // Four within any minute.
  expect(asked.length).toBeGreaterThan(30)
  expect(asked.length).toBeLessThanOrEqual(40)
  questions.forget('m')
  expect(questions.due('m', 3_000, 600_000)).toBe(true)
})

it('the answers of a machine count however slow it is and however often it is asked, as long as they are of use', () => {
  const answersIn = fc.integer({ min: 100, max: 58_000 })
  fc.assert(
    fc.property(answersIn, fc.integer({ min: 500, max: 20_000 }), (answerMs, everyMs) => {
      const questions = new StateQuestions()
      const onTheirWay: { readonly id: string; readonly atMs: number }[] = []
      let counted = 0
      for (let now = 0; now < 300_000; now += 250) {
        while (onTheirWay[0] && onTheirWay[0].atMs + answerMs <= now) {
          const { id = '', atMs } = onTheirWay.shift() ?? {}
          const datedMs = questions.answered('m', id)
          if (datedMs === undefined) continue
          expect(datedMs).toBe(atMs)
          counted += 1
        }
        if (questions.due('m', everyMs, now)) onTheirWay.push({ id: questions.ask('m', now), atMs: now })
      }
      // Between two that count is never more than an answer takes, and the time to ask once more.
      expect(counted).toBeGreaterThanOrEqual(Math.floor(300_000 / (answerMs + 1.5 * everyMs)) - 1)
    }),
  )
})
