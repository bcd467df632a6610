import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createLog } from '../log.ts'
import { judgeCertificate } from './certificate-store.ts'
import { ConsoleWriter, consoleText } from './console.ts'
import { type EnrolmentOutcome, showsToken, waitAfter } from './enrolment-outcome.ts'
import { choosePins, loadToken, parseToken } from './token.ts'

const pin = 'a'.repeat(64)
const other = 'b'.repeat(64)

describe('a token', () => {
  it('is taken apart, also with a line end and without a trust pin', () => {
    expect(parseToken('f', `id.secret.${pin}.${other}\n`)).toEqual({
      id: 'id',
      secret: 'secret',
      caPin: pin,
      trustPin: other,
    })
    expect(parseToken('f', `id.secret.${pin}.`).trustPin).toBeUndefined()
  })

  it('T66: is refused with a message that holds nothing of it', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[A-Z0-9]{8,20}(\.[A-Z0-9]{8,20}){0,5}$/), text => {
        let message = ''
        try {
          parseToken('token file', text)
        } catch (error) {
          message = String(error)
        }
        expect(message).toContain('token file')
        for (const part of text.split('.')) expect(message).not.toContain(part)
      }),
    )
  })

  it('is refused when its file is open to others than its owner, and absent when the file is', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'ma-'))
    try {
      const file = join(folder, 'token')
      expect(await loadToken(file)).toBeUndefined()
      await writeFile(file, `id.secret.${pin}.`)
      // On many systems all people are in one group.
      for (const mode of [0o644, 0o640, 0o440, 0o604, 0o620]) {
        await chmod(file, mode)
        await expect(loadToken(file)).rejects.toThrow(/open to others than its owner; make it `chmod 600`/)
      }
      // What systemd hands over to root is 0400.
      for (const mode of [0o600, 0o400]) {
        await chmod(file, mode)
        expect(await loadToken(file)).toMatchObject({ id: 'id' })
      }
    } finally {
      await rm(folder, { recursive: true })
    }
  })

  it('lends its pins where none are given, and must agree where they are until there is a certificate', () => {
    const token = parseToken('f', `id.secret.${pin}.${other}`)
    const none = { caPin: undefined, trustPin: undefined }
    expect(choosePins(none, token, none, false)).toEqual({ caPin: pin, trustPin: other })
    expect(choosePins({ caPin: pin, trustPin: undefined }, undefined, none, false)).toEqual({
      caPin: pin,
      trustPin: undefined,
    })
    expect(choosePins(none, undefined, { caPin: pin, trustPin: other }, false)).toEqual({
      caPin: pin,
      trustPin: other,
    })
    expect(() => choosePins({ caPin: other, trustPin: undefined }, token, none, false)).toThrow(
      'another fleet',
    )
    expect(() => choosePins({ caPin: undefined, trustPin: pin }, token, none, false)).toThrow('trustPin')
    expect(() => choosePins(none, undefined, none, false)).toThrow('caPin: missing')
    expect(() => choosePins(none, undefined, none, true)).toThrow('caPin: missing')
  })

  it('of a machine that has enrolled contradicts nothing that its configuration says', () => {
    const pins = fc.record({
      caPin: fc.constantFrom(undefined, pin, other),
      trustPin: fc.constantFrom(undefined, pin, other),
    })
    fc.assert(
      fc.property(pins, pins, fc.constantFrom('', pin, other), (configured, remembered, tokens) => {
        const token = parseToken('f', `id.secret.${pin}.${tokens}`)
        const { caPin, trustPin } = choosePins(configured, token, remembered, true)
        expect(caPin).toBe(configured.caPin ?? pin)
        expect(trustPin).toBe(configured.trustPin ?? token.trustPin ?? remembered.trustPin)
      }),
    )
  })
})

describe('judgeCertificate', () => {
  it('never calls a certificate good outside its dates, and renews it before its end', () => {
    const time = fc.integer({ min: 0, max: 4e12 })
    fc.assert(
      fc.property(
        time,
        time,
        time,
        time,
        fc.double({ min: -1, max: 1, noNaN: true }),
        (from, to, came, at, spread) => {
          const held = {
            chainPem: '',
            notBefore: new Date(from),
            notAfter: new Date(to),
            obtained: new Date(came),
          }
          const verdict = judgeCertificate(held, new Date(at), spread)
          expect(verdict.kind === 'good').toBe(at >= from && at < to)
          if (verdict.kind === 'good') {
            expect(verdict.renewAt.getTime()).toBeLessThan(to)
            expect(verdict.renewAt.getTime()).toBeGreaterThanOrEqual(from)
          }
        },
      ),
    )
  })

  it('counts from when it came, since certificates are backdated', () => {
    const hour = 3_600_000
    const now = 100 * hour
    const held = {
      chainPem: '',
      notBefore: new Date(now - 24 * hour),
      notAfter: new Date(now + 3 * hour),
      obtained: new Date(now),
    }
    expect(judgeCertificate(held, new Date(now), 0)).toEqual({
      kind: 'good',
      renewAt: new Date(now + 2 * hour),
    })
    expect(judgeCertificate(undefined, new Date(now), 0)).toEqual({ kind: 'none' })
    expect(judgeCertificate({ ...held, notAfter: new Date(Number.NaN) }, new Date(now), 0).kind).toBe(
      'expired',
    )
  })
})

const outcome: fc.Arbitrary<Exclude<EnrolmentOutcome, { kind: 'admitted' }>> = fc.oneof(
  fc.record({
    kind: fc.constant('waiting' as const),
    reason: fc.string(),
    command: fc.string(),
    retryAfterMs: fc.nat(),
  }),
  fc.record({
    kind: fc.constant('refused' as const),
    class: fc.oneof(fc.string(), fc.constantFrom('evicted', 'conflict', 'banned')),
    reason: fc.string(),
    command: fc.string(),
    retry: fc.boolean(),
    retryAfterMs: fc.nat(),
  }),
  fc.record({ kind: fc.constant('away' as const), reason: fc.string() }),
  fc.record({ kind: fc.constant('failed' as const), class: fc.string(), reason: fc.string() }),
)

describe('between attempts to enrol', () => {
  it('always waits a while, and never longer than the longest back-off and its jitter', () => {
    fc.assert(
      fc.property(outcome, fc.nat(), fc.integer({ min: 10, max: 1000 }), (what, attempt, firstMs) => {
        const mostMs = firstMs * 100
        const ms = waitAfter(what, attempt, { firstMs, mostMs })
        expect(ms).toBeGreaterThan(0)
        expect(ms).toBeLessThanOrEqual(mostMs * 1.2 + 1)
      }),
    )
  })

  it('shows a token only while it may help', () => {
    const base = { hasToken: true, tokenRefused: false, enrolledBefore: false, keyWasNotEnough: false }
    expect(showsToken(base)).toBe(true)
    expect(showsToken({ ...base, hasToken: false })).toBe(false)
    expect(showsToken({ ...base, tokenRefused: true })).toBe(false)
    expect(showsToken({ ...base, enrolledBefore: true })).toBe(false)
    expect(showsToken({ ...base, enrolledBefore: true, keyWasNotEnough: true })).toBe(true)
  })
})

describe('the console', () => {
  const refused = (kind: string, command = '') =>
    consoleText(
      { kind: 'refused', class: kind, reason: 'r', command, retry: true, retryAfterMs: 0 },
      pin,
      'hub:1',
    )

  it('names the command that the coordinator has for a machine that it refused', () => {
    expect(refused('evicted', 'muster approve 1234')).toContain('  to let it in muster approve 1234\n')
    expect(refused('conflict', 'muster release 1234')).toContain('  what helps   muster release 1234\n')
    expect(refused('full', 'muster pending')).toContain('  what helps   muster pending\n')
  })

  it.each(['banned', 'conflict', 'full', 'proof', 'nonce', 'malformed', 'token-expired', 'token-unknown'])(
    'names none for %s where the coordinator has none',
    kind => {
      expect(refused(kind)).not.toContain('muster ')
    },
  )

  it.each(['evicted', 'rejected'])(
    'knows by itself what helps who was %s, for a coordinator before this one',
    kind => {
      expect(refused(kind)).toContain(`to let it in muster approve ${pin}`)
    },
  )

  it('T12: shows no control character and no endless text of a coordinator', () => {
    fc.assert(
      fc.property(outcome, what => {
        const text = consoleText(what, pin, 'hub:1')
        // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must not be there
        expect(text).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e]/)
        expect(text.split('\n').length).toBeLessThanOrEqual(8)
      }),
    )
    const long = consoleText({ kind: 'away', reason: 'x'.repeat(10_000) }, pin, 'hub:1')
    expect(long.length).toBeLessThan(1_000)
  })

  it('is written once for each change, and its absence stops nothing', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'ma-'))
    const lines: string[] = []
    const log = createLog('info', line => lines.push(line))
    try {
      const { readFile } = await import('node:fs/promises')
      const file = join(folder, 'console')
      const writer = new ConsoleWriter(file, log)
      for (const text of ['a\n', 'a\n', 'b\n', 'a\n']) await writer.show(text)
      expect(await readFile(file, 'utf8')).toBe('a\nb\na\n')
      await new ConsoleWriter(join(folder, 'missing/console'), log).show('x')
      expect(lines.join('')).toContain('console could not be written')
    } finally {
      await rm(folder, { recursive: true })
    }
  })
})
