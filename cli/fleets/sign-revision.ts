import { hostname, userInfo } from 'node:os'
import { signEnvelope } from '../../shared/envelope/envelope.ts'
import type { SigningKeyPair } from '../../shared/envelope/keys.ts'
import { MANIFEST_TYPE } from '../../shared/envelope/payload-types.ts'
import { reasonOf } from '../../shared/errors.ts'
import type { Fleet } from '../../shared/fleet-file/fleet.ts'
import { buildManifest } from '../../shared/revision/build-manifest.ts'
import { VERSION } from '../../shared/version.ts'
import { CliError } from '../exit-codes.ts'
import type { Succession } from './decide-succession.ts'
import type { FleetKnowledge } from './fleet-folder.ts'
import { type KnownRevision, verifyKnown } from './known-revision.ts'
import type { Content } from './prepare-content.ts'

/** The floor of the next revision: what was asked for, what the fleet file says, or what it was. It never falls. */
export function floorOf(
  floor: number | undefined,
  fleet: Fleet,
  succession: Extract<Succession, { kind: 'next' }>,
): number {
  const wanted = floor ?? fleet.floor ?? succession.floor
  if (wanted > succession.number) {
    throw new CliError(
      'usage',
      `floor ${wanted}: may not be above ${succession.number}, the number of this revision`,
    )
  }
  if (wanted < succession.floor && floor !== undefined) {
    throw new CliError(
      'usage',
      `floor ${wanted}: is below ${succession.floor}, that of the revision before, and a floor never falls`,
    )
  }
  return Math.max(wanted, succession.floor)
}

/** Makes the manifest and signs it; refuses here what machines would refuse. */
export function signRevision(
  known: FleetKnowledge,
  input: {
    readonly fleet: Fleet
    readonly content: Content
    readonly succession: Extract<Succession, { kind: 'next' }>
    readonly floor: number
    readonly created: Date
    readonly expires: Date
    readonly signers: readonly SigningKeyPair[]
  },
): KnownRevision {
  const { content, succession } = input
  const trustSet = known.chain.at(-1)
  if (!trustSet) throw new CliError('error', `${known.folder}: holds no trust set`)
  const provenance = {
    ...content.provenance,
    publisher: `${userInfo().username}@${hostname()}`.slice(0, 256),
    tool: `muster ${VERSION}`,
  }
  let built: ReturnType<typeof buildManifest>
  try {
    built = buildManifest({
      fleetId: input.fleet.id,
      number: succession.number,
      predecessor: succession.predecessor,
      floor: input.floor,
      tree: content.tree,
      targets: content.targets,
      clusters: content.clusters,
      created: input.created,
      expires: input.expires,
      provenance,
      ...(content.leastNixVersion === undefined ? {} : { leastNixVersion: content.leastNixVersion }),
      trustSet,
      rollout: content.rollout,
    })
  } catch (error) {
    throw new CliError('error', `the revision cannot be made: ${reasonOf(error)}`, { cause: error })
  }
  const envelope = signEnvelope(built.payload, MANIFEST_TYPE, input.signers)
  const revision = verifyKnown(
    envelope,
    built.targets.map(({ bytes }) => bytes),
    known,
  )
  if ('kind' in revision) {
    throw new CliError(
      'refused',
      `machines would refuse this revision: ${revision.reason}. Is the key the one of the trust set (\`muster trust show\`)? Further keys are given with --key`,
    )
  }
  return revision
}
