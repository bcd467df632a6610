import { create } from '@bufbuild/protobuf'
import { status } from '@grpc/grpc-js'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { LogLinesSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { OperationReportSchema, OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'
import { FollowLogsRequestSchema } from '../../shared/gen/muster/v1/order_pb.ts'
import { MachineDirectory } from '../machines/directory.ts'
import { ChangeFeed } from '../operations/change-feed.ts'
import { placeLogChunk } from '../operations/place-log-chunk.ts'
import { recordLog } from '../operations/record-log.ts'
import { recordReport } from '../operations/record-report.ts'
import { addMachine, type SampleFleet, sampleFleet } from '../revisions/testing/sample-fleet.ts'
import type { LogChunk } from '../store/logs.ts'
import { type FollowLogsDeps, followLogs } from './follow-logs.ts'

const OLAF = 'a'.repeat(64)
const NAS = 'b'.repeat(64)

let fleet: SampleFleet
let deps: FollowLogsDeps & SampleFleet
beforeEach(async () => {
  fleet = await sampleFleet()
  await addMachine(fleet.store, OLAF)
  await addMachine(fleet.store, NAS)
  const directory = await MachineDirectory.load(fleet.store.db, fleet.fleetTargets.current())
  deps = { ...fleet, directory, operationFeed: new ChangeFeed() }
  await recordReport(deps, OLAF, create(OperationReportSchema, { operationId: 'one', revision: 1n }))
})
afterEach(() => fleet[Symbol.asyncDispose]())

const send = (first: number, lines: string[], dropped = 0, machine = OLAF) =>
  recordLog(
    deps,
    machine,
    create(LogLinesSchema, { operationId: 'one', first: BigInt(first), lines, dropped: BigInt(dropped) }),
    { lines: 20, bytes: 2000 },
  )
const finish = () =>
  recordReport(
    deps,
    OLAF,
    create(OperationReportSchema, {
      operationId: 'one',
      revision: 1n,
      outcome: { class: OutcomeClass.BUILD_FAILED },
    }),
  )
function follow(
  request: { follow?: boolean; tail?: number; operationId?: string; ref?: string },
  signal?: AbortSignal,
) {
  return followLogs(deps)(
    create(FollowLogsRequestSchema, { ref: OLAF, ...request }),
    { kind: 'local' },
    signal ?? new AbortController().signal,
  )
}
async function read(request: Parameters<typeof follow>[0]) {
  const lines: string[] = []
  let dropped = 0n
  let end = false
  for await (const item of follow(request)) {
    lines.push(...(item.lines ?? []))
    dropped += item.dropped ?? 0n
    end = item.end ?? false
  }
  return { lines, dropped: Number(dropped), end }
}

describe('build output', () => {
  it('is kept once however often it is sent, and goes on where a restarted agent counts anew', async () => {
    await send(0, ['a', 'b'])
    await send(2, ['c'])
    await send(2, ['c'])
    await send(0, ['a', 'b'])
    await send(0, ['again', 'from', 'the start'])
    await send(3, ['d'], 4)
    expect(await read({})).toEqual({
      lines: ['a', 'b', 'c', 'again', 'from', 'the start', 'd'],
      dropped: 4,
      end: false,
    })
    expect((await read({ tail: 2 })).lines).toEqual(['the start', 'd'])
    expect((await read({ tail: 100 })).lines).toHaveLength(7)
  })

  it('is bounded for each operation, and what is left out is counted', async () => {
    for (let at = 0; at < 30; at += 3) await send(at, [`${at}`, `${at + 1}`, `${at + 2}`])
    await send(30, ['x'.repeat(5000)], 7)
    const kept = await read({})
    expect(kept.lines).toEqual(Array.from({ length: 18 }, (_, at) => `${at}`))
    expect(kept.dropped).toBe(12 + 1 + 7)
  })

  it('is taken from the machine of the operation alone', async () => {
    await expect(send(0, ['forged'], 0, NAS)).rejects.toMatchObject({ code: status.PERMISSION_DENIED })
    await recordLog(deps, OLAF, create(LogLinesSchema, { operationId: 'nobody’s', lines: ['x'] }))
    const many = create(LogLinesSchema, { operationId: 'one', lines: Array.from({ length: 257 }, () => 'x') })
    await expect(recordLog(deps, OLAF, many)).rejects.toMatchObject({ code: status.INVALID_ARGUMENT })
    expect((await fleet.store.db.selectFrom('log_chunks').selectAll().execute()).length).toBe(0)
  })

  it('reaches every follower without gap or repetition while it grows, and ends with the operation', async () => {
    const followers = [read({ follow: true }), read({ follow: true })]
    for (let at = 0; at < 15; at++) await send(at, [`${at}`])
    followers.push(read({ follow: true }))
    for (let at = 15; at < 25; at++) await send(at, [`${at}`])
    await finish()
    const expected = { lines: Array.from({ length: 20 }, (_, at) => `${at}`), dropped: 5, end: true }
    expect(await Promise.all(followers)).toEqual([expected, expected, expected])
    expect(deps.operationFeed.size).toBe(0)
    expect((await read({})).end).toBe(true)
  })

  it('is not followed for a caller that went away, nor for what does not exist', async () => {
    const gone = new AbortController()
    const following = follow({ follow: true }, gone.signal)
    const next = following.next()
    gone.abort()
    expect((await next).done).toBe(true)
    expect(deps.operationFeed.size).toBe(0)
    await expect(read({ ref: NAS })).rejects.toMatchObject({ code: status.NOT_FOUND })
    await expect(read({ ref: NAS, operationId: 'one' })).rejects.toMatchObject({ code: status.NOT_FOUND })
    await expect(read({ ref: '' })).rejects.toMatchObject({ code: status.INVALID_ARGUMENT })
  })

  it('keeps lines and the count of lines left out, together all that was sent, within its limits', () => {
    const limits = { lines: 30, bytes: 400 }
    const pieces = fc.array(fc.array(fc.stringMatching(/^[a-z]{0,2}$/), { minLength: 1, maxLength: 8 }), {
      maxLength: 15,
    })
    fc.assert(
      fc.property(pieces, sent => {
        const chunks = new Map<number, LogChunk>()
        let at = 0
        for (const lines of sent) {
          const incoming = { first: at, lines, dropped: 0 }
          at += incoming.lines.length
          const all = [...chunks.values()].toSorted((a, b) => a.first - b.first)
          const placed = placeLogChunk(
            incoming,
            {
              sameFirst: chunks.get(incoming.first),
              last: all.at(-1),
              totals: {
                lines: all.reduce((sum, chunk) => sum + chunk.lines.length, 0),
                bytes: all.reduce((sum, chunk) => sum + JSON.stringify(chunk.lines).length, 0),
              },
            },
            limits,
          )
          if (placed) chunks.set(placed.first, placed)
        }
        const all = [...chunks.values()]
        const kept = all.reduce((sum, chunk) => sum + chunk.lines.length, 0)
        const dropped = all.reduce((sum, chunk) => sum + chunk.dropped, 0)
        expect(kept + dropped).toBe(at)
        expect(kept).toBeLessThanOrEqual(limits.lines)
        expect(all.filter(chunk => chunk.lines.length === 0).length).toBeLessThanOrEqual(1)
      }),
    )
  })
})
