import { ChainCheck } from '../../shared/audit/event-chain.ts'
import { escapeText } from '../../shared/escape.ts'
import type { MachineAuditHead, SilentMachine } from '../../shared/gen/muster/v1/audit_pb.ts'
import type { Event } from '../../shared/gen/muster/v1/event_pb.ts'
import { randomId } from '../../shared/ids.ts'
import { durationFromMs, millisOf } from '../../shared/time.ts'
import { type AuditReport, judgeAudit } from '../audit/judge-audit.ts'
import type { Cli } from '../cli.ts'
import { type Connection, withCoordinator } from '../connect.ts'
import { CliError } from '../exit-codes.ts'
import { type Format, toCsv, toJson, toYaml } from '../output/format.ts'
import { renderFields } from '../output/table.ts'

export interface VerifyAuditOptions {
  readonly deadline?: number | undefined
  readonly output?: Format | undefined
}

/** The fields of `-o json`. */
export const AUDIT_FIELDS = [
  'events',
  'oldest',
  'newest',
  'newestHash',
  'agree',
  'tellNothing',
  'silent',
  'problems',
] as const

const DEFAULT_DEADLINE_MS = 10_000
const PAGE = 1_000

/** Recomputes the whole record of events here, and compares its end with what every machine was shown of it. */
export async function verifyAudit(cli: Cli, options: VerifyAuditOptions): Promise<void> {
  const deadlineMs = options.deadline ?? DEFAULT_DEADLINE_MS
  await withCoordinator(cli, async connection => {
    const nonce = randomId()
    // Asked first: what happens meanwhile makes the record longer, never the machines' links newer than it.
    const { heads, silent } = await askMachines(connection, nonce, deadlineMs)
    const events = await fetchEvents(connection)
    const check = new ChainCheck()
    for (const event of events) check.add(chained(event))
    const report = judgeAudit(check, Number(events[0]?.id ?? 0), nonce, heads, silent)
    await show(cli, report, options.output)
    if (report.problems.length > 0) {
      throw new CliError(
        'error',
        'the record of events is not what it was: see SECURITY.md, and docs/troubleshooting.md',
      )
    }
    if (report.silent.length > 0)
      throw new CliError('partial', `${report.silent.length} machines did not answer`)
  })
}

async function askMachines({ client, call }: Connection, nonce: string, deadlineMs: number) {
  const heads: MachineAuditHead[] = []
  const silent: SilentMachine[] = []
  const request = { nonce, deadline: durationFromMs(deadlineMs) }
  for await (const { item } of client.getAuditHeads(request, { ...call, deadlineMs: deadlineMs + 30_000 })) {
    if (item.case === 'head') heads.push(item.value)
    if (item.case === 'silent') silent.push(item.value)
  }
  return { heads, silent }
}

const MEANING = `Somebody cut or rewrote the record, or the coordinator was restored from an older copy: then what machines were shown
after that copy is missing, and stays so, since they forget nothing. \`muster events\` tells of a restore.
`

/** All events that are kept, oldest first. */
async function fetchEvents({ client, call }: Connection): Promise<readonly Event[]> {
  const pages: Event[][] = []
  for (let before = 0n; ; ) {
    const { events } = await client.listEvents({ ref: '', limit: PAGE, after: 0n, before }, call)
    pages.push(events.toReversed())
    const oldest = events.at(-1)
    if (events.length < PAGE || !oldest) return pages.toReversed().flat()
    before = oldest.id
  }
}

function chained(event: Event) {
  const { class: kind, machine, host, reason, actor, previous, hash } = event
  return {
    id: Number(event.id),
    at: millisOf(event.at) ?? 0,
    class: kind,
    machine,
    host,
    reason,
    actor,
    previous,
    hash,
  }
}

async function show({ io }: Cli, report: AuditReport, format: Format = 'table'): Promise<void> {
  const record = { ...report, silent: report.silent.map(one => ({ ...one })) }
  const plain = {
    ...record,
    agree: [...record.agree],
    tellNothing: [...record.tellNothing],
    problems: [...record.problems],
  }
  switch (format) {
    case 'json':
      io.out(toJson(plain))
      break
    case 'yaml':
      io.out(await toYaml(plain))
      break
    case 'csv':
      io.out(toCsv([plain], AUDIT_FIELDS))
      break
    case 'table':
    case 'wide':
      io.out(
        renderFields(
          [
            [
              'Events',
              report.events === 0
                ? 'none'
                : `${report.oldest} to ${report.newest}, ${report.events} recomputed`,
            ],
            ['Newest', report.newestHash],
            ['Machines that agree', String(report.agree.length)],
            [
              'Tell nothing yet',
              report.tellNothing.length === 0 ? undefined : report.tellNothing.slice(0, 20).join(', '),
            ],
            [
              'Silent',
              report.silent.length === 0
                ? undefined
                : report.silent
                    .slice(0, 20)
                    .map(({ machine, reason }) => `${machine} (${reason})`)
                    .join(', '),
              'warn',
            ],
            [
              'Record',
              report.problems.length === 0 ? 'whole' : 'CHANGED',
              report.problems.length === 0 ? 'good' : 'bad',
            ],
          ],
          io.colour,
        ),
      )
      for (const problem of report.problems.slice(0, 50)) io.err(`${escapeText(problem)}\n`)
      if (report.problems.length > 0) io.err(MEANING)
  }
}
