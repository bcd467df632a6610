import { stat } from 'node:fs/promises'
import { escapeText } from '../../shared/escape.ts'
import type { Evidence } from '../../shared/gen/muster/v1/evidence_pb.ts'
import { isDigest } from '../../shared/ids.ts'
import { outcomeName } from '../../shared/operation-names.ts'
import { instantOf } from '../../shared/time.ts'
import { readTrustSet } from '../../shared/trust/trust-set.ts'
import type { Cli } from '../cli.ts'
import { withCoordinator } from '../connect.ts'
import { encodeEvidence, fetchEvidence, readEvidence } from '../evidence/evidence-file.ts'
import { type JudgedOutcome, type TrustRoot, verifyEvidence } from '../evidence/verify-evidence.ts'
import { CliError } from '../exit-codes.ts'
import { readFleet } from '../fleets/fleet-folder.ts'
import type { Format } from '../output/format.ts'
import { shortId } from '../output/machine-listing.ts'
import type { PlainRecord } from '../output/plain.ts'
import { type Listing, showList } from '../output/show-list.ts'

export interface VerifyOptions {
  readonly trustPin?: string | undefined
  readonly limit?: number | undefined
  readonly output?: Format | undefined
}

export const VERIFY_FIELDS = [
  'machine',
  'host',
  'operationId',
  'revision',
  'outcome',
  'ended',
  'verified',
  'fault',
  'reason',
] as const

/** Writes what shows offline what machines did. */
export async function evidence(
  cli: Cli,
  refs: readonly string[],
  { limit }: { readonly limit?: number | undefined },
): Promise<void> {
  await withCoordinator(cli, async connection => {
    const found = await fetchEvidence(connection, refs, limit ?? 0)
    if (found.outcomes.length === 0)
      throw new CliError('notFound', 'no signed outcome is kept of any of them')
    cli.io.out(encodeEvidence(found))
  })
}

/** Checks evidence against what this operator trusts: of a file, without any coordinator, or of hosts as one has it. */
export async function verify(cli: Cli, what: readonly string[], options: VerifyOptions): Promise<void> {
  const { trustPin, limit, output } = options
  if (trustPin !== undefined && !isDigest(trustPin)) {
    throw new CliError('usage', '--trust-pin: must be 64 lower-case hex characters')
  }
  const [only] = what
  const file = what.length === 1 && only !== undefined && (await isFile(only)) ? only : undefined
  const found =
    file === undefined
      ? await withCoordinator(cli, connection => fetchEvidence(connection, what, limit ?? 0))
      : await readEvidence(file)
  const judged = verifyEvidence(found, await rootOf(cli, found, trustPin))
  for (const problem of judged.problems) cli.io.err(`${escapeText(problem)}\n`)
  const bad = judged.outcomes.filter(({ fault }) => fault !== '').length
  if (judged.outcomes.length > 0) await showList(cli.io, judged.outcomes, listing, output)
  if (judged.problems.length > 0 || bad > 0) {
    throw new CliError(
      'error',
      `verify: ${bad} of ${judged.outcomes.length} outcomes do not hold; trust none of those`,
    )
  }
  if (judged.outcomes.length === 0) throw new CliError('notFound', 'verify: there is no signed outcome in it')
  cli.io.err(
    `${judged.outcomes.length} outcomes of ${new Set(judged.outcomes.map(({ machine }) => machine)).size} machines and ${judged.revisions} revisions: all signatures are good\n`,
  )
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isFile()
  } catch {
    return false // then it is the name of a host, and if it is none of that either the coordinator says so
  }
}

/** What is trusted beforehand. Evidence never vouches for itself. */
async function rootOf(cli: Cli, found: Evidence, trustPin: string | undefined): Promise<TrustRoot> {
  if (trustPin !== undefined) return { kind: 'pin', pin: trustPin }
  const [first] = found.trust?.envelopes ?? []
  if (!first) {
    throw new CliError(
      'refused',
      'verify: the evidence holds no trust set, so there is nothing to trust it by: the fleet has none yet',
    )
  }
  const read = readTrustSet(first.payload)
  if (read.kind === 'refused') throw new CliError('error', `verify: the evidence: ${read.reason}`)
  const { fleetId } = read.trust.set
  const known = await readFleet(cli.settings.configHome, fleetId)
  if (known) return { kind: 'known', chain: known.chain }
  throw new CliError(
    'refused',
    `verify: nothing is known here of fleet ${fleetId}, and evidence does not vouch for itself: say --trust-pin PIN`,
  )
}

function recordOf({ machine, host, operationId, statement, fault }: JudgedOutcome): PlainRecord {
  const outcome = statement?.outcome
  return {
    machine,
    host,
    operationId,
    revision: statement ? Number(statement.revision) : null,
    outcome: outcome ? outcomeName(outcome.class).replaceAll(' ', '-') : null,
    ended: instantOf(outcome?.ended)?.toISOString() ?? null,
    verified: fault === '',
    fault,
    reason: outcome?.reason ?? null,
  }
}

const listing: Listing<JudgedOutcome> = {
  fields: VERIFY_FIELDS,
  record: recordOf,
  empty: 'no outcomes',
  columns: [
    { title: 'HOST', wraps: true, text: ({ host, machine }) => host || shortId(machine) },
    { title: 'MACHINE', wide: true, text: ({ machine }) => shortId(machine) },
    { title: 'OPERATION', text: ({ operationId }) => operationId },
    {
      title: 'REVISION',
      text: ({ statement }) => (statement && statement.revision > 0n ? String(statement.revision) : ''),
    },
    {
      title: 'OUTCOME',
      wraps: true,
      text: ({ statement }) => (statement?.outcome ? outcomeName(statement.outcome.class) : ''),
    },
    {
      title: 'SIGNED',
      wraps: true,
      text: ({ fault }) => (fault === '' ? 'good' : `NOT GOOD: ${fault}`),
      style: ({ fault }) => (fault === '' ? 'good' : 'bad'),
    },
    { title: 'REASON', wraps: true, text: ({ statement }) => statement?.outcome?.reason ?? '' },
  ],
}
