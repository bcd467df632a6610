import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type CanaryWish, type Member, orderMembers } from './members.ts'

const member = (host: string, change: Partial<Member> = {}): Member => ({
  host,
  machine: `machine-${host}`,
  cluster: undefined,
  role: 'none',
  after: [],
  drainLimitMs: undefined,
  ...change,
})
const server = (host: string, cluster = 'home') => member(host, { cluster, role: 'server' })
const worker = (host: string, cluster = 'home') => member(host, { cluster, role: 'worker' })
const two = { kind: 'number', number: 2 } as const

const NOBODY: CanaryWish = { named: [], size: undefined, standIn: true, leaders: new Set() }

/** Hosts in the order of their turns, canaries with a star. */
function inOrder(members: readonly Member[], wish: Partial<CanaryWish> = {}): string {
  const { members: ordered } = orderMembers(members, { ...NOBODY, ...wish })
  return ordered.map(({ host, canary }) => (canary ? `${host}*` : host)).join(' ')
}

const names = (hosts: string) => hosts.split(' ').map(host => member(host))

describe('members in the order of their turns', () => {
  it('are servers before workers, cluster by cluster, and hosts behind those that they go after', () => {
    const members = [worker('w1'), server('s2'), server('s1'), worker('v1', 'away'), member('x')]
    expect(inOrder(members)).toBe('x v1 s1 s2 w1')
    const edges = [member('a', { after: ['b'] }), member('b', { after: ['c'] }), member('c'), member('d')]
    expect(inOrder(edges)).toBe('c d b a')
    // Who is no member is waited for by nobody.
    expect(inOrder([member('a', { after: ['z'] }), member('b')])).toBe('a b')
  })

  it('begin with the canaries that are named, and with so many more as are asked for', () => {
    expect(inOrder(names('a b c d'), { named: ['c'] })).toBe('c* a b d')
    expect(inOrder(names('a b c d'), { named: ['c'], size: two })).toBe('a* b* c* d')
  })

  it('have as canaries by number workers and hosts outside of clusters, by their names, and first those that are a machine', () => {
    const members = [server('a'), worker('w2'), worker('w1'), member('x')]
    expect(inOrder(members, { size: two })).toBe('w1* w2* x a')
    const half = { kind: 'percent', percent: 50 } as const
    expect(inOrder(names('a b c d'), { size: half })).toBe('a* b* c d')
    const least = { kind: 'percent', percent: 1 } as const
    expect(inOrder(names('a b c d'), { size: least })).toBe('a* b c d')
    expect(inOrder([member('a', { machine: undefined }), member('b'), member('c')], { size: least })).toBe(
      'b* a c',
    )
  })

  it('T41: have another in the place of canaries that are not among them, and never none', () => {
    expect(inOrder(names('a b c'), { named: ['n4'] })).toBe('a* b c')
    expect(orderMembers(names('a b c'), { ...NOBODY, named: ['n4'] }).standIn).toBe('a')
    expect(orderMembers(names('a b c'), { ...NOBODY, named: ['b'] }).standIn).toBeUndefined()
    // By number none of the servers is one: then a server stands in, and not the one that goes last anyway.
    const servers = [server('s1'), server('s2'), server('s3')]
    expect(inOrder(servers, { size: two, leaders: new Set(['s1']) })).toBe('s2* s1 s3')
    expect(inOrder([...servers, worker('w1')], { named: ['n4'] })).toBe('w1* s1 s2 s3')
  })

  it('have none where nobody asks for one, where nobody could follow, and where nobody may stand in', () => {
    expect(inOrder(names('a b'))).toBe('a b')
    expect(inOrder(names('a'), { named: ['n4'] })).toBe('a')
    expect(inOrder(names('a b'), { named: ['a', 'b'] })).toBe('a b')
    expect(inOrder(names('a b'), { named: ['n4'], standIn: false })).toBe('a b')
  })

  it('T41: are all there, and where canaries are wanted some go first and some follow, whoever they are', () => {
    const one = fc.record({
      host: fc.integer({ min: 0, max: 30 }).map(at => `n${at}`),
      isServer: fc.boolean(),
      isBound: fc.boolean(),
    })
    const many = fc.uniqueArray(one, { minLength: 2, maxLength: 20, selector: ({ host }) => host })
    const named = fc.array(
      fc.integer({ min: 0, max: 30 }).map(at => `n${at}`),
      { maxLength: 4 },
    )
    fc.assert(
      fc.property(many, named, fc.option(fc.integer({ min: 1, max: 5 })), (hosts, canaries, number) => {
        const members = hosts.map(({ host, isServer, isBound }) => ({
          ...(isServer ? server(host) : worker(host)),
          ...(!isBound && { machine: undefined }),
        }))
        const size = number === null ? undefined : ({ kind: 'number', number } as const)
        const { members: ordered } = orderMembers(members, { ...NOBODY, named: canaries, size })
        expect(ordered.map(({ host }) => host).toSorted()).toEqual(hosts.map(({ host }) => host).toSorted())
        const first = ordered.filter(({ canary }) => canary).length
        const isEverybody = hosts.every(
          ({ host, isServer }) => canaries.includes(host) || (!isServer && size !== undefined),
        )
        if (canaries.length === 0 && size === undefined) expect(first).toBe(0)
        else if (!isEverybody) expect(first).toBeGreaterThan(0)
        expect(first).toBeLessThan(hosts.length)
        expect(ordered.slice(0, first).every(({ canary }) => canary)).toBe(true)
      }),
    )
  })
})
