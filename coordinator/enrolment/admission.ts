import type { Assignment } from './assign.ts'

/** What the store knows of the key that asks. */
export interface AskingMachine {
  readonly state: 'pending' | 'enrolled' | 'active' | 'rejected' | 'evicted' | 'banned'
  readonly evictedAtMs: number | undefined
}

/** The token that was shown, as the store knows it. A wrong secret is an unknown token: nobody learns which ids exist. */
export type ShownToken =
  | { readonly kind: 'none' }
  | { readonly kind: 'unknown' }
  | {
      readonly kind: 'known'
      readonly id: string
      readonly createdMs: number
      readonly expiresMs: number
      readonly uses: number
      readonly used: number
      readonly revoked: boolean
      readonly labels: Readonly<Record<string, string>>
      readonly host: string
      /** The machine that `host` is bound to by hand already, if it is another one. */
      readonly hostTakenBy: string | undefined
    }

export interface AdmissionInput {
  readonly machineId: string
  readonly machine: AskingMachine | undefined
  readonly token: ShownToken
  /** Which host the machine would be by its claims. */
  readonly assignment: Assignment
  /** Whether the target of that host or group is a server's. */
  readonly assignmentIsServer: boolean
  /** Another live machine has that host already. */
  readonly hostTakenBy: string | undefined
  /** A clone or a collision that no person has looked at. */
  readonly dispute: string | undefined
  /** Live machines that the rule of this assignment let in; 0 where no rule assigns. */
  readonly admittedByRule: number
  readonly maxByRule: number
  readonly pending: number
  readonly maxPending: number
}

export type Admission =
  | {
      readonly kind: 'admit'
      /** "known": it was let in before and only needs a certificate. */
      readonly by: 'known' | 'token' | 'rule'
      /** For the record: "token ID" or "rule GROUP"; empty for a known machine. */
      readonly admittedBy: string
      readonly labels: Readonly<Record<string, string>>
      /** Host to bind by the token's word; empty: none. */
      readonly host: string
    }
  | { readonly kind: 'wait'; readonly reason: string; readonly command: string }
  | Refuse

export interface Refuse {
  readonly kind: 'refuse'
  readonly class: RefusalClass
  readonly reason: string
  readonly retry: boolean
  readonly retryAfterSeconds: number
  /** What an operator types so that asking again may succeed; empty: no command does that. */
  readonly command: string
}

export type RefusalClass =
  | 'token-unknown'
  | 'token-expired'
  | 'token-used-up'
  | 'token-revoked'
  | 'proof'
  | 'nonce'
  | 'replay'
  | 'banned'
  | 'evicted'
  | 'rejected'
  | 'conflict'
  | 'full'
  | 'malformed'

const SLOW_RETRY_SECONDS = 300
const RETRY_SECONDS = 60

/** Whether a machine that proved its key is let in, waits, or is turned away, and why. */
export function decideAdmission(input: AdmissionInput, nowMs: number): Admission {
  const { machine, token, machineId } = input
  if (machine?.state === 'banned') return refuse('banned', 'this machine was banned')
  if (machine?.state === 'evicted' && !isLaterToken(token, machine.evictedAtMs, nowMs)) {
    return refuse(
      'evicted',
      'this machine was evicted; it returns by `muster approve` or a token made after that',
      approveCommand(machineId),
    )
  }
  if (machine?.state === 'rejected') {
    const command = approveCommand(machineId)
    return retryLater('rejected', 'an operator turned this machine away', SLOW_RETRY_SECONDS, command)
  }
  if (input.dispute !== undefined) {
    const command = `muster release ${machineId.slice(0, 12)}`
    return retryLater(
      'conflict',
      `${input.dispute}; an operator decides with \`${command}\` or \`muster evict\``,
      RETRY_SECONDS,
      command,
    )
  }
  if (machine?.state === 'enrolled' || machine?.state === 'active') {
    return { kind: 'admit', by: 'known', admittedBy: '', labels: {}, host: '' }
  }
  if (token.kind !== 'none') return judgeToken(token, nowMs)
  return judgeRule(input)
}

function isLaterToken(token: ShownToken, evictedAtMs: number | undefined, nowMs: number): boolean {
  if (token.kind !== 'known' || evictedAtMs === undefined || token.createdMs <= evictedAtMs) return false
  return judgeToken(token, nowMs).kind === 'admit'
}

/** What a token that was shown is worth. Whoever shows a bad one is told so, and does not fall back to waiting. */
export function judgeToken(token: Exclude<ShownToken, { kind: 'none' }>, nowMs: number): Admission {
  if (token.kind === 'unknown') return refuse('token-unknown', 'there is no such token')
  if (token.revoked) return refuse('token-revoked', `token ${token.id} was revoked`)
  if (token.expiresMs <= nowMs) {
    return refuse('token-expired', `token ${token.id} expired at ${new Date(token.expiresMs).toISOString()}`)
  }
  if (token.used >= token.uses) {
    const uses = token.uses === 1 ? 'its one use is' : `all its ${token.uses} uses are`
    return refuse('token-used-up', `token ${token.id}: ${uses} taken`)
  }
  if (token.hostTakenBy !== undefined) {
    return retryLater(
      'conflict',
      `token ${token.id} is for host ${token.host}, which is bound to ${token.hostTakenBy.slice(0, 12)}`,
      RETRY_SECONDS,
      `muster unbind ${token.host}`,
    )
  }
  return {
    kind: 'admit',
    by: 'token',
    admittedBy: `token ${token.id}`,
    labels: token.labels,
    host: token.host,
  }
}

/** What stands at a machine that the rule of this group let in. */
export function ruleName(group: string): string {
  return `rule ${group}`
}

/** Facts are a stranger's claims: they open a group that the signed fleet file opens, and nothing that is a server. */
function judgeRule(input: AdmissionInput): Admission {
  const { assignment, machine, machineId, pending, maxPending } = input
  if (assignment.kind === 'host' && assignment.boundBy === 'rule') {
    if (input.assignmentIsServer) {
      return wait(input, `the rule of group ${assignment.group} holds, but a rule never admits a server`)
    }
    if (input.hostTakenBy !== undefined) {
      return wait(
        input,
        `it would be host ${assignment.host}, which is machine ${input.hostTakenBy.slice(0, 12)} already`,
      )
    }
    if (input.admittedByRule >= input.maxByRule) {
      return wait(
        input,
        `the rule of group ${assignment.group} has let in ${input.admittedByRule} machines, as many as a rule may (machinesPerRule)`,
      )
    }
    return {
      kind: 'admit',
      by: 'rule',
      admittedBy: ruleName(assignment.group),
      labels: {},
      host: '',
    }
  }
  if (machine === undefined && pending >= maxPending) {
    return retryLater(
      'full',
      `${pending} machines wait already; an operator approves or rejects some, or gives ${machineId.slice(0, 12)} a token`,
      SLOW_RETRY_SECONDS,
      PENDING_COMMAND,
    )
  }
  switch (assignment.kind) {
    case 'host':
      return wait(input, `it would be host ${assignment.host}; without a token an operator lets it in`)
    case 'none':
      return wait(input, `${assignment.reason}; without a token an operator lets it in`)
    case 'conflict':
      return wait(input, assignment.reason)
  }
}

function wait({ machineId, machine, pending, maxPending }: AdmissionInput, reason: string): Admission {
  if (machine === undefined && pending >= maxPending) {
    return retryLater('full', `${pending} machines wait already`, SLOW_RETRY_SECONDS, PENDING_COMMAND)
  }
  return { kind: 'wait', reason, command: approveCommand(machineId) }
}

/** Shows who waits: to approve or reject some makes room. */
const PENDING_COMMAND = 'muster pending'

const approveCommand = (machineId: string) => `muster approve ${machineId.slice(0, 12)}`

export function refuse(kind: RefusalClass, reason: string, command = ''): Refuse {
  return { kind: 'refuse', class: kind, reason, retry: false, retryAfterSeconds: 0, command }
}

export function retryLater(
  kind: RefusalClass,
  reason: string,
  retryAfterSeconds: number,
  command = '',
): Refuse {
  return { kind: 'refuse', class: kind, reason, retry: true, retryAfterSeconds, command }
}
