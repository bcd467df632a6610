import { appendFile, mkdtemp, readFile, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create } from '@bufbuild/protobuf'
import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { OrderSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import {
  OutcomeClass,
  OutcomeSchema,
  Phase,
  SignedOutcomeSchema,
} from '../../shared/gen/muster/v1/operation_pb.ts'
import { PlanSchema } from '../../shared/gen/muster/v1/plan_pb.ts'
import { foldJournal, isUnreported, neededOperations, reportOf } from './fold.ts'
import { Journal, JournalDamagedError } from './journal.ts'
import { decodeRecord, encodeRecord, type JournalRecord, type NewRecord } from './journal-record.ts'
import { MAX_ATTEMPTS, nextStep, type Observed } from './next-step.ts'

const now = new Date('2026-11-20T12:00:00Z')
const clock = { now: () => now }
const keepAll = (records: readonly JournalRecord[]) => new Set(records.map(record => record.operation))
const order = (operationId: string) =>
  create(OrderSchema, {
    operationId,
    revision: 3n,
    manifestDigest: 'ab'.repeat(32),
    expires: timestampFromDate(now),
  })
const outcome = (kind: OutcomeClass, reason = '') => create(OutcomeSchema, { class: kind, reason })
const newDir = () => mkdtemp(join(tmpdir(), 'journal-'))

/** Records of one operation in an order that the agent writes them in. */
const history = (operation: string): NewRecord[] => [
  { operation, kind: 'accepted', order: order(operation) },
  { operation, kind: 'started', phase: Phase.VERIFY },
  { operation, kind: 'ended', phase: Phase.VERIFY, exitCode: undefined, detail: 'good' },
  { operation, kind: 'target', host: 'olaf', targetDigest: 'cd'.repeat(32), previous: '/nix/store/old' },
  { operation, kind: 'started', phase: Phase.BUILD },
  { operation, kind: 'ended', phase: Phase.BUILD, exitCode: 0, detail: '/nix/store/new' },
  { operation, kind: 'system', storePath: '/nix/store/new' },
  {
    operation,
    kind: 'armed',
    round: 1,
    mode: 'switch',
    bootId: 'boot-1',
    target: '/nix/store/new',
    failedBefore: [],
  },
  { operation, kind: 'started', phase: Phase.ACTIVATE },
  { operation, kind: 'ended', phase: Phase.ACTIVATE, exitCode: 0, detail: 'runs' },
  { operation, kind: 'activated', instance: 'before', degraded: [] },
  { operation, kind: 'restart', instance: 'before' },
  { operation, kind: 'proved', degraded: [] },
  { operation, kind: 'confirmed', by: 'coordinator' },
  { operation, kind: 'promoted' },
  { operation, kind: 'outcome', outcome: outcome(OutcomeClass.SUCCEEDED) },
  { operation, kind: 'acknowledged', upTo: 10_000, outcome: true },
]

/** Records of one whole operation. */
const LENGTH = history('op').length

const WRITTEN_BEFORE = join(import.meta.dirname, '../../test/fixtures/agent-state/journal.jsonl')

/** As `history`, and what stands in other operations. */
const EVERY_KIND: readonly NewRecord[] = [
  ...history('op'),
  { operation: 'op2', kind: 'accepted', order: order('op2') },
  {
    operation: 'op2',
    kind: 'plan',
    plan: create(PlanSchema, { from: '/nix/store/old', mode: 2, stops: ['a.service'], closureBytes: 5n }),
  },
  {
    operation: 'op2',
    kind: 'armed',
    round: 2,
    mode: 'trial',
    bootId: 'boot-1',
    target: '/nix/store/new',
    failedBefore: ['a.service'],
    kubernetes: { server: true, from: '1.34.3', to: '1.35.1' },
  },
  { operation: 'op2', kind: 'reboot', bootId: 'boot-1' },
  { operation: 'op2', kind: 'extended', byMs: 30_000 },
  {
    operation: 'op2',
    kind: 'outcome',
    outcome: outcome(OutcomeClass.ROLLED_BACK, 'web.service failed'),
    signed: create(SignedOutcomeSchema, { statement: Uint8Array.of(1, 2), signature: Uint8Array.of(3) }),
  },
  { operation: 'op3', kind: 'upgrade', kubernetes: { server: false, from: '', to: '1.35.1' } },
  { operation: 'op3', kind: 'kubernetes-started' },
  { operation: 'op3', kind: 'kubernetes-ended', failure: undefined },
  { operation: 'op3', kind: 'kubernetes-ended', failure: 'not Ready' },
]

/** The compiler misses a kind that is not here. */
const ALL_KINDS: Readonly<Record<NewRecord['kind'], true>> = {
  accepted: true,
  started: true,
  ended: true,
  target: true,
  system: true,
  plan: true,
  armed: true,
  activated: true,
  restart: true,
  reboot: true,
  proved: true,
  confirmed: true,
  promoted: true,
  upgrade: true,
  'kubernetes-started': true,
  'kubernetes-ended': true,
  extended: true,
  outcome: true,
  acknowledged: true,
}

const numbered = (records: readonly NewRecord[]): JournalRecord[] =>
  records.map((record, index) => ({ ...record, sequence: index + 1, at: now }))

describe('a record of the journal', () => {
  it('reads back what was written, whatever texts stand in it (T20, T64)', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.nat(), (text, sequence) => {
        for (const record of history('op')) {
          const whole: JournalRecord = { ...record, sequence, at: now }
          if (whole.kind === 'ended') Object.assign(whole, { detail: text })
          const line = encodeRecord(whole)
          expect(line).not.toContain('\n')
          expect(decodeRecord(line)).toEqual(whole)
        }
      }),
      { numRuns: 50 },
    )
  })

  it('T64: of every kind, written before an upgrade, is read as it was meant', async () => {
    // Bytes that an agent wrote and that stand in state directories: no change of this program may change what they say.
    const lines = (await readFile(WRITTEN_BEFORE, 'utf8')).trimEnd().split('\n')
    expect(lines.map(decodeRecord)).toEqual(numbered(EVERY_KIND))
    expect(Object.fromEntries(EVERY_KIND.map(({ kind }) => [kind, true]))).toEqual(ALL_KINDS)
  })

  it('of a version this program does not know is refused', () => {
    const line = encodeRecord({ ...history('op')[1]!, sequence: 1, at: now }).replace('"v":1', '"v":2')
    expect(() => decodeRecord(line)).toThrow(/v: this program knows 1/)
  })
})

describe('the journal', () => {
  it('keeps what was appended, and counts on after it is opened again', async () => {
    const dir = await newDir()
    {
      await using journal = await Journal.open(dir, clock, keepAll)
      for (const record of history('op')) await journal.append(record)
      expect(journal.sequence).toBe(LENGTH)
    }
    await using journal = await Journal.open(dir, clock, keepAll)
    expect(journal.records).toHaveLength(LENGTH)
    expect((await journal.append(history('next')[0]!)).sequence).toBe(LENGTH + 1)
  })

  it('cut anywhere by a power cut opens with whole records only, each one as it was', async () => {
    const dir = await newDir()
    const path = join(dir, 'journal.jsonl')
    {
      await using journal = await Journal.open(dir, clock, keepAll)
      for (const record of history('op')) await journal.append(record)
    }
    const whole = await readFile(path)
    const all = numbered(history('op'))
    for (let length = 0; length <= whole.length; length += 7) {
      await writeFile(path, whole)
      await truncate(path, length)
      await using journal = await Journal.open(dir, clock, keepAll)
      expect(journal.records).toEqual(all.slice(0, journal.records.length))
      const lines = whole.subarray(0, length).filter(byte => byte === 0x0a).length
      expect(journal.records).toHaveLength(lines)
    }
  })

  it('with damage in its middle is an error that names the line, not a shorter journal', async () => {
    const dir = await newDir()
    const path = join(dir, 'journal.jsonl')
    {
      await using journal = await Journal.open(dir, clock, keepAll)
      for (const record of history('op')) await journal.append(record)
    }
    const lines = (await readFile(path, 'utf8')).split('\n')
    lines[4] = lines[4]!.slice(0, 20)
    await writeFile(path, lines.join('\n'))
    await expect(Journal.open(dir, clock, keepAll)).rejects.toThrow(JournalDamagedError)
    await expect(Journal.open(dir, clock, keepAll)).rejects.toThrow(/journal\.jsonl:5:/)
  })

  it('whose last record is whole and means nothing to this program is not cut off: a newer agent acted on it', async () => {
    const dir = await newDir()
    const path = join(dir, 'journal.jsonl')
    {
      await using journal = await Journal.open(dir, clock, keepAll)
      for (const record of history('op')) await journal.append(record)
    }
    const before = await readFile(path, 'utf8')
    for (const [from, to] of [
      ['"v":1', '"v":2'],
      ['"kind":"', '"kind":"new-'],
    ] as const) {
      const at = before.lastIndexOf(from)
      const newer = `${before.slice(0, at)}${to}${before.slice(at + from.length)}`
      await writeFile(path, newer)
      await expect(Journal.open(dir, clock, keepAll)).rejects.toThrow(/a newer agent wrote it/)
      expect(await readFile(path, 'utf8')).toBe(newer)
    }
  })

  it('keeps its sequence over a compaction (T13)', async () => {
    const dir = await newDir()
    const path = join(dir, 'journal.jsonl')
    const detail = 'x'.repeat(4000)
    {
      await using journal = await Journal.open(dir, clock, keepAll)
      for (let round = 0; round < 40; round++) {
        for (const record of history(`op${round}`)) {
          await journal.append(record.kind === 'ended' ? { ...record, detail: detail.repeat(6) } : record)
        }
      }
      expect(journal.sequence).toBe(40 * LENGTH)
    }
    {
      await using journal = await Journal.open(dir, clock, records => neededOperations(records, 2))
      expect(journal.sequence).toBe(40 * LENGTH)
      expect([...foldJournal(journal.records).keys()]).toEqual(['op38', 'op39'])
    }
    await appendFile(path, '{"torn')
    await using journal = await Journal.open(dir, clock, keepAll)
    expect(journal.sequence).toBe(40 * LENGTH)
  })
})

describe('an operation cut off after any record', () => {
  const seen: Observed = {
    now: { bootId: 'boot-1', uptimeMs: 1_000 },
    instance: 'after the cut',
    current: '/nix/store/new',
    booted: '/nix/store/old',
    verdict: { kind: 'none' },
    returnEnd: undefined,
    deadline: { bootId: 'boot-1', uptimeMs: 60_000, of: 'proof' },
    recordProblem: undefined,
    newerRecord: undefined,
  }

  it('goes on where it was cut: what was not touched from the start, what was by what became of it', () => {
    const records = numbered(history('op'))
    const steps = records.map((_, index) => {
      const state = foldJournal(records.slice(0, index + 1)).get('op')!
      return nextStep(state, seen).kind
    })
    expect(steps).toEqual([
      ...Array.from({ length: 7 }, () => 'prepare'),
      // Armed, and not begun.
      'activate',
      // Begun, and not judged: never begun again.
      ...['watch-switch', 'watch-switch'],
      ...['restart-agent', 'prove', 'confirm', 'promote', 'promote'],
      ...['finished', 'finished'],
    ])
  })

  it('is begun again a bounded number of times (T28)', () => {
    const begun = Array.from({ length: MAX_ATTEMPTS }, () => history('op')[1]!)
    const state = foldJournal(numbered([history('op')[0]!, ...begun])).get('op')!
    expect(nextStep(state, seen)).toMatchObject({
      kind: 'conclude',
      conclusion: { class: OutcomeClass.REFUSED, refusal: 'agent-failed' },
    })
  })

  it('keeps the outcome that was written first (T26)', () => {
    const twice = [
      ...history('op').slice(0, LENGTH - 1),
      { ...history('op')[LENGTH - 2]!, outcome: outcome(OutcomeClass.UNKNOWN) },
    ]
    expect(foldJournal(numbered(twice as NewRecord[])).get('op')?.outcome?.class).toBe(OutcomeClass.SUCCEEDED)
  })
})

describe('what is still to be told', () => {
  it('stays until the coordinator has the newest phase and the outcome', () => {
    const records = history('op')
    const state = (length: number, ...more: NewRecord[]) =>
      foldJournal(numbered([...records.slice(0, length), ...more])).get('op')!
    const ack = (upTo: number, whole: boolean): NewRecord => ({
      operation: 'op',
      kind: 'acknowledged',
      upTo,
      outcome: whole,
    })
    expect(isUnreported(state(1))).toBe(false)
    expect(isUnreported(state(2))).toBe(true)
    expect(isUnreported(state(2, ack(2, false)))).toBe(false)
    expect(isUnreported(state(LENGTH - 1, ack(9, false)))).toBe(true)
    expect(isUnreported(state(LENGTH - 1, ack(9, true)))).toBe(false)
    expect(reportOf(state(LENGTH - 1)).phases.map(({ phase }) => phase)).toEqual([
      Phase.VERIFY,
      Phase.BUILD,
      Phase.ACTIVATE,
    ])
  })

  it('survives any compaction, and so does the newest history', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: LENGTH }), { maxLength: 20 }),
        fc.nat(5),
        (lengths, kept) => {
          const records = numbered(lengths.flatMap((length, index) => history(`op${index}`).slice(0, length)))
          const needed = neededOperations(records, kept)
          for (const [id, state] of foldJournal(records)) {
            if (isUnreported(state) || !state.outcome) expect(needed.has(id)).toBe(true)
          }
          const done = lengths.filter(length => length === LENGTH).length
          const open = lengths.length - done
          expect(needed.size).toBe(open + Math.min(done, kept))
        },
      ),
    )
  })
})
