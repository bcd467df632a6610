import type { Transaction } from 'kysely'
import { precondition } from '../../shared/rpc/rpc-error.ts'
import type { PreparedCertificate } from '../../shared/x509/issue-certificate.ts'
import type { Authorities } from '../authority/authorities.ts'
import type { MachineDirectory } from '../machines/directory.ts'
import { disputedBecause, entryOf, isLive, isSentAway, readState } from '../machines/entry.ts'
import { identityOfFacts } from '../machines/identity.ts'
import { refreshMachines } from '../machines/refresh.ts'
import { insertBinding } from '../store/bindings.ts'
import { type ConditionRow, conditionsOf } from '../store/conditions.ts'
import { recordClaim, recordEvent } from '../store/events.ts'
import type { FactsLimits } from '../store/facts.ts'
import { readLabels } from '../store/json.ts'
import {
  countAdmittedBy,
  countPending,
  findMachine,
  type MachineChange,
  type MachineRow,
  newMachineRow,
} from '../store/machines.ts'
import type { Store } from '../store/store.ts'
import type { Database } from '../store/tables.ts'
import { consumeToken } from '../store/tokens.ts'
import {
  type Admission,
  type AdmissionInput,
  decideAdmission,
  judgeToken,
  type Refuse,
  retryLater,
  ruleName,
} from './admission.ts'
import { isServer } from './assign.ts'
import { aboutClaimant, findConflicts, recordFindings } from './find-conflicts.ts'
import type { IdentityFinding } from './judge-identity.ts'
import type { Proved } from './prove.ts'
import { readShownToken } from './shown-token.ts'
import { type Asked, seenColumns, withFindings, writeFacts, writeRow } from './write-asking.ts'

export interface AdmitDeps {
  readonly store: Store
  readonly directory: MachineDirectory
  readonly authorities: Pick<Authorities, 'prepareMachine'>
  readonly factsLimits: FactsLimits
  readonly maxPending: number
  /** Machines that the rule of one group lets in. */
  readonly maxByRule: number
}

export type Admitted =
  | {
      readonly kind: 'certificate'
      readonly admittedBy: string
      readonly chainPem: string
      readonly notAfter: Date
    }
  | Exclude<Admission, { kind: 'admit' }>

interface ToCertify {
  readonly kind: 'certify'
  readonly admittedBy: string
  readonly certificate: PreparedCertificate
}

/** What the transaction found and did. */
interface Step {
  readonly outcome: Exclude<Admitted, { kind: 'certificate' }> | ToCertify
  /** The machine as the store has it; undefined: nothing was written. */
  readonly row?: Omit<MachineRow, 'public_key'>
  readonly conditions?: readonly ConditionRow[]
  readonly others?: readonly string[]
  readonly bound?: string
}

/** Times that a waiting machine was heard of are written once in this while. */
const TOUCH_MS = 60_000
/** Sets of facts that are kept of a machine nobody let in: strangers could fill the disk with their histories. */
const STRANGERS_KEEP = 2

/**
 * Lets a machine in, or not, in one transaction: the use of a token is taken, the machine written and the certificate
 * made up, or none of it. It is signed after the commit, so no certificate exists that the store knows nothing of; a
 * machine that a kill in between leaves without one asks again, and is known.
 */
export async function admitMachine(
  deps: AdmitDeps,
  proved: Proved,
  tokenSecret: string,
  address: string,
  now: Date,
): Promise<Admitted> {
  const { directory, store } = deps
  const { machineId } = proved
  const identity = identityOfFacts(proved.facts.facts)
  const assignment = directory.judge({ id: machineId, identity }, proved.facts.facts)
  const request = { ...proved, tokenSecret, address, now, identity, assignment }
  const decide = (tx: Transaction<Database>) => decideAndWrite(deps, tx, request)
  const step = await (isDecidedAlone(deps, request)
    ? store.transactTogether(machineId, decide)
    : store.transact(decide))
  if (step.bound !== undefined) directory.bind(machineId, step.bound)
  if (step.row) directory.put(entryOf(step.row, step.conditions ?? []), proved.facts.facts)
  if (step.others) await refreshMachines(store.db, directory, step.others)
  const { outcome } = step
  if (outcome.kind !== 'certify') return outcome
  const { chainPem, notAfter } = await outcome.certificate.sign()
  return { kind: 'certificate', admittedBy: outcome.admittedBy, chainPem, notAfter }
}

/**
 * Whether rows alone say if it is let in, so that its commit may be shared: it was before, or has a token for no certain
 * host. For everybody else it counts what others are, which is known in memory once they are committed.
 */
function isDecidedAlone({ directory }: AdmitDeps, { machineId, token, now }: Asked): boolean {
  if (token.kind === 'none') return directory.isAllowed(machineId)
  return token.kind === 'known' && token.host === '' && judgeToken(token, now.getTime()).kind === 'admit'
}

async function decideAndWrite(deps: AdmitDeps, tx: Transaction<Database>, asked: Asked): Promise<Step> {
  const { machineId, facts, identity, now } = asked
  const row = await findMachine(tx, machineId)
  const conditions = row ? await conditionsOf(tx, machineId) : []
  // Equal facts were judged when they came; who came later was judged against them, unless it had been sent away by then.
  const isJudged = row?.facts_digest === facts.digest && !isSentAway(readState(row.state))
  const findings = isJudged
    ? []
    : await findConflicts(tx, { machineId, claimed: identity, row, vouched: isVouched(asked, row) })
  const dispute = disputedBecause([...conditions, ...aboutClaimant(findings)])
  const { assignment } = asked
  const byRule = assignment.kind === 'host' && assignment.boundBy === 'rule' && asked.token.kind === 'none'
  const admittedByRule = byRule ? await countAdmittedBy(tx, ruleName(assignment.group)) : 0
  const input = admissionInput(deps, asked, row, { dispute: dispute?.reason, admittedByRule })
  const admission = decideAdmission(input, now.getTime())
  switch (admission.kind) {
    case 'admit':
      return await writeAdmission(deps, tx, asked, { row, conditions, findings, admission })
    case 'wait':
      return await writeSeen(deps, tx, asked, { row, conditions, findings, outcome: admission })
    case 'refuse': {
      const isShown = admission.class === 'conflict' && aboutClaimant(findings).length > 0
      // Of the rows: what this very commit adds is not in memory yet.
      const hasRoom = async () => row !== undefined || (await countPending(tx)) < input.maxPending
      if (!isShown) return { outcome: admission }
      // Of a machine that is not kept no operator can decide anything.
      if (!(await hasRoom())) return { outcome: { ...admission, command: '' } }
      return await writeSeen(deps, tx, asked, { row, conditions, findings, outcome: admission })
    }
  }
}

/** Somebody stands for it: it was let in before, or was given a token that still counts. */
function isVouched({ token, now }: Asked, row: MachineRow | undefined): boolean {
  if (row && isLive(readState(row.state))) return true
  return token.kind !== 'none' && judgeToken(token, now.getTime()).kind === 'admit'
}

function admissionInput(
  { directory, maxPending, maxByRule }: AdmitDeps,
  { machineId, token, assignment }: Asked,
  row: MachineRow | undefined,
  known: Pick<AdmissionInput, 'dispute' | 'admittedByRule'>,
): AdmissionInput {
  const { targets } = directory
  const host = assignment.kind === 'host' ? assignment : undefined
  return {
    machineId,
    machine: row && { state: readState(row.state), evictedAtMs: row.evicted_at ?? undefined },
    token,
    assignment,
    assignmentIsServer:
      host !== undefined &&
      isServer(host.group === '' ? targets.hosts.get(host.host) : targets.groups.get(host.group)),
    hostTakenBy: host && directory.claimants(host.host).find(other => other !== machineId),
    ...known,
    maxByRule,
    pending: directory.count('pending'),
    maxPending,
  }
}

interface Found {
  readonly row: MachineRow | undefined
  readonly conditions: readonly ConditionRow[]
  readonly findings: readonly IdentityFinding[]
}

async function writeAdmission(
  { authorities, factsLimits }: AdmitDeps,
  tx: Transaction<Database>,
  asked: Asked,
  {
    row,
    conditions,
    findings,
    admission,
  }: Found & { readonly admission: Extract<Admission, { kind: 'admit' }> },
): Promise<Step> {
  const { machineId, now, token } = asked
  const nowMs = now.getTime()
  if (admission.by === 'token' && token.kind === 'known') {
    const taken = await consumeToken(tx, token.id, machineId, nowMs)
    if (!taken) return { outcome: await judgeAnew(tx, asked) }
  }
  // Inside the transaction: a certificate that cannot be made takes no use of the token.
  const issued = authorities.prepareMachine(asked.publicKey)
  if (!issued.ok) throw precondition(`no certificate could be made: ${issued.reason}`)
  const { notAfter } = issued.certificate
  const isKnown = admission.by === 'known'
  const before =
    row ??
    newMachineRow({
      id: machineId,
      publicKey: asked.publicKey,
      state: 'enrolled',
      nowMs,
      address: asked.address,
    })
  const change: MachineChange = {
    ...seenColumns(asked, row, findings),
    certificate_not_after: notAfter.getTime(),
    certificate_issuer: issued.issuer,
    ...(isKnown
      ? {}
      : {
          state: 'enrolled',
          admitted_by: admission.admittedBy,
          admitted_at: nowMs,
          evicted_at: null,
          labels: JSON.stringify({ ...readLabels(before.labels), ...admission.labels }),
        }),
  }
  const written = await writeRow(tx, row, before, change)
  await writeFacts(tx, asked, row, factsLimits)
  if (admission.host !== '') {
    const by = { host: admission.host, machine: machineId, bound_by: admission.admittedBy, at: nowMs }
    await insertBinding(tx, by)
  }
  const others = await recordFindings(tx, machineId, findings, now)
  await (isKnown ? recordClaim : recordEvent)(tx, {
    at: now,
    class: isKnown ? 'returned' : 'enrolled',
    machine: machineId,
    host: admission.host,
    reason: isKnown ? 'asked for a new certificate with its old key' : `let in by ${admission.admittedBy}`,
    actor: 'coordinator',
  })
  return {
    outcome: { kind: 'certify', admittedBy: admission.admittedBy, certificate: issued.certificate },
    row: written,
    conditions: withFindings(conditions, machineId, findings, nowMs),
    others,
    ...(admission.host === '' ? {} : { bound: admission.host }),
  }
}

/** Somebody took the last use of the token, or revoked it, since it was read. */
async function judgeAnew(tx: Transaction<Database>, asked: Asked): Promise<Refuse> {
  const shown = asked.token.kind === 'known' ? asked.token.id : ''
  const token = await readShownToken(tx, { tokenId: shown, tokenSecret: asked.tokenSecret }, asked.machineId)
  if (token.kind !== 'none') {
    const judged = judgeToken(token, asked.now.getTime())
    if (judged.kind === 'refuse') return judged
  }
  return retryLater('token-used-up', `token ${shown}: changed meanwhile`, 1)
}

async function writeSeen(
  { factsLimits }: AdmitDeps,
  tx: Transaction<Database>,
  asked: Asked,
  { row, conditions, findings, outcome }: Found & { readonly outcome: Exclude<Admission, { kind: 'admit' }> },
): Promise<Step> {
  const { machineId, now, address, facts } = asked
  const nowMs = now.getTime()
  const isNews = row === undefined || row.facts_digest !== facts.digest || findings.length > 0
  if (!isNews && row.address === address && nowMs - row.last_seen < TOUCH_MS) return { outcome }
  const before =
    row ?? newMachineRow({ id: machineId, publicKey: asked.publicKey, state: 'pending', nowMs, address })
  const written = await writeRow(tx, row, before, seenColumns(asked, row, findings))
  const keep = Math.min(STRANGERS_KEEP, factsLimits.keep)
  await writeFacts(tx, asked, row, isLive(readState(before.state)) ? factsLimits : { ...factsLimits, keep })
  const others = await recordFindings(tx, machineId, findings, now)
  if (!row && outcome.kind === 'wait') {
    await recordEvent(tx, {
      at: now,
      class: 'pending',
      machine: machineId,
      reason: outcome.reason,
      actor: 'coordinator',
    })
  }
  return { outcome, row: written, conditions: withFindings(conditions, machineId, findings, nowMs), others }
}
