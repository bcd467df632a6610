import { type Event, EventSchema } from '../../shared/gen/muster/v1/event_pb.ts'
import { isDigest } from '../../shared/ids.ts'
import { millisOf } from '../../shared/time.ts'
import { ago, shortId } from './machine-listing.ts'
import { plainOf } from './plain.ts'
import type { Listing } from './show-list.ts'

export const EVENT_FIELDS = [
  'id',
  'at',
  'class',
  'machine',
  'host',
  'reason',
  'actor',
  'previous',
  'hash',
] as const

/** A machine that acted is told by the start of its id. */
function actorOf(actor: string): string {
  return isDigest(actor) ? shortId(actor) : actor
}

export function eventListing(now: Date): Listing<Event> {
  return {
    fields: EVENT_FIELDS,
    record: event => plainOf(EventSchema, event),
    empty: 'no events',
    columns: [
      { title: 'AGE', text: event => ago(millisOf(event.at), now.getTime()) },
      { title: 'EVENT', wraps: true, text: event => event.class },
      { title: 'HOST', wraps: true, text: event => event.host || shortId(event.machine) },
      { title: 'MACHINE', wide: true, text: event => shortId(event.machine) },
      { title: 'BY', text: event => actorOf(event.actor) },
      { title: 'AT', wide: true, text: event => new Date(millisOf(event.at) ?? 0).toISOString() },
      { title: 'REASON', wraps: true, text: event => event.reason },
    ],
  }
}
