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
  // What is asked of a machine that never answers is bounded.
  for (let n = 0; n < 100; n += 1) questions.ask('m', n)
  const last = questions.ask('m', 100)
  expect(questions.answered('m', last)).toBe(100)
})
