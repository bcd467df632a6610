import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type ConfirmQuestion, judgeConfirm } from './judge-confirm.ts'
import { SILENCE_MS } from './transition.ts'

const NOW = 1_000_000
const PATH = '/nix/store/new-system'

const good: ConfirmQuestion = {
  machine: 'olaf',
  instance: 'second',
  bootId: 'boot-1',
  storePath: PATH,
  operation: {
    machine: 'olaf',
    state: {
      expires: NOW + 1_000,
      delivered: NOW - 100,
      phase: 11,
      outcomeClass: 0,
      notBefore: 0,
      confirmed: undefined,
    },
    activatedBy: 'first',
    target: PATH,
  },
  machineState: 'active',
  held: undefined,
  session: { instance: 'second', bootId: 'boot-1', disputed: false },
}
const operation = good.operation!
const session = good.session!

describe('judgeConfirm', () => {
  it('T23: confirms a new process of the same machine over its own session, for the system that was ordered', () => {
    expect(judgeConfirm(good, NOW)).toEqual({ kind: 'confirm' })
  })

  it.each<[string, Partial<ConfirmQuestion>, RegExp]>([
    ['is not known', { operation: undefined }, /knows no such operation/],
    ['is another machine’s', { operation: { ...operation, machine: 'nas' } }, /another machine’s/],
    ['of a machine that was sent away', { machineState: 'evicted' }, /is evicted/],
    ['of a machine that is held', { held: 'clone' }, /held \(clone\)/],
    ['of a machine without a session', { session: undefined }, /no session/],
    ['over a session in dispute', { session: { ...session, disputed: true } }, /another holder/],
    ['by an agent that has no session', { instance: 'third' }, /newest session is another/],
    ['in another boot', { bootId: 'boot-2' }, /another boot/],
    ['by the agent that activated', { operation: { ...operation, activatedBy: 'second' } }, /new process/],
    ['N34: for another system', { storePath: `${PATH}-old` }, /was to reach \/nix\/store\/new-system$/],
  ])('refuses what %s', (_, change, reason) => {
    expect(judgeConfirm({ ...good, ...change }, NOW)).toMatchObject({
      kind: 'refused',
      reason: expect.stringMatching(reason),
    })
  })

  it('marks only the question for another machine’s operation as foreign', () => {
    const foreign = judgeConfirm({ ...good, operation: { ...operation, machine: 'nas' } }, NOW)
    expect(foreign).toMatchObject({ kind: 'refused', foreign: true })
    expect(judgeConfirm({ ...good, held: 'clone' }, NOW)).toMatchObject({ foreign: false })
  })

  it('says the same again when it is asked again', () => {
    const state = { ...operation.state, confirmed: NOW - 5 }
    expect(judgeConfirm({ ...good, operation: { ...operation, state } }, NOW)).toEqual({ kind: 'confirmed' })
  })

  it('is content when nobody was seen to activate, or the plan is not known', () => {
    const question = { ...good, operation: { ...operation, activatedBy: '', target: '' } }
    expect(judgeConfirm(question, NOW)).toEqual({ kind: 'confirm' })
  })

  const states = fc.record({
    expires: fc.integer({ min: 0, max: 2 * NOW }),
    delivered: fc.option(fc.integer({ min: 0, max: NOW }), { nil: undefined }),
    phase: fc.integer({ min: 0, max: 15 }),
    outcomeClass: fc.integer({ min: 0, max: 12 }),
    notBefore: fc.constant(0),
    confirmed: fc.option(fc.integer({ min: 0, max: NOW }), { nil: undefined }),
  })

  it('N12: what has an outcome, or was ended by the clock, is never confirmed, whatever else is said', () => {
    fc.assert(
      fc.property(states, fc.integer({ min: 0, max: 3 * NOW + SILENCE_MS }), (state, now) => {
        const verdict = judgeConfirm({ ...good, operation: { ...operation, state } }, now)
        const silent =
          state.phase === 0 && now >= state.expires + (state.delivered === undefined ? 0 : SILENCE_MS)
        const over = state.outcomeClass !== 0 || silent
        expect(verdict.kind === 'refused').toBe(over)
      }),
    )
  })

  it('N37: confirms nothing but the newest, undisputed session of another agent than the one that activated', () => {
    const names = fc.constantFrom('first', 'second', 'third')
    const boots = fc.constantFrom('boot-1', 'boot-2')
    const questions = fc.record({
      instance: names,
      bootId: boots,
      activatedBy: fc.constantFrom('', 'first', 'second'),
      session: fc.option(fc.record({ instance: names, bootId: boots, disputed: fc.boolean() }), {
        nil: undefined,
      }),
    })
    fc.assert(
      fc.property(questions, ({ activatedBy, ...asked }) => {
        const verdict = judgeConfirm({ ...good, ...asked, operation: { ...operation, activatedBy } }, NOW)
        const isFit =
          asked.session !== undefined &&
          !asked.session.disputed &&
          asked.session.instance === asked.instance &&
          asked.session.bootId === asked.bootId &&
          asked.instance !== activatedBy
        expect(verdict.kind).toBe(isFit ? 'confirm' : 'refused')
      }),
    )
  })
})
