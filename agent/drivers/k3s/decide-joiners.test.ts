import { describe, expect, it } from 'vitest'
import { agentTokenAfter, isSomebodyElses, writesToStartWith } from './agent-token.ts'
import { isBetween, type JoinersView, whyNoJoiners } from './decide-joiners.ts'

const NEW = 'K10abc::server:new'
const AFTER = agentTokenAfter(NEW)
const VIEW: JoinersView = {
  between: false,
  current: true,
  taken: true,
  token: NEW,
  agents: AFTER,
  printed: `K10abc::node:${AFTER}\n`,
}

describe('what another server is to join with', () => {
  it.each([
    ['is given where k3s takes both', {}, undefined],
    ['is not given while another is being made', { between: true }, 'between'],
    ['is not given where the datastore is under another', { current: false }, 'restart'],
    ['is not given where k3s has only written it down', { taken: false }, 'restart'],
    ['is not given where k3s takes agents by the old one', { printed: 'K10abc::node:agents' }, 'restart'],
    ['is given where k3s has not said what agents use', { printed: undefined }, undefined],
    ['is given where what agents use is a person’s own', { agents: 'agents', printed: 'own' }, undefined],
    ['is given where agents were never given another', { agents: 'a', printed: 'K10abc::node:a' }, undefined],
  ] as const)('%s', (_, change, why) => {
    expect(whyNoJoiners({ ...VIEW, ...change })).toBe(why)
  })
})

describe('a token of servers', () => {
  const PAIR = { old: 'K10abc::server:old', next: NEW, agents: 'agents' }

  it.each([
    ['is being made anew until its time is over', PAIR, PAIR.old, 'agents', false, true],
    ['is not where no pair is kept', undefined, NEW, 'agents', false, false],
    ['is not after its time, with the old one', PAIR, PAIR.old, 'agents', true, false],
    ['is not after its time, with the new one', PAIR, NEW, AFTER, true, false],
    ['is where that of agents alone was written', PAIR, PAIR.old, AFTER, true, true],
    ['is where that of agents alone was written back', PAIR, NEW, 'agents', true, true],
    ['is not where agents use the servers’', { ...PAIR, agents: PAIR.old }, PAIR.old, undefined, true, false],
    ['is not where agents use a person’s own', { ...PAIR, agents: '' }, NEW, 'own', true, false],
  ] as const)('%s', (_, pair, token, agents, over, between) => {
    expect(isBetween(pair, { token, agents }, over)).toBe(between)
  })
})

describe('the token of agents', () => {
  it('is a person’s own where k3s was started with another than was ever kept or made here', () => {
    const seen = { token: NEW, agents: 'agents', printed: 'K10abc::node:own' }
    expect(isSomebodyElses(seen)).toBe(true)
    expect(isSomebodyElses({ ...seen, agents: undefined })).toBe(true)
    expect(isSomebodyElses({ ...seen, printed: 'K10abc::node:agents' })).toBe(false)
    // Agents use the servers'.
    expect(isSomebodyElses({ token: NEW, agents: '', printed: NEW })).toBe(false)
    // k3s runs with the one of before yet.
    expect(isSomebodyElses({ ...seen, agents: AFTER })).toBe(false)
    expect(isSomebodyElses({ ...seen, printed: undefined })).toBe(false)
  })

  it('is written before that of servers, which says that both are there, and only where it is another', () => {
    const pair = { old: 'K10abc::server:old', next: NEW, agents: 'agents' }
    const both = [
      { name: 'agent-token', text: AFTER },
      { name: 'token', text: NEW },
    ]
    expect(writesToStartWith(pair, 'next', { token: pair.old, agents: 'agents' })).toEqual(both)
    expect(writesToStartWith(pair, 'next', { token: pair.old, agents: AFTER })).toEqual(both.slice(1))
    expect(writesToStartWith(pair, 'next', { token: NEW, agents: AFTER })).toEqual([])
    expect(writesToStartWith(pair, 'old', { token: NEW, agents: AFTER })).toEqual([
      { name: 'agent-token', text: 'agents' },
      { name: 'token', text: pair.old },
    ])
    expect(writesToStartWith({ ...pair, agents: '' }, 'next', { token: pair.old, agents: 'own' })).toEqual([
      { name: 'token', text: NEW },
    ])
  })
})
