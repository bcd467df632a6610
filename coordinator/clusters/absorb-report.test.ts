import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { absorbReport, type StepReport } from './absorb-report.ts'
import { type ClusterRecord, emptyRecord } from './cluster-record.ts'
import { askToLeave } from './operator-changes.ts'
import { ordersFor } from './orders-for.ts'
import { applyStep } from './steps.ts'
import { AUTHORITY, foundedRecord, NOW } from './testing/sample-snapshot.ts'

const mint = { kind: 'mint', machine: 'm-b', host: 'b', role: 'server', minter: 'm-a', why: '' } as const
const minting = applyStep(foundedRecord(), mint, NOW)
const operation = minting.joins[0]?.operation ?? ''
const done = { kind: 'ended', done: true, authority: AUTHORITY } as const
const failed = { kind: 'ended', done: false, authority: '' } as const
const minted = { kind: 'minted', tokenId: 't' } as const

const take = (record: ClusterRecord, from: string, report: StepReport, op = operation) =>
  absorbReport(record, from, op, report, NOW)
const kinds = (record: ClusterRecord, machine: string) => ordersFor(record, machine).map(({ kind }) => kind)

const reports: fc.Arbitrary<StepReport> = fc.constantFrom<StepReport>(
  minted,
  { kind: 'received' },
  { kind: 'deleted' },
  done,
  failed,
)

describe('a report', () => {
  it('leads a join from the minter to the joiner and to the end', () => {
    expect(kinds(minting, 'm-a')).toEqual(['mint'])
    expect(kinds(minting, 'm-b')).toEqual([])
    const first = take(minting, 'm-a', minted)
    // The only copy of the secret is the minter's, until the joiner has it.
    expect(first.acknowledged).toBe(false)
    expect(kinds(first.record, 'm-b')).toEqual(['join'])
    const received = take(first.record, 'm-b', { kind: 'received' })
    expect(received.record.joins[0]).toMatchObject({ state: 'received', tokenId: 't' })
    expect(take(received.record, 'm-a', minted)).toEqual({ record: received.record, acknowledged: true })
    const joined = take(received.record, 'm-b', done)
    expect(joined.record.joins[0]).toMatchObject({
      state: 'joined',
      joinerDone: true,
      joinedMs: NOW,
      end: undefined,
    })
    expect(joined.record.settledMs).toBe(NOW)
  })

  it('changes nothing a second time, in whatever order they come', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.constantFrom('m-a', 'm-b', 'm-x'), reports), { maxLength: 12 }),
        fc.constantFrom('m-a', 'm-b', 'm-x'),
        reports,
        (before, from, report) => {
          let record = minting
          for (const [who, what] of before) record = take(record, who, what).record
          const once = take(record, from, report).record
          expect(take(once, from, report).record).toEqual(once)
        },
      ),
    )
  })

  it('counts only from the machine that was asked', () => {
    for (const report of [minted, { kind: 'received' }, { kind: 'deleted' }, done, failed] as const) {
      expect(take(minting, 'm-x', report).record).toBe(minting)
    }
    expect(take(minting, 'm-b', minted).record).toBe(minting)
    expect(take(minting, 'm-a', { kind: 'received' }).record).toBe(minting)
    expect(take(minting, 'm-a', failed, 'another').record).toBe(minting)
  })

  it('of a minter that would not ends the join, and what it says after the end reaches no joiner', () => {
    const refused = take(minting, 'm-a', failed).record
    expect(refused.joins[0]).toMatchObject({ end: 'failed', state: 'asked' })
    const late = take(refused, 'm-a', minted)
    expect(late.acknowledged).toBe(true)
    expect(late.record.joins[0]).toMatchObject({ end: 'failed', state: 'asked', tokenId: 't' })
    expect(kinds(late.record, 'm-b')).toEqual([])
  })

  it('of a joiner that failed stops it, and the token is deleted by the server that was told to', () => {
    const given = take(minting, 'm-a', minted).record
    const ended = applyStep(given, { kind: 'end-join', operation, end: 'expired', why: '' }, NOW)
    expect(kinds(ended, 'm-b')).toEqual(['stop'])
    const told = applyStep(ended, { kind: 'delete-token', operation, server: 'm-c', why: '' }, NOW)
    expect(kinds(told, 'm-c')).toEqual(['delete'])
    expect(take(told, 'm-a', { kind: 'deleted' }).record.joins[0]?.tokenGone).toBe(false)
    expect(take(told, 'm-c', { kind: 'deleted' }).record.joins[0]?.tokenGone).toBe(true)
  })

  it('of the founder writes down the authority once and for all', () => {
    const found = { kind: 'found', machine: 'm-a', host: 'a', why: '' } as const
    const ordered = applyStep(emptyRecord('home'), found, NOW)
    const op = ordered.founding?.operation ?? ''
    expect(kinds(ordered, 'm-a')).toEqual(['found'])
    const { record } = take(ordered, 'm-a', done, op)
    expect(record.founding).toMatchObject({ state: 'founded', authority: AUTHORITY })
    expect(record.firstServer).toBe('m-a')
    expect(take(record, 'm-a', { ...done, authority: 'b'.repeat(64) }, op).record).toBe(record)
    expect(take(record, 'm-a', failed, op).record).toBe(record)
    // A founder that cannot name its authority has founded nothing that could be joined.
    expect(take(ordered, 'm-a', { ...done, authority: '' }, op).record.founding?.state).toBe('failed')
  })

  it('of a leave that failed lets it be tried again later, as another operation', () => {
    const asked = askToLeave(
      foundedRecord(),
      { host: 'c', machine: 'm-c', server: true, dead: false, signed: undefined },
      'request-1',
    )
    const { request } = asked.leaves[0] ?? { request: '' }
    const begin = { kind: 'leave', request, executor: 'm-c', why: '' } as const
    const begun = applyStep(asked, begin, NOW)
    const op = begun.leaves[0]?.attempt?.operation ?? ''
    expect(ordersFor(begun, 'm-c')).toEqual([
      { kind: 'leave', operation: op, host: 'c', dead: false, request },
    ])
    const after = take(begun, 'm-c', failed, op).record
    expect(after.leaves).toMatchObject([{ attempt: undefined, failures: 1 }])
    expect(applyStep(after, begin, NOW).leaves[0]?.attempt?.operation).not.toBe(op)
    const gone = take(begun, 'm-c', done, op).record
    expect(gone.leaves).toEqual([])
    expect(gone.left.get('c')).toBe('m-c')
  })
})
