import type { ChainCheck } from '../../shared/audit/event-chain.ts'
import { verifyHead } from '../../shared/audit/signed-head.ts'
import type { MachineAuditHead, SilentMachine } from '../../shared/gen/muster/v1/audit_pb.ts'

export interface AuditReport {
  /** Events that were recomputed. */
  readonly events: number
  readonly oldest: number
  readonly newest: number
  readonly newestHash: string
  /** Machines whose links are all in the record, as far as it goes back. */
  readonly agree: readonly string[]
  /** Machines whose link is older than what is kept, or who were shown none yet: they say nothing. */
  readonly tellNothing: readonly string[]
  readonly silent: readonly { readonly machine: string; readonly reason: string }[]
  /** What shows that the record was changed, cut or rewritten, or that an answer is false; empty: nothing does. */
  readonly problems: readonly string[]
}

/** Compares a recomputed record with what machines hold of it. Nothing that the coordinator says of itself is believed. */
export function judgeAudit(
  check: ChainCheck,
  oldest: number,
  nonce: string,
  heads: readonly MachineAuditHead[],
  silent: readonly SilentMachine[],
): AuditReport {
  const problems = [...check.problems]
  const agree: string[] = []
  const tellNothing: string[] = []
  for (const { machine, host, signed } of heads) {
    const name = host || machine
    const verdict = signed
      ? verifyHead(signed, { machine, nonce })
      : ({ kind: 'refused', reason: 'is missing' } as const)
    if (verdict.kind === 'refused') {
      problems.push(`${name}: what it signed ${verdict.reason}: somebody answers in its place`)
      continue
    }
    const compared = verdict.heads.map(head => check.compare(head))
    const wrong = compared.find(({ kind }) => kind === 'differs' || kind === 'missing')
    if (wrong && 'reason' in wrong) problems.push(`${name} ${wrong.reason}`)
    else if (compared.some(({ kind }) => kind === 'agrees')) agree.push(name)
    else tellNothing.push(name)
  }
  return {
    events: check.count,
    oldest,
    newest: check.head?.id ?? 0,
    newestHash: check.head?.hash ?? '',
    agree: agree.toSorted(),
    tellNothing: tellNothing.toSorted(),
    silent: silent
      .map(({ machine, host, reason }) => ({ machine: host || machine, reason }))
      .toSorted((a, b) => (a.machine < b.machine ? -1 : 1)),
    problems,
  }
}
