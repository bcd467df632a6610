import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { judgeMove, type WantedMove } from './judge-move.ts'

const server = (from: string | undefined, to: string | undefined): WantedMove => ({
  host: 'olaf',
  server: true,
  from,
  to,
  api: undefined,
})
const worker = (from: string | undefined, to: string | undefined, api: string | undefined): WantedMove => ({
  host: 'nils',
  server: false,
  from,
  to,
  api,
})

describe('a move of this node’s Kubernetes', () => {
  it.each<[WantedMove, string]>([
    [server('1.34.3', '1.34.9'), 'may'],
    [server('1.34.3', '1.35.0'), 'may, crosses'],
    [server('1.34.3', '1.36.0'), 'go to 1.35 before'],
    [server('1.34.3', '1.33.9'), 'does not go back'],
    [server(undefined, '1.35.0'), 'runs on this server cannot be told'],
    [server('1.34.3', undefined), 'write version'],
    [worker('1.34.3', '1.35.0', '1.35.4'), 'may, crosses'],
    [worker('1.34.3', '1.35.0', '1.34.3'), 'servers go first'],
    [worker('1.31.0', '1.31.1', '1.35.0'), 'more than 3 minors'],
    [worker('1.35.0', '1.34.0', '1.35.0'), 'may, crosses'],
    [worker('1.34.3', '1.34.4', undefined), 'may'],
    [worker('1.34.3', '1.35.4', undefined), 'may, crosses, warned'],
    [worker(undefined, undefined, '1.35.4'), 'may, crosses, warned'],
  ])('%j: %s', (move, expected) => {
    const verdict = judgeMove(move)
    if (verdict.kind === 'may not') return expect(verdict.reason).toContain(expected)
    const words = ['may', ...(verdict.crosses ? ['crosses'] : []), ...(verdict.warning ? ['warned'] : [])]
    expect(words.join(', ')).toBe(expected)
  })

  it('never takes a server back a minor or over one, and no kubelet past the API server', () => {
    const version = fc.tuple(fc.constantFrom(1, 2), fc.integer({ min: 28, max: 40 }), fc.nat(12))
    fc.assert(
      fc.property(version, version, version, fc.boolean(), (from, to, api, isServer) => {
        const [a, b, c] = [from, to, api].map(parts => parts.join('.'))
        const verdict = judgeMove(isServer ? server(a, b) : worker(a, b, c))
        if (verdict.kind === 'may not') return
        if (isServer) expect([from[0], from[0]]).toEqual([to[0], to[0]])
        if (isServer) expect([0, 1]).toContain(to[1] - from[1])
        else expect(to[0] < api[0] || (to[0] === api[0] && to[1] <= api[1])).toBe(true)
      }),
    )
  })
})
