import { status } from '@grpc/grpc-js'
import { escapeText } from '../../shared/escape.ts'
import type { Event } from '../../shared/gen/muster/v1/event_pb.ts'
import { pause } from '../../shared/lifecycle.ts'
import { backoffMs } from '../../shared/retry.ts'
import { RpcError } from '../../shared/rpc/rpc-error.ts'
import { millisOf } from '../../shared/time.ts'
import type { Cli } from '../cli.ts'
import { withCoordinator } from '../connect.ts'
import { paint } from '../output/colour.ts'
import { eventListing } from '../output/event-listing.ts'
import { type Format, toJsonLine } from '../output/format.ts'
import { showList } from '../output/show-list.ts'

export interface EventOptions {
  readonly follow?: boolean | undefined
  readonly limit?: number | undefined
  readonly output?: Format | undefined
}

const POLL_MS = 2_000
/** While the coordinator is away. */
const WAIT = { firstMs: 250, mostMs: 5_000 }
/** What one answer holds at most. */
const PAGE = 1_000

/** What happened, oldest first. Following, each event is one line, or one JSON object a line; a coordinator that goes away is waited for. */
export async function listEvents(cli: Cli, ref: string | undefined, options: EventOptions): Promise<void> {
  await withCoordinator(cli, async ({ client, call }) => {
    const first = await client.listEvents({ ref: ref ?? '', limit: options.limit ?? 0, after: 0n }, call)
    const shown = [...first.events].reverse()
    if (!options.follow) return showList(cli.io, shown, eventListing(cli.clock.now()), options.output)
    const asJson = options.output === 'json'
    for (const event of shown) cli.io.out(lineOf(cli, event, asJson))
    let after = newest(shown, 0n)
    let away = 0
    while (await pause(away === 0 ? POLL_MS : backoffMs(away - 1, WAIT), cli.signal)) {
      // Shown only when all are there, so that after an answer that broke off none is shown twice.
      const events = await eventsSince(after, before =>
        client.listEvents({ ref: ref ?? '', limit: PAGE, after, before }, call),
      ).catch((error: unknown) => {
        if (error instanceof RpcError && error.code === status.UNAVAILABLE) return undefined
        throw error
      })
      if (away === 0 && !events) cli.io.err('the coordinator cannot be reached; waiting for it\n')
      away = events ? 0 : away + 1
      if (!events) continue
      for (const event of [...events].reverse()) cli.io.out(lineOf(cli, event, asJson))
      after = newest(events, after)
    }
  })
}

/** All events after one, newest first: of a burst that no answer holds nothing is passed over. */
async function eventsSince(
  after: bigint,
  ask: (before: bigint) => Promise<{ readonly events: readonly Event[] }>,
): Promise<readonly Event[]> {
  const found: Event[] = []
  for (let before = 0n; ; ) {
    const { events } = await ask(before)
    found.push(...events)
    const oldest = events.at(-1)?.id
    if (oldest === undefined || events.length < PAGE || oldest <= after + 1n) return found
    before = oldest
  }
}

function newest(events: readonly Event[], before: bigint): bigint {
  return events.reduce((most, { id }) => (id > most ? id : most), before)
}

function lineOf({ io, clock }: Cli, event: Event, asJson: boolean): string {
  const { fields, record } = eventListing(clock.now())
  if (asJson) {
    const found = record(event)
    return toJsonLine(Object.fromEntries(fields.map(field => [field, found[field] ?? null])))
  }
  const at = new Date(millisOf(event.at) ?? 0).toISOString()
  const who = event.host || event.machine.slice(0, 12)
  return `${paint(at, 'dim', io.colour)}  ${escapeText(
    [event.class, who, event.reason, event.actor && `by ${event.actor}`]
      .filter(text => text !== '')
      .join('  '),
  )}\n`
}
