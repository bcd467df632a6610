import { createPublicKey } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { readFileIfThere, writeFileDurably } from '../../shared/durable-file.ts'
import {
  generateSigningKey,
  loadSigningKey,
  parseVerifyingKey,
  type SigningKeyPair,
  signingKeyPem,
} from '../../shared/envelope/keys.ts'
import { hasCode, reasonOf } from '../../shared/errors.ts'
import type { AuthorityInfo } from '../../shared/gen/muster/v1/fleet_trust_pb.ts'
import {
  makeNextTrustSet,
  type SignedTrust,
  type TrustContent,
  type TrustedKey,
} from '../../shared/trust/make-trust-set.ts'
import type { Cli } from '../cli.ts'
import { type Connection, withCoordinator } from '../connect.ts'
import { CliError } from '../exit-codes.ts'
import { adoptKey } from '../fleets/adopt-key.ts'
import { chooseReplacedKey } from '../fleets/choose-replaced-key.ts'
import { FLEET_FILES, type FleetKnowledge, loadKeys, saveTrust } from '../fleets/fleet-folder.ts'
import { openFleet } from '../fleets/open-fleet.ts'
import { readPrivateFile } from '../fleets/private-file.ts'
import type { Format } from '../output/format.ts'
import { showResult } from '../output/show-result.ts'
import { PROFILE_FILES } from '../profiles.ts'

export interface RotateOptions {
  readonly key?: readonly string[] | undefined
  /** Signs in place of a lost or leaked signing key. */
  readonly recoveryKey?: string | undefined
  readonly comment?: string | undefined
  readonly force?: boolean | undefined
  /** Files with public keys that may sign as well. */
  readonly add?: readonly string[] | undefined
  /** Starts of ids of keys that may sign no more. */
  readonly remove?: readonly string[] | undefined
  readonly threshold?: number | undefined
  readonly output?: Format | undefined
}

async function loadSigners(
  fleet: FleetKnowledge,
  { key, recoveryKey }: RotateOptions,
): Promise<SigningKeyPair[]> {
  if (recoveryKey === undefined) return loadKeys(fleet, key)
  return [loadSigningKey(await readPrivateFile(recoveryKey, 'it lies where you keep it offline'))]
}

function makeNext(
  cli: Cli,
  fleet: FleetKnowledge,
  change: Partial<TrustContent>,
  signers: readonly SigningKeyPair[],
): SignedTrust {
  try {
    return makeNextTrustSet({ current: fleet.trust, change, created: cli.clock.now(), signers })
  } catch (error) {
    throw new CliError('refused', reasonOf(error), { cause: error })
  }
}

/**
 * Replaces this operator's signing key; with a recovery key, all signing keys. The new key is on disk before the
 * coordinator hears of it, and stays there when no answer comes: the set may be in force all the same.
 */
export async function rotateKeys(cli: Cli, options: RotateOptions): Promise<void> {
  await withCoordinator(cli, async connection => {
    const fleet = await openFleet(cli, connection)
    const signers = await loadSigners(fleet, options)
    if (options.add ?? options.remove ?? options.threshold) {
      return changeKeys(cli, connection, fleet, signers, options)
    }
    const ownPath = join(fleet.folder, FLEET_FILES.signingKey)
    const replacedId = options.recoveryKey === undefined ? await replacedKey(fleet, signers) : undefined
    const fresh = generateSigningKey()
    const before = fleet.trust.set.keys.map(({ publicKey, comment }, index) => ({
      key: { der: publicKey },
      comment,
      replaced: replacedId === undefined || fleet.trust.keys[index]?.keyId === replacedId,
    }))
    const comment = options.comment ?? before.find(({ replaced }) => replaced)?.comment ?? 'operator'
    const keys = [...before.filter(({ replaced }) => !replaced), { key: fresh, comment }]
    const threshold = Math.min(fleet.trust.set.threshold, keys.length)
    const next = makeNext(cli, fleet, { keys, threshold }, signers)
    await writeFileDurably(`${ownPath}.next`, signingKeyPem(fresh))
    await push(connection, fleet, next)
    await adoptKey(fleet.folder, next.trust)
    const kept = `${ownPath}.${fleet.trust.number}`
    const replaced = (await isThere(kept)) ? kept : options.key?.[0]
    const old = options.recoveryKey === undefined ? (replaced ?? null) : null
    await showKeys(cli, fleet, next, { replacedKey: old, output: options.output }, () => [
      `The new signing key is ${ownPath}.`,
      'Machines take the set over when they connect; `muster machines -o json` tells which have it (trust.number).',
      'Publish once more (`muster publish --renew`), so that the newest revision is signed by the new key. ' +
        (options.recoveryKey === undefined
          ? `When every machine has the new set, destroy the old key (${replaced}).`
          : 'Every earlier signing key is out of the set. Put the recovery key back where it is offline.'),
    ])
  })
}

/** What came of new keys, whichever way they were changed; `advice` is the lines for people after the first. */
async function showKeys(
  { io }: Cli,
  { folder }: FleetKnowledge,
  next: SignedTrust,
  { replacedKey, output }: { readonly replacedKey: string | null; readonly output: Format | undefined },
  advice: () => readonly string[],
): Promise<void> {
  const { number, digest, keys, set } = next.trust
  const record = {
    ...describeTrust(next),
    keys: keys.length,
    threshold: set.threshold,
    signingKey: join(folder, FLEET_FILES.signingKey),
    replacedKey,
  }
  const first = `trust set ${number} is in force; the trust pin is ${digest}`
  await showResult(io, 'trust rotate keys', record, output, () => [first, ...advice(), ''].join('\n'))
}

function describeTrust({ trust }: SignedTrust) {
  return { trustNumber: trust.number, trustPin: trust.digest }
}

async function replacedKey(fleet: FleetKnowledge, signers: readonly SigningKeyPair[]): Promise<string> {
  const path = join(fleet.folder, FLEET_FILES.signingKey)
  const [own] = (await isThere(path)) ? await loadKeys(fleet, undefined) : []
  return chooseReplacedKey(
    { path, keyId: own?.keyId },
    signers.map(({ keyId }) => keyId),
    fleet.trust.keys.map(({ keyId }) => keyId),
  )
}

async function isThere(path: string): Promise<boolean> {
  return (await readFileIfThere(path)) !== undefined
}

/** Changes who may sign, without touching this operator's own key. */
async function changeKeys(
  cli: Cli,
  connection: Connection,
  fleet: FleetKnowledge,
  signers: readonly SigningKeyPair[],
  options: RotateOptions,
): Promise<void> {
  const { set, keys: parsed } = fleet.trust
  for (const start of options.remove ?? []) {
    const found = parsed.filter(({ keyId }) => start.length >= 4 && keyId.startsWith(start))
    if (found.length !== 1) {
      throw new CliError(
        found.length === 0 ? 'notFound' : 'usage',
        `--remove ${start}: names ${found.length} keys of the trust set, must be one`,
      )
    }
  }
  const kept = set.keys.flatMap(({ publicKey, comment }, index) => {
    const keyId = parsed[index]?.keyId ?? ''
    return options.remove?.some(start => keyId.startsWith(start))
      ? []
      : [{ key: { der: publicKey }, comment }]
  })
  const added = await Promise.all((options.add ?? []).map(file => readVerifyingKey(file, options.comment)))
  const keys = [...kept, ...added]
  const threshold = options.threshold ?? Math.min(set.threshold, keys.length)
  const next = makeNext(cli, fleet, { keys, threshold }, signers)
  await push(connection, fleet, next)
  await showKeys(cli, fleet, next, { replacedKey: null, output: options.output }, () => [
    `${threshold} of ${keys.length} ${keys.length === 1 ? 'key' : 'keys'} must sign. Whoever signs needs this trust.bin: ${fleet.folder}/${FLEET_FILES.trust}`,
  ])
}

async function readVerifyingKey(file: string, comment: string | undefined): Promise<TrustedKey> {
  const pem = await readFile(file, 'utf8').catch((error: unknown) => {
    if (hasCode(error, 'ENOENT')) throw new CliError('notFound', `${file}: no such file`)
    throw error
  })
  if (pem.includes('PRIVATE KEY')) {
    throw new CliError(
      'refused',
      `${file}: is a private key, which stays with its owner; the public half is wanted (openssl pkey -in KEY -pubout)`,
    )
  }
  let der: Buffer
  try {
    der = createPublicKey(pem).export({ type: 'spki', format: 'der' })
  } catch {
    throw new CliError('error', `${file}: holds no public key in PEM`)
  }
  const read = parseVerifyingKey(der)
  if (read.kind === 'refused') throw new CliError('error', `${file}: ${read.reason}`)
  return { key: read.key, comment: comment ?? basename(file) }
}

/** Pushes a set and, once it counts, keeps it. */
async function push({ client, call }: Connection, fleet: FleetKnowledge, next: SignedTrust): Promise<void> {
  const chain = [...fleet.chain, next.envelope]
  const { number, digest } = await client.setFleetTrust({ trust: { envelopes: chain } }, call)
  if (Number(number) !== next.trust.number || digest !== next.trust.digest) {
    throw new CliError(
      'refused',
      `the coordinator answers with trust set ${number} (${digest}) instead of the new one`,
    )
  }
  await saveTrust(fleet.folder, chain)
}

/** The three steps by which a fleet gets another certificate authority, none of which a machine has to be visited for. */
export async function rotateAuthority(
  cli: Cli,
  step: 'add' | 'switch' | 'drop',
  options: RotateOptions,
): Promise<void> {
  await withCoordinator(cli, async connection => {
    const fleet = await openFleet(cli, connection)
    // Keys are read first: an authority without its trust set would be of no use.
    const signers = step === 'switch' ? [] : await loadSigners(fleet, options)
    const { client, call, profile } = connection
    const before = await client.getFleetTrust({}, call)
    const present = before.authorities.map(({ pin }) => pin)
    // Signed before anything is changed: keys that are not enough are told while all is as it was.
    const draft =
      step === 'switch'
        ? undefined
        : makeNext(
            cli,
            fleet,
            { caPins: step === 'drop' ? withoutDropped(before.authorities) : present },
            signers,
          )
    const cutOff = wasCutOff(step, listed(fleet, before.authorities), present)
    const { authorities } = cutOff
      ? before
      : await client.rotateAuthority({ step, force: options.force ?? false }, call)
    const pins = authorities.map(({ pin }) => pin)
    if (profile) {
      await writeFileDurably(
        join(profile.folder, PROFILE_FILES.authority),
        authorities.map(({ certificatePem }) => certificatePem).join(''),
        0o644,
      )
    }
    if (step === 'switch') {
      const record = {
        trustNumber: fleet.trust.number,
        trustPin: fleet.trust.digest,
        caPins: pins,
        issuing: current(authorities),
      }
      await showResult(
        cli.io,
        'trust rotate ca',
        record,
        options.output,
        () =>
          `certificates are issued by ${current(authorities)} now\n` +
          'Machines and operators get theirs at their next renewal. When all have one, end the old authority: muster trust rotate ca drop\n',
      )
      return
    }
    const isAsDrafted = draft !== undefined && draft.trust.set.caPins.join() === pins.join()
    const next = isAsDrafted ? draft : makeNext(cli, fleet, { caPins: pins }, signers)
    await push(connection, fleet, next)
    await showResult(
      cli.io,
      'trust rotate ca',
      { ...describeTrust(next), caPins: pins, issuing: current(authorities) },
      options.output,
      () =>
        `trust set ${next.trust.number} lists ${pins.length === 1 ? 'one authority' : `${pins.length} authorities`}: ${pins.join(', ')}\n` +
        (step === 'add'
          ? 'When every machine has this set (`muster machines -o json`, trust.number), issue from the new one: muster trust rotate ca switch\n'
          : 'An authority that is not listed counts nowhere any more. New machines need the CA pin that `muster status` shows; operators elsewhere need the new ca.pem of this profile.\n'),
    )
  })
}

/**
 * Whether an earlier run ended between the coordinator's step and the trust set that belongs to it, which then goes on with the set
 * alone: an authority was made that no set lists, or one is gone that a set still lists.
 */
function wasCutOff(
  step: 'add' | 'switch' | 'drop',
  pins: readonly string[],
  present: readonly string[],
): boolean {
  switch (step) {
    case 'add':
      return present.some(pin => !pins.includes(pin))
    case 'drop':
      return pins.some(pin => !present.includes(pin))
    case 'switch':
      return false
  }
}

/** Pins that a drop leaves: it takes the oldest away that issues nothing. */
function withoutDropped(authorities: readonly AuthorityInfo[]): readonly string[] {
  const old = authorities.find(authority => !authority.current)
  return authorities.filter(authority => authority !== old).map(({ pin }) => pin)
}

/** Pins that the newest set allows; an empty list means the one authority machines were given. */
function listed(fleet: FleetKnowledge, authorities: readonly AuthorityInfo[]): readonly string[] {
  const { caPins } = fleet.trust.set
  return caPins.length > 0 ? caPins : authorities.filter(({ current }) => current).map(({ pin }) => pin)
}

function current(authorities: readonly AuthorityInfo[]): string {
  return authorities.find(authority => authority.current)?.pin ?? 'no authority'
}
