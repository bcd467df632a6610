import type { MessageInitShape } from '@bufbuild/protobuf'
import { status } from '@grpc/grpc-js'
import type { Kysely } from 'kysely'
import type { Clock } from '../../shared/clock.ts'
import type {
  PublishHeader,
  PublishRevisionRequest,
  PublishRevisionResponseSchema,
} from '../../shared/gen/muster/v1/revision_pb.ts'
import { DeadlineError, withDeadline } from '../../shared/lifecycle.ts'
import type { Logger } from '../../shared/log.ts'
import {
  judgePublish,
  type PublishRefusal,
  type PublishVerdict,
} from '../../shared/revision/judge-publish.ts'
import { aborted, denied, invalid, precondition, RpcError } from '../../shared/rpc/rpc-error.ts'
import type { CommittedRevision } from '../revisions/announce-revision.ts'
import type { Blobs } from '../revisions/blobs.ts'
import type { FleetTargetsCache } from '../revisions/fleet-targets.ts'
import { recordEvent } from '../store/events.ts'
import { insertRevision, newestDigest, newestRevision } from '../store/revisions.ts'
import { isUniqueViolation, type Store } from '../store/store.ts'
import type { Database } from '../store/tables.ts'
import { insertTargets } from '../store/targets.ts'
import { appendTrustSet, newestTrust } from '../store/trust-sets.ts'
import { actorOf, type Caller } from './caller.ts'

const MAX_CHUNK_BYTES = 64 * 1024
/** A publisher who is silent for longer has gone. */
const MESSAGE_WAIT_MS = 60_000

export interface PublishDeps {
  readonly store: Store
  readonly blobs: Blobs
  readonly fleetTargets: FleetTargetsCache
  readonly clock: Clock
  readonly log: Logger
  /**
   * Told right after the commit of a revision that leaves the trust set as it is, to notify sessions; what follows waits
   * until the notices are on their way.
   */
  readonly onCommitted?: (revision: CommittedRevision) => Promise<void>
  /** Told once the targets are those of the revision. */
  readonly onPublished: (published: PublishedRevision) => void
}

export interface PublishedRevision {
  readonly revision: CommittedRevision
  readonly trustChanged: boolean
}

type Accepted = Extract<PublishVerdict, { kind: 'accepted' }>
type Response = MessageInitShape<typeof PublishRevisionResponseSchema>

/**
 * Takes a signed revision. Judged before the tree is received, so that a refusal costs no upload, and again in the
 * transaction that writes it, so that of two operators who publish at once exactly one wins.
 */
export function publishRevision(deps: PublishDeps) {
  return async (
    requests: AsyncIterable<PublishRevisionRequest>,
    caller: Caller,
    signal: AbortSignal,
  ): Promise<Response> => {
    const reader = requests[Symbol.asyncIterator]()
    try {
      const header = await readHeader(reader, signal)
      const first = await judge(deps, deps.store.db, header)
      if (first.kind === 'unchanged') return await unchanged(deps, first)
      if (first.kind === 'refused') throw await refusal(deps, first, caller)
      await receiveTree(deps, first, header, reader, signal)
      const verdict = await commit(deps, header, caller, first)
      if (verdict.kind === 'unchanged') return await unchanged(deps, verdict)
      if (verdict.kind === 'refused') throw await refusal(deps, verdict, caller)
      const { manifest, trustChanged } = verdict
      if (!header.envelope) throw invalid('envelope: is missing')
      const revision = { number: manifest.number, digest: manifest.digest, envelope: header.envelope }
      if (!trustChanged && deps.onCommitted) {
        await deps.onCommitted(revision)
      }
      await deps.fleetTargets.reload(deps.store.db)
      deps.log.info({ revision: manifest.number, actor: actorOf(caller) }, 'revision published')
      deps.onPublished({ revision, trustChanged })
      return { number: BigInt(manifest.number), manifestDigest: manifest.digest, unchanged: false }
    } finally {
      await reader.return?.()
    }
  }
}

async function readHeader(
  reader: AsyncIterator<PublishRevisionRequest>,
  signal: AbortSignal,
): Promise<PublishHeader> {
  const first = await nextMessage(reader, signal)
  if (first?.part.case !== 'header') throw invalid('part: the first message of a publication is the header')
  return first.part.value
}

async function nextMessage(
  reader: AsyncIterator<PublishRevisionRequest>,
  signal: AbortSignal,
): Promise<PublishRevisionRequest | undefined> {
  try {
    const next = await withDeadline(MESSAGE_WAIT_MS, signal, () => reader.next())
    return next.done ? undefined : next.value
  } catch (error) {
    if (signal.aborted) throw new RpcError(status.CANCELLED, 'the publisher went away')
    if (!(error instanceof DeadlineError)) throw error
    throw new RpcError(status.DEADLINE_EXCEEDED, `chunk: nothing came for ${MESSAGE_WAIT_MS / 1000} s`)
  }
}

async function receiveTree(
  { blobs }: PublishDeps,
  { manifest }: Accepted,
  { renew }: PublishHeader,
  reader: AsyncIterator<PublishRevisionRequest>,
  signal: AbortSignal,
): Promise<void> {
  const blob = { digest: manifest.manifest.treeDigest, length: Number(manifest.manifest.treeLength) }
  if (renew) {
    if (await blobs.has(blob)) return
    throw precondition('renew: the coordinator has lost the tree; publish the directory itself')
  }
  await blobs.put(blob, readChunks(reader, signal))
}

async function* readChunks(
  reader: AsyncIterator<PublishRevisionRequest>,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  for (;;) {
    const message = await nextMessage(reader, signal)
    if (!message) return
    if (message.part.case !== 'chunk') throw invalid('part: after the header only chunks may come')
    const chunk = message.part.value
    if (chunk.length === 0 || chunk.length > MAX_CHUNK_BYTES) {
      throw invalid(`chunk: ${chunk.length} bytes, must be 1 to ${MAX_CHUNK_BYTES}`)
    }
    yield chunk
  }
}

type Judged = (
  | Exclude<PublishVerdict, { kind: 'refused' }>
  | { readonly kind: 'refused'; readonly class: PublishRefusal; readonly reason: string }
) & {
  /** What of the store it rests on. */
  readonly restsOn: string
}

/** The newest revision and trust set, as one text: a verdict over the same header stands while they do. */
async function standing(db: Kysely<Database>): Promise<string> {
  const [revision, trust] = [await newestDigest(db), await newestTrust(db)]
  return `${revision?.number} ${revision?.digest} ${trust?.number} ${trust?.digest}`
}

async function judge(
  { clock }: PublishDeps,
  db: Kysely<Database>,
  { envelope, targets, expectedPredecessor, renew }: PublishHeader,
): Promise<Judged> {
  const trust = await newestTrust(db)
  if (!trust) {
    throw precondition('the coordinator has no trust set yet: give it the fleet’s with `muster trust set`')
  }
  const restsOn = await standing(db)
  const newest = await newestRevision(db)
  const verdict = judgePublish({
    newest: newest?.manifest,
    envelope,
    targets,
    trust,
    expectedPredecessor,
    renew,
    now: clock.now(),
  })
  if (verdict.kind !== 'refused' || verdict.class !== 'conflict' || !newest) return { ...verdict, restsOn }
  const { number, published, published_by } = newest.row
  const who = `revision ${number} is by ${published_by}, ${new Date(published).toISOString()}`
  return { ...verdict, reason: `${verdict.reason} (${who})`, restsOn }
}

/** Writes everything or nothing; what was judged before the upload is judged again where the store holds something else by then. */
async function commit(
  deps: PublishDeps,
  header: PublishHeader,
  caller: Caller,
  first: Judged,
): Promise<Judged> {
  const now = deps.clock.now()
  const by = actorOf(caller)
  try {
    return await deps.store.transact(async tx => {
      const verdict = (await standing(tx)) === first.restsOn ? first : await judge(deps, tx, header)
      // The upload took its time, and the manifest has an end.
      if (verdict.kind === 'accepted' && verdict.manifest.expires <= now) return await judge(deps, tx, header)
      if (verdict.kind !== 'accepted' || !header.envelope) return verdict
      const { manifest, targets, signers, trust, trustChanged } = verdict
      await insertRevision(tx, header.envelope, manifest, { at: now, by, signers })
      await insertTargets(tx, manifest.number, targets)
      const { trustSet } = manifest.manifest
      if (trustChanged && trustSet) await appendTrustSet(tx, trustSet, trust, now)
      await recordEvent(tx, {
        at: now,
        class: header.renew ? 'renewed' : 'published',
        reason: `revision ${manifest.number}, manifest ${manifest.digest}`,
        actor: by,
      })
      return verdict
    })
  } catch (error) {
    if (!isUniqueViolation(error)) throw error
    throw aborted('another revision was published meanwhile; look at it with `muster diff` and publish again')
  }
}

async function unchanged(
  { fleetTargets, store }: PublishDeps,
  { manifest }: Extract<Judged, { kind: 'unchanged' }>,
): Promise<Response> {
  // A publication whose last steps were cut off is made whole by its repetition.
  if (fleetTargets.current().revision < manifest.number) await fleetTargets.reload(store.db)
  return { number: BigInt(manifest.number), manifestDigest: manifest.digest, unchanged: true }
}

/** The error for a refusal; those that smell of a forgery are shown to operators as events too. */
async function refusal(
  { store, clock, log }: PublishDeps,
  { class: kind, reason }: Extract<Judged, { kind: 'refused' }>,
  caller: Caller,
): Promise<RpcError> {
  log.warn({ class: kind, reason, actor: actorOf(caller) }, 'publication refused')
  if (kind === 'signature' || kind === 'fleet' || kind === 'floor' || kind === 'targets') {
    await store.transact(tx =>
      recordEvent(tx, {
        at: clock.now(),
        class: 'publish-refused',
        reason: `${kind}: ${reason}`,
        actor: actorOf(caller),
      }),
    )
  }
  return errorFor(kind, reason)
}

function errorFor(kind: PublishRefusal, reason: string): RpcError {
  switch (kind) {
    case 'conflict':
      return aborted(reason)
    case 'signature':
    case 'fleet':
      return denied(reason)
    case 'malformed':
    case 'targets':
      return invalid(reason)
    case 'number':
    case 'floor':
    case 'renew':
    case 'trust':
    case 'expired':
    case 'future':
      return precondition(reason)
  }
}
