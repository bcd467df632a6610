import type { Transaction } from 'kysely'
import type { Clock } from '../../shared/clock.ts'
import type { Hello } from '../../shared/gen/muster/v1/agent_pb.ts'
import { isDigest } from '../../shared/ids.ts'
import { commonProtocol, PROTOCOL_MAX, PROTOCOL_MIN } from '../../shared/version.ts'
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
  { store, directory, clock }: SessionDeps,
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
  const changed = await store.transact(tx => writeHello(tx, machineId, hello, address, now))
  if (changed === undefined) return refused('this machine may not speak here')
  if (changed) await refreshMachines(store.db, directory, [machineId])
  const entry = directory.get(machineId)
  if (!entry || !directory.isAllowed(machineId)) return refused('this machine may not speak here')
  return {
    kind: 'ok',
    needFacts: hello.factsDigest === '' || hello.factsDigest !== entry.factsDigest,
    protocol,
    held: heldBecause(entry)?.reason,
  }
}

/** Says whether anything was written; undefined: the machine was sent away meanwhile. */
async function writeHello(
  tx: Transaction<Database>,
  machineId: string,
  hello: Hello,
  address: string,
  now: Date,
): Promise<boolean | undefined> {
  const row = await findMachine(tx, machineId)
  if (!row || (row.state !== 'enrolled' && row.state !== 'active')) return undefined
  const said = saidColumns(hello, address)
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
  return change !== undefined || back !== undefined || conditionsChanged
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
    acting_host: hello.host,
    allowed: JSON.stringify(hello.allowed),
    ...(hello.trust && {
      trust_number: Number(hello.trust.number),
      trust_digest: hello.trust.digest,
      trust_first_use: hello.trust.firstUse ? 1 : 0,
    }),
  } satisfies MachineChange
}

/** A machine that connects again as it was costs no write. */
function differing(row: MachineRow, said: MachineChange): MachineChange | undefined {
  const now: Record<string, unknown> = { ...row }
  return Object.entries(said).some(([column, value]) => now[column] !== value) ? said : undefined
}

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
  for (const count of [hello.bootCount, hello.journalSequence, hello.highestRevision, hello.trust?.number]) {
    if (count !== undefined && count > MAX_COUNT) return 'hello: a count is larger than any that can be'
  }
  return undefined
}

function refused(reason: string): AdmittedSession {
  return { kind: 'refused', reason }
}
