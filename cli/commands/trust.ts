import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { hasCode } from '../../shared/errors.ts'
import { escapeText } from '../../shared/escape.ts'
import type { GetFleetTrustResponse } from '../../shared/gen/muster/v1/fleet_trust_pb.ts'
import { millisOf } from '../../shared/time.ts'
import type { KnownTrust } from '../../shared/trust/trust-set.ts'
import { walkTrust } from '../../shared/trust/walk-trust.ts'
import type { Cli } from '../cli.ts'
import { withCoordinator } from '../connect.ts'
import { CliError } from '../exit-codes.ts'
import {
  decodeChain,
  FLEET_FILES,
  fleetFolder,
  listFleets,
  readFleet,
  saveTrust,
} from '../fleets/fleet-folder.ts'
import { setsOf } from '../fleets/synchronise-trust.ts'
import { paint } from '../output/colour.ts'
import type { Format } from '../output/format.ts'
import type { PlainRecord } from '../output/plain.ts'
import { showOne } from '../output/show-list.ts'
import { showResult } from '../output/show-result.ts'
import { renderFields } from '../output/table.ts'

/** Shows the newest trust set, how it came about, and the authorities of the coordinator. */
export async function showTrust(
  cli: Cli,
  { output }: { readonly output?: Format | undefined },
): Promise<void> {
  await withCoordinator(cli, async ({ client, call }) => {
    const answer = await client.getFleetTrust({}, call)
    const sets = setsOf(answer.trust?.envelopes ?? [])
    const newest = sets.at(-1)
    const known = newest && (await readFleet(cli.settings.configHome, newest.set.fleetId))
    const agrees = known === undefined ? undefined : sets.some(({ digest }) => digest === known.trust.digest)
    await showOne(cli.io, trustRecord(answer, sets), output, () =>
      trustText(
        cli,
        answer,
        sets,
        agrees,
        newest && fleetFolder(cli.settings.configHome, newest.set.fleetId),
      ),
    )
  })
}

function trustRecord(answer: GetFleetTrustResponse, sets: readonly KnownTrust[]): PlainRecord {
  return {
    sets: sets.map(({ set, number, digest, keys, recoveryKeys }) => ({
      number,
      digest,
      fleetId: set.fleetId,
      threshold: set.threshold,
      keys: keys.map(({ keyId }, index) => ({ keyId, comment: set.keys[index]?.comment ?? '' })),
      recoveryKeys: recoveryKeys.map(({ keyId }, index) => ({
        keyId,
        comment: set.recoveryKeys[index]?.comment ?? '',
      })),
      caPins: set.caPins,
      coordinators: set.coordinators,
      created: isoOf(millisOf(set.created)),
    })),
    authorities: answer.authorities.map(({ pin, current, notAfter }) => ({
      pin,
      current,
      notAfter: isoOf(millisOf(notAfter)),
    })),
  }
}

function isoOf(millis: number | undefined): string | null {
  return millis === undefined ? null : new Date(millis).toISOString()
}

function trustText(
  cli: Cli,
  answer: GetFleetTrustResponse,
  sets: readonly KnownTrust[],
  agrees: boolean | undefined,
  folder: string | undefined,
): string {
  const { colour } = cli.io
  const newest = sets.at(-1)
  const authorities = answer.authorities.map(
    ({ pin, current, notAfter }) =>
      [
        'Authority',
        `${pin}, ${current ? 'issues' : 'trusted, does not issue'}, until ${isoOf(millisOf(notAfter)) ?? 'unknown'}`,
      ] as const,
  )
  if (!newest) {
    return (
      renderFields(authorities, colour) +
      'The coordinator has no trust set yet: give it one with `muster trust set FILE`; `muster init` writes it.\n'
    )
  }
  const { set } = newest
  const key = (kind: string) => (keyId: string, comment: string) =>
    [kind, `${keyId}${comment === '' ? '' : `  ${comment}`}`] as const
  const text = renderFields(
    [
      ['Fleet', set.fleetId],
      ['Trust set', `${newest.number}, of ${isoOf(millisOf(set.created)) ?? 'unknown time'}`],
      ['Trust pin', newest.digest, 'bold'],
      ['Must sign', `${set.threshold} of ${newest.keys.length}`],
      ...newest.keys.map(({ keyId }, index) => key('Signing key')(keyId, set.keys[index]?.comment ?? '')),
      ...newest.recoveryKeys.map(({ keyId }, index) =>
        key('Recovery key')(keyId, set.recoveryKeys[index]?.comment ?? ''),
      ),
      ...set.caPins.map(pin => ['CA pin', pin] as const),
      ...set.coordinators.map(address => ['Coordinator', address] as const),
      ...authorities,
      [
        'Sets before it',
        sets
          .slice(0, -1)
          .map(({ number, digest }) => `${number} ${digest.slice(0, 12)}`)
          .join(', '),
      ],
    ],
    colour,
  )
  if (agrees === undefined) {
    return `${text}Nothing is known of this fleet here${folder === undefined ? '' : ` (${escapeText(folder)})`}, so this is the coordinator's word alone.\n`
  }
  return agrees
    ? text
    : `${text}${paint('This does not contain the trust set that is known here: do not use it.', 'bad', colour)}\n`
}

/** Gives the coordinator a chain of trust sets from a file, after reading it as a machine would. */
export async function setTrust(
  cli: Cli,
  file: string | undefined,
  { output }: { readonly output?: Format | undefined },
): Promise<void> {
  const path = file ?? (await onlyTrustFile(cli))
  const chain = decodeChain(await readIfThere(path), path).envelopes
  const walk = walkTrust({ kind: 'first-use' }, chain)
  if (walk.kind === 'refused') throw new CliError('refused', `${path}: ${walk.reason}`)
  await withCoordinator(cli, async ({ client, call }) => {
    const { number, digest } = await client.setFleetTrust({ trust: { envelopes: chain } }, call)
    if (Number(number) === walk.trust.number && digest !== walk.trust.digest) {
      throw new CliError('refused', `the coordinator answers with another trust set ${number}: ${digest}`)
    }
    const record = { trustNumber: Number(number), trustPin: digest }
    await showResult(
      cli.io,
      'trust set',
      record,
      output,
      () => `trust set ${number} is in force; the trust pin is ${escapeText(digest)}\n`,
    )
  })
  // Whoever may push a set may also keep it: what is published from here is judged by it.
  const known = await readFleet(cli.settings.configHome, walk.trust.set.fleetId)
  if (!known) await saveTrust(fleetFolder(cli.settings.configHome, walk.trust.set.fleetId), chain)
}

async function onlyTrustFile(cli: Cli): Promise<string> {
  const fleets = await listFleets(cli.settings.configHome)
  const [only, second] = fleets
  if (only !== undefined && second === undefined) {
    return join(fleetFolder(cli.settings.configHome, only), FLEET_FILES.trust)
  }
  throw new CliError(
    'usage',
    only === undefined
      ? 'which file? `muster init` writes trust.bin into the operator’s configuration'
      : `several fleets are known here (${fleets.join(', ')}): say FILE`,
  )
}

async function readIfThere(path: string): Promise<Buffer> {
  try {
    return await readFile(path)
  } catch (error) {
    if (hasCode(error, 'ENOENT')) throw new CliError('notFound', `${path}: no such file`)
    throw error
  }
}

/** Confirms what machines took at first use, after a person compared. */
export async function confirmTrust(
  cli: Cli,
  ref: string | undefined,
  { output }: { readonly output?: Format | undefined },
): Promise<void> {
  await withCoordinator(cli, async ({ client, call }) => {
    const { confirmed } = await client.confirmTrust({ ref: ref ?? '' }, call)
    await showResult(cli.io, 'trust confirm', { confirmed }, output, () =>
      confirmed === 1 ? 'confirmed for one machine\n' : `confirmed for ${confirmed} machines\n`,
    )
  })
}
