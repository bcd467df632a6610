import type { Transaction } from 'kysely'
import type { Clock } from '../../shared/clock.ts'
import type { Hello } from '../../shared/gen/muster/v1/agent_pb.ts'
import { isDigest } from '../../shared/ids.ts'
import { commonProtocol, PROTOCOL_MAX, PROTOCOL_MIN } from '../../shared/version.ts'
import type { NodeClaims } from '../operations/node-claims.ts'
import { clearConditions, conditionsOf, setCondition } from '../store/conditions.ts'
import { recordClaim, recordEvent } from '../store/events.ts'
import {
  bumpMachine,
  changeMachine,
  findMachine,
  type MachineChange,
  type MachineRow,
} from '../store/machines.ts'
import type { Store } from '../store/store.ts'
import type { Database } from '../store/tables.ts'
import type { MachineDirectory } from './directory.ts'
import { heldBecause } from './entry.ts'
import { clockSkew, wentBack } from './judge-hello.ts'
import { refreshMachines } from './refresh.ts'

export interface SessionDeps {
  readonly store: Store
  readonly directory: MachineDirectory
  readonly clock: Clock
  /** Told what a machine says that may be newer than the store. */
  readonly nodes?: Pick<NodeClaims, 'sawHello'>
}

export type AdmittedSession =
  | {
      readonly kind: 'ok'
      /** The coordinator lacks the facts that belong to the digest in Hello. */
      readonly needFacts: boolean
      readonly protocol: number
      /** Why it gets no orders; undefined: nothing is in the way. */
      readonly held: string | undefined
    }
  | { readonly kind: 'refused'; readonly reason: string }

/** Takes down what a machine says at the door of the fleet listener, and whether it may come in. */
export async function admitSession(
  { store, directory, clock, nodes }: SessionDeps,
  machineId: string,
  hello: Hello,
  address: string,
): Promise<AdmittedSession> {
  const protocol = commonProtocol(hello.protocolMin, hello.protocolMax)
  if (protocol === undefined) {
    return refused(
      `protocol: this coordinator speaks ${PROTOCOL_MIN} to ${PROTOCOL_MAX}, the machine ${hello.protocolMin} to ${hello.protocolMax}`,
    )
  }
  const fault = checkHello(hello)
  if (fault) return refused(fault)
  if (!directory.isAllowed(machineId)) {
    return refused(`this machine is ${directory.get(machineId)?.state ?? 'not enrolled here'}`)
  }
  const now = clock.now()
  const written = await store.transact(tx => writeHello(tx, nodes, machineId, hello, address, now))
  if (written === undefined) return refused('this machine may not speak here')
  written.took?.()
  if (written.changed) await refreshMachines(store.db, directory, [machineId])
  const entry = directory.get(machineId)
  if (!entry || !directory.isAllowed(machineId)) return refused('this machine may not speak here')
  return {
    kind: 'ok',
    needFacts: hello.factsDigest === '' || hello.factsDigest !== entry.factsDigest,
    protocol,
    held: heldBecause(entry)?.reason,
  }
}

interface WrittenHello {
  /** The machine as it is in memory is not what it is in the store. */
  readonly changed: boolean
  /** To be called once it is committed. */
  readonly took: (() => void) | undefined
}

/** Undefined: the machine was sent away meanwhile. */
async function writeHello(
  tx: Transaction<Database>,
  nodes: SessionDeps['nodes'],
  machineId: string,
  hello: Hello,
  address: string,
  now: Date,
): Promise<WrittenHello | undefined> {
  const row = await findMachine(tx, machineId)
  if (!row || (row.state !== 'enrolled' && row.state !== 'active')) return undefined
  // Against what is on record, before that follows what the machine says.
  const took = await nodes?.sawHello(tx, row, hello)
  const said = { ...saidColumns(hello, address), ...acknowledgedColumn(row, hello) }
  const isFirst = row.state === 'enrolled'
  const change = differing(row, isFirst ? { ...said, state: 'active' } : said)
  const back = wentBack(row, hello)
  const conditionsChanged = await writeClock(tx, machineId, clockSkew(hello, now), now)
  if (back) {
    const reason = `${back}: a disk was restored, or another machine has its state; release it after a look`
    await setCondition(tx, { machine: machineId, class: 'went-back', reason, since: now.getTime() })
    await recordClaim(tx, {
      at: now,
      class: 'went-back',
      machine: machineId,
      reason: back,
      actor: 'coordinator',
    })
  }
  if (isFirst) {
    const reason = `seen over mutual TLS from ${address}`
    await recordEvent(tx, { at: now, class: 'active', machine: machineId, reason, actor: 'coordinator' })
  }
  if (change) await changeMachine(tx, row, { ...change, last_seen: now.getTime() })
  else if (back || conditionsChanged) await bumpMachine(tx, machineId)
  return { changed: change !== undefined || back !== undefined || conditionsChanged, took }
}

async function writeClock(
  tx: Transaction<Database>,
  machine: string,
  skew: string | undefined,
  now: Date,
): Promise<boolean> {
  const before = (await conditionsOf(tx, machine)).find(condition => condition.class === 'clock')
  if (before?.reason === skew) return false
  if (skew === undefined) await clearConditions(tx, machine, ['clock'])
  else await setCondition(tx, { machine, class: 'clock', reason: skew, since: now.getTime() })
  return true
}

function saidColumns(hello: Hello, address: string) {
  return {
    address,
    agent_version: hello.version,
    simulated: hello.simulated ? 1 : 0,
    boot_id: hello.bootId,
    boot_count: Number(hello.bootCount),
    journal_sequence: Number(hello.journalSequence),
    highest_revision: Number(hello.highestRevision),
    highest_digest: hello.highestDigest,
    // A machine that is told that it is no host may forget which it was.
    ...(hello.host !== '' && { acting_host: hello.host }),
    allowed: JSON.stringify(hello.allowed),
    ...(hello.trust && {
      trust_number: Number(hello.trust.number),
      trust_digest: hello.trust.digest,
      trust_first_use: hello.trust.firstUse ? 1 : 0,
    }),
  } satisfies MachineChange
}

/** How far its journal was acknowledged to it never falls, and once it was judged it is known. */
function acknowledgedColumn({ acknowledged: known }: MachineRow, hello: Hello): MachineChange {
  const said = Number(hello.acknowledged)
  return said > (known ?? 0) ? { acknowledged: said } : {}
}

/** A machine that connects again as it was costs no write. */
function differing(row: MachineRow, said: MachineChange): MachineChange | undefined {
  const now: Record<string, unknown> = { ...row }
  return Object.entries(said).some(([column, value]) => now[column] !== value) ? said : undefined
}

/** As many as an agent takes on. */
const MAX_UNTOLD = 64
const MAX_COUNT = BigInt(Number.MAX_SAFE_INTEGER)

function checkHello(hello: Hello): string | undefined {
  if (hello.version.length > 64) return 'hello.version: longer than 64 characters'
  if (hello.bootId.length > 64) return 'hello.boot_id: longer than 64 characters'
  if (hello.host.length > 63) return 'hello.host: longer than 63 characters'
  if (hello.allowed.length > 32 || hello.allowed.some(verb => verb.length > 32)) {
    return 'hello.allowed: more than 32 verbs, or one longer than 32 characters'
  }
  if (hello.highestDigest !== '' && !isDigest(hello.highestDigest)) {
    return 'hello.highest_digest: not a SHA-256 in lower-case hex'
  }
  if (hello.trust && hello.trust.digest !== '' && !isDigest(hello.trust.digest)) {
    return 'hello.trust.digest: not a SHA-256 in lower-case hex'
  }
  if (hello.untold.length > MAX_UNTOLD || hello.untold.some(({ operationId }) => operationId.length > 64)) {
    return `hello.untold: more than ${MAX_UNTOLD} operations, or an id longer than 64 characters`
  }
  const counts = [
    ...[hello.bootCount, hello.journalSequence, hello.highestRevision, hello.trust?.number],
    ...[hello.acknowledged, hello.auditHead?.id],
  ]
  for (const count of counts) {
    if (count !== undefined && count > MAX_COUNT) return 'hello: a count is larger than any that can be'
  }
  return undefined
}

function refused(reason: string): AdmittedSession {
  return { kind: 'refused', reason }
}
