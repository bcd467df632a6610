import { describe, expect, it } from 'vitest'
import { collectLabel, parseExpression, parseSoak, parseTime } from './option-types.ts'

describe('times on the command line', () => {
  it('may be nothing at all where something soaks, and nowhere else', () => {
    expect([parseSoak('0s'), parseSoak('0m'), parseSoak('90s')]).toEqual([0, 0, 90_000])
    expect(() => parseTime('0s')).toThrow('must be a duration')
    for (const text of ['', '0', '-1s', 'soon']) expect(() => parseSoak(text)).toThrow('must be a duration')
  })
})

describe('expressions on the command line', () => {
  it('say something: what a variable that nobody set leaves of one is not all there is', () => {
    expect(parseExpression('true')).toBe('true')
    for (const text of ['', ' ', '\n']) expect(() => parseExpression(text)).toThrow('is empty: write `true`')
  })
})

describe('labels on the command line', () => {
  it('are given once each', () => {
    const labels = collectLabel('rack=b', collectLabel('zone=a', undefined))
    expect(labels).toEqual({ zone: 'a', rack: 'b' })
    expect(() => collectLabel('rack=c', labels)).toThrow('gives rack a second value')
    expect(() => collectLabel('rack', labels)).toThrow('KEY=VALUE')
  })
})
