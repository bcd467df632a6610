import { pino } from 'pino'
import { describe, expect, it } from 'vitest'
import { type GateQuestion, GateQuestions, problemOf } from './gate-questions.ts'

const answer = (...verdicts: readonly string[]) =>
  JSON.stringify({ gates: verdicts.map((verdict, at) => ({ name: `g${at}`, verdict, reason: 'so it is' })) })

const question: Omit<GateQuestion, 'machine'> = {
  kind: 'gates',
  parameters: '',
  deadlineMs: 60_000,
  againMs: 5_000,
  what: 'its gates',
}
/** A question to each of these machines. */
const of = (...machines: readonly string[]) =>
  new Map(machines.map(machine => [machine, { ...question, machine }]))

/** Questions to made-up machines: each is answered when the test says so. */
function prepare() {
  let nowMs = 1_000_000
  const asked: {
    readonly machine: string
    readonly parameters: string
    readonly resolve: (text: string) => void
    readonly reject: (error: Error) => void
  }[] = []
  let answered = 0
  const questions = new GateQuestions({
    clock: { now: () => new Date(nowMs) },
    log: pino({ level: 'silent' }),
    sessions: {
      probe: (machine, _kind, _deadlineMs, _signal, parameters = '') =>
        new Promise((resolve, reject) => asked.push({ machine, parameters, resolve, reject })),
    },
    answered: () => {
      answered += 1
    },
  })
  return {
    questions,
    asked,
    told: () => answered,
    pass: (ms: number) => {
      nowMs += ms
    },
    settle: () => new Promise(resolve => setImmediate(resolve)),
  }
}

describe('the gates of hosts', () => {
  it('are healthy only when every one says so', () => {
    expect(problemOf(answer())).toBeUndefined()
    expect(problemOf(answer('healthy', 'healthy'))).toBeUndefined()
    expect(problemOf(answer('healthy', 'unhealthy', 'unavailable'))).toBe(
      'gate g1 is unhealthy: so it is and 1 more',
    )
    expect(problemOf(answer('unavailable'))).toContain('gate g0 is unavailable')
    // A word that only a later version knows opens nothing.
    expect(problemOf(answer('splendid'))).toContain('gate g0 is splendid')
    expect(() => problemOf('no json')).toThrow()
  })

  it('are asked of those that are waited for, count from when they were asked, and are forgotten with them', async () => {
    const { questions, asked, told, pass, settle } = prepare()
    questions.follow(of('a', 'b'))
    questions.follow(of('a', 'b'))
    expect(asked.map(({ machine }) => machine)).toEqual(['a', 'b'])
    pass(3_000)
    asked[0]?.resolve(answer('healthy'))
    asked[1]?.reject(new Error('not online'))
    await settle()
    expect(told()).toBe(2)
    expect([...questions.answers()]).toEqual([
      ['a', { askedMs: 1_000_000, problem: undefined, parameters: '' }],
      ['b', { askedMs: 1_000_000, problem: 'its gates could not be asked: not online', parameters: '' }],
    ])
    // Asked again after a while, as long as they are waited for.
    questions.follow(of('a', 'b'))
    expect(asked).toHaveLength(2)
    pass(2_000)
    questions.follow(of('b'))
    expect(asked.slice(2).map(({ machine }) => machine)).toEqual(['b'])
    expect([...questions.answers().keys()]).toEqual(['b'])
  })

  it('say nothing when the answer comes to whoever was meanwhile not waited for', async () => {
    const { questions, asked, settle } = prepare()
    questions.follow(of('a'))
    questions.follow(of())
    asked[0]?.resolve(answer('healthy'))
    await settle()
    expect([...questions.answers()]).toEqual([])
  })

  it('do not count when they answered another question', async () => {
    const { questions, asked, told, settle } = prepare()
    const about = (revision: string) =>
      new Map([['home', { ...question, machine: 'a', kind: 'jobs' as const, parameters: revision }]])
    questions.follow(about('1'))
    questions.follow(about('2'))
    asked[0]?.resolve(answer('healthy'))
    await settle()
    expect([...questions.answers()]).toEqual([])
    questions.follow(about('2'))
    asked[1]?.resolve(answer('unhealthy'))
    await settle()
    expect(questions.answers().get('home')?.problem).toContain('unhealthy')
    expect(told()).toBe(1)
    questions.follow(about('3'))
    expect([...questions.answers()]).toEqual([])
    expect(asked.map(({ parameters }) => parameters)).toEqual(['1', '2', '3'])
  })

  it('are asked of so many at once and no more', () => {
    const { questions, asked } = prepare()
    questions.follow(of(...Array.from({ length: 80 }, (_, at) => `m${at}`)))
    expect(asked).toHaveLength(50)
  })
})
