import type { ChainHead } from '../../shared/audit/event-chain.ts'

/** What a node says at the door that a coordinator must have known before it did. */
export interface SaidAtDoor {
  readonly highestRevision: number
  /** Newest record of its journal that was acknowledged to it; 0: none. */
  readonly acknowledged: number
  /** The newest link of the record of events that it was shown; undefined: none. */
  readonly head: ChainHead | undefined
  /** Operations that a coordinator ordered and that are not over for both. */
  readonly untold: readonly { readonly id: string; readonly acceptedMs: number }[]
}

/** What is on record of the same. */
export interface OnRecord {
  readonly newestRevision: number
  /** Revisions up to this one an operator has accepted as lost. */
  readonly acceptedRevision: number
  /** Newest record of the node's journal that was acknowledged; undefined: from before that was kept, so nobody can say. */
  readonly acknowledged: number | undefined
  /** Ids of the oldest and the newest event; undefined: there is none. */
  readonly events: { readonly oldest: number; readonly newest: number } | undefined
  /** Hash of the event whose id the node names; undefined: there is no such event. */
  readonly hashThere: string | undefined
  /** The event by which an operator last accepted what is lost; 0: nobody did. */
  readonly acceptedEvent: number
  /** Those of the node's operations that are on record. */
  readonly operations: ReadonlySet<string>
  /** Operations that ended before this, in milliseconds, may have been deleted because they are old. */
  readonly prunedBeforeMs: number
}

export type Sign =
  | { readonly kind: 'revision'; readonly revision: number; readonly newest: number }
  | { readonly kind: 'acknowledged'; readonly sequence: number; readonly known: number }
  | { readonly kind: 'head'; readonly id: number; readonly newest: number }
  | { readonly kind: 'operation'; readonly id: string }

/**
 * What of a node's words shows that the store was set back. Everything here the coordinator committed before the node could have it,
 * so that no crash makes a sign; what a node comes to by itself while nobody hears it (boots, records of its journal) is none.
 */
export function signsOf(said: SaidAtDoor, known: OnRecord): readonly Sign[] {
  return [
    ...revisionSign(said, known),
    ...acknowledgedSign(said, known),
    ...headSign(said, known),
    ...operationSigns(said, known),
  ]
}

function revisionSign({ highestRevision: revision }: SaidAtDoor, known: OnRecord): Sign[] {
  const { newestRevision: newest, acceptedRevision } = known
  return revision > newest && revision > acceptedRevision ? [{ kind: 'revision', revision, newest }] : []
}

function acknowledgedSign({ acknowledged: sequence }: SaidAtDoor, { acknowledged: known }: OnRecord): Sign[] {
  return known !== undefined && sequence > known ? [{ kind: 'acknowledged', sequence, known }] : []
}

function headSign({ head }: SaidAtDoor, { events, hashThere, acceptedEvent }: OnRecord): Sign[] {
  if (!head || head.hash === hashThere) return []
  // Its chain parted from this one before an operator accepted that.
  if (head.id <= acceptedEvent) return []
  // What is older than what is kept tells nothing.
  if (events && head.id < events.oldest) return []
  return [{ kind: 'head', id: head.id, newest: events?.newest ?? 0 }]
}

function operationSigns({ untold }: SaidAtDoor, known: OnRecord): Sign[] {
  return untold
    .filter(({ id, acceptedMs }) => isLost(id, acceptedMs, known))
    .map(({ id }) => ({ kind: 'operation', id }))
}

/** Whether an operation of which a node tells was on a record that is gone. `startedMs`: when the node took it, by its own clock. */
export function isLost(
  id: string,
  startedMs: number,
  known: Pick<OnRecord, 'operations' | 'prunedBeforeMs'>,
): boolean {
  // What somebody ordered on the machine itself is on record nowhere else.
  if (id.startsWith('local-') || known.operations.has(id)) return false
  return startedMs > known.prunedBeforeMs
}

/** For people. */
export function textOfSign(who: string, sign: Sign): string {
  switch (sign.kind) {
    case 'revision': {
      const here = sign.newest === 0 ? 'no revision is on record here' : `the newest here is ${sign.newest}`
      return `${who} accepted revision ${sign.revision}, ${here}`
    }
    case 'acknowledged':
      return `${who} has its journal acknowledged up to record ${sign.sequence}, of which no more than ${sign.known} is known here`
    case 'head':
      return sign.id > sign.newest
        ? `${who} was shown event ${sign.id} of the record of events, the newest here is ${sign.newest}`
        : `${who} was shown another event ${sign.id} of the record of events than the one here`
    case 'operation':
      return `${who} tells of operation ${sign.id}, which is not on record`
  }
}
