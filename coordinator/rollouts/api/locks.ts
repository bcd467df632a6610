import type { MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import type { Transaction } from 'kysely'
import type { Clock } from '../../../shared/clock.ts'
import type {
  HostLockSchema,
  HostPinSchema,
  ListLocksRequest,
  ListLocksResponseSchema,
  LockHostRequest,
  LockHostResponseSchema,
  PinHostRequest,
  PinHostResponseSchema,
  UnlockHostRequest,
  UnlockHostResponseSchema,
  UnpinHostRequest,
  UnpinHostResponseSchema,
} from '../../../shared/gen/muster/v1/rollout_pb.ts'
import { isHostName } from '../../../shared/revision/host-name.ts'
import { exists, invalid, notFound, precondition } from '../../../shared/rpc/rpc-error.ts'
import { millisOf } from '../../../shared/time.ts'
import { actorOf, type Caller } from '../../api/caller.ts'
import type { MachineDirectory } from '../../machines/directory.ts'
import { requireRevision } from '../../revisions/describe-revision.ts'
import { recordEvent } from '../../store/events.ts'
import {
  allLocks,
  deleteLock,
  deletePin,
  findLock,
  type HostLockRow,
  type HostPinRow,
  insertLock,
  pinsAt,
  putPin,
} from '../../store/host-locks.ts'
import { touchOpenRollouts } from '../../store/rollouts.ts'
import type { Store } from '../../store/store.ts'
import type { Database } from '../../store/tables.ts'

export interface LockDeps {
  readonly store: Store
  readonly directory: MachineDirectory
  readonly clock: Clock
  /** Called after locks or pins changed: what waited may go on, what may not must wait. */
  readonly onRolloutsChanged: () => void
}

const MAX_WHY_CHARS = 256
const MAX_PIN_MS = 366 * 86_400_000

/** Makes rollouts pass a host by. What is being done to it goes on. */
export function lockHost(deps: LockDeps) {
  return async (
    { host, why }: LockHostRequest,
    caller: Caller,
  ): Promise<MessageInitShape<typeof LockHostResponseSchema>> => {
    checkHost(deps.directory, host)
    const now = deps.clock.now()
    const by = actorOf(caller)
    const row: HostLockRow = { host, why: readWhy(why), by_whom: by, at: now.getTime() }
    await deps.store.transact(async tx => {
      const known = await findLock(tx, host)
      if (known) {
        throw exists(`host: ${host} is locked already, by ${known.by_whom}: ${known.why}; unlock it first`)
      }
      await insertLock(tx, row)
      await recordHost(tx, deps.directory, now, 'locked', host, `rollouts pass it by: ${row.why}`, by)
    })
    deps.onRolloutsChanged()
    return { lock: describeLock(row) }
  }
}

export function unlockHost(deps: LockDeps) {
  return async (
    { host }: UnlockHostRequest,
    caller: Caller,
  ): Promise<MessageInitShape<typeof UnlockHostResponseSchema>> => {
    const now = deps.clock.now()
    await deps.store.transact(async tx => {
      if (!(await deleteLock(tx, host))) throw notFound(`host: ${host} is not locked`)
      const text = 'rollouts may touch it again'
      await recordHost(tx, deps.directory, now, 'unlocked', host, text, actorOf(caller))
    })
    deps.onRolloutsChanged()
    return {}
  }
}

/** Keeps a host at a revision until a day; a pin it had is replaced. */
export function pinHost(deps: LockDeps) {
  return async (
    request: PinHostRequest,
    caller: Caller,
  ): Promise<MessageInitShape<typeof PinHostResponseSchema>> => {
    const { host } = request
    checkHost(deps.directory, host)
    const now = deps.clock.now()
    const until = millisOf(request.until)
    if (until === undefined || until <= now.getTime() || until > now.getTime() + MAX_PIN_MS) {
      throw invalid('until: must be later than now and at most 366 days ahead')
    }
    if (request.revision === 0n) throw invalid('revision: name the revision that the host is kept at')
    const { manifest } = await requireRevision(deps.store.db, request.revision)
    const group = groupOf(deps.directory, host)
    if (group === '' ? !manifest.hosts.has(host) : !manifest.groups.has(group)) {
      throw precondition(`revision: revision ${manifest.number} has no target for host ${host}`)
    }
    const by = actorOf(caller)
    const row: HostPinRow = {
      host,
      revision: manifest.number,
      why: readWhy(request.why),
      by_whom: by,
      at: now.getTime(),
      until_at: until,
    }
    await deps.store.transact(async tx => {
      await putPin(tx, row)
      const text = `kept at revision ${row.revision} until ${new Date(until).toISOString()}: ${row.why}`
      await recordHost(tx, deps.directory, now, 'pinned', host, text, by)
    })
    deps.onRolloutsChanged()
    return { pin: describePin(row) }
  }
}

export function unpinHost(deps: LockDeps) {
  return async (
    { host }: UnpinHostRequest,
    caller: Caller,
  ): Promise<MessageInitShape<typeof UnpinHostResponseSchema>> => {
    const now = deps.clock.now()
    await deps.store.transact(async tx => {
      if (!(await deletePin(tx, host))) throw notFound(`host: ${host} is not pinned`)
      await recordHost(tx, deps.directory, now, 'unpinned', host, 'no longer pinned', actorOf(caller))
    })
    deps.onRolloutsChanged()
    return {}
  }
}

export function listLocks({ store, clock }: Pick<LockDeps, 'store' | 'clock'>) {
  return async (_request: ListLocksRequest): Promise<MessageInitShape<typeof ListLocksResponseSchema>> => {
    const locks = await allLocks(store.db)
    const pins = await pinsAt(store.db, clock.now().getTime())
    return { locks: locks.map(describeLock), pins: pins.map(describePin) }
  }
}

function describeLock(row: HostLockRow): MessageInitShape<typeof HostLockSchema> {
  return { host: row.host, why: row.why, lockedBy: row.by_whom, at: timestampFromMs(row.at) }
}

function describePin(row: HostPinRow): MessageInitShape<typeof HostPinSchema> {
  return {
    host: row.host,
    revision: BigInt(row.revision),
    why: row.why,
    pinnedBy: row.by_whom,
    at: timestampFromMs(row.at),
    until: timestampFromMs(row.until_at),
  }
}

export function readWhy(why: string): string {
  const text = why.trim()
  if (text !== '' && text.length <= MAX_WHY_CHARS) return text
  throw invalid(`why: must be 1 to ${MAX_WHY_CHARS} characters; whoever finds it reads it`)
}

/** A lock on a host that does not exist would stop nothing, and nobody would know. */
function checkHost(directory: MachineDirectory, host: string): void {
  if (!isHostName(host)) throw invalid('host: wanted lower-case letters, digits and dashes, at most 63')
  if (directory.targets.hosts.has(host) || directory.claimants(host).length > 0) return
  throw notFound(`host: no host ${host} is known; \`muster machines\` lists them`)
}

/** The group whose rule makes the host's machine that host; empty: it is listed by name, or is no machine. */
function groupOf(directory: MachineDirectory, host: string): string {
  const machine = directory.machineOf(host)
  const assignment = machine === undefined ? undefined : directory.assignment(machine)
  return assignment?.kind === 'host' ? assignment.group : ''
}

async function recordHost(
  tx: Transaction<Database>,
  directory: MachineDirectory,
  at: Date,
  kind: string,
  host: string,
  reason: string,
  actor: string,
): Promise<void> {
  // What was decided a moment ago rests on how it was.
  await touchOpenRollouts(tx)
  const machine = directory.machineOf(host) ?? ''
  await recordEvent(tx, { at, class: kind, machine, host, reason, actor })
}
