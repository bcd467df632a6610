import { join, resolve } from 'node:path'
import { decodeEnvelope, MAX_ENVELOPE_BYTES } from '../../shared/envelope/decode-envelope.ts'
import { readManifest } from '../../shared/revision/read-manifest.ts'
import { MAX_TARGET_BYTES } from '../../shared/revision/read-target.ts'
import type { Cli } from '../cli.ts'
import { withCoordinator } from '../connect.ts'
import { CliError } from '../exit-codes.ts'
import { type Part, readExport, readPart, unpackCache } from '../fleets/export-file.ts'
import { readFleet } from '../fleets/fleet-folder.ts'
import { type KnownRevision, readLastSeen, verifyKnown, writeLastSeen } from '../fleets/known-revision.ts'
import { upload } from '../fleets/upload.ts'

export interface ImportOptions {
  /** Where the binary cache goes; absent: it is left in the file. */
  readonly cache?: string | undefined
}

/** Publishes a revision that was signed elsewhere, as it is. The cache comes first: a revision that is there can be applied. */
export async function importFile(cli: Cli, path: string, { cache }: ImportOptions): Promise<void> {
  const parts = await readExport(path)
  const envelopePart = only(path, parts, 'envelope')
  const tree = only(path, parts, 'tree')
  const envelope = decodeEnvelope(await readWhole(path, envelopePart, MAX_ENVELOPE_BYTES))
  if (!envelope) throw new CliError('error', `${path}: its envelope cannot be read`)
  const read = readManifest(envelope.payload)
  if (read.kind === 'refused') throw new CliError('error', `${path}: ${read.reason}`)
  const { manifest } = read.manifest
  const targetBytes: Uint8Array[] = []
  for (const part of parts.filter(({ kind }) => kind === 'target')) {
    targetBytes.push(await readWhole(path, part, MAX_TARGET_BYTES))
  }
  const known = await readFleet(cli.settings.configHome, manifest.fleetId)
  const verified = known && verifyKnown(envelope, targetBytes, known)
  if (verified && 'kind' in verified) throw new CliError('refused', `${path}: ${verified.reason}`)
  if (!known)
    cli.io.err('note: the keys of this fleet are not known here; the coordinator judges the signatures\n')
  const cached = parts.filter(({ kind }) => kind === 'cache').length
  if (cache !== undefined) {
    if (cached === 0)
      throw new CliError('usage', `--cache: ${path} holds no closures; it was exported without --build`)
    await unpackCache(path, parts, resolve(cache))
    cli.io.out(`${join(cache, '')}: ${cached} files of the binary cache\n`)
  } else if (cached > 0) {
    cli.io.err(
      'note: the closures in it are not unpacked; --cache FOLDER puts them where the machines fetch from\n',
    )
  }
  await withCoordinator(cli, async connection => {
    const revision: Pick<KnownRevision, 'envelope' | 'targetBytes'> = { envelope, targetBytes }
    const answer = await upload(cli, connection, {
      revision,
      expectedPredecessor: manifest.predecessor,
      renew: false,
      tree: { chunks: readPart(path, tree), length: tree.size },
    })
    // An older one that is repaired somewhere else does not lead this operator back.
    const seen = known && (await readLastSeen(known))
    if (known && read.manifest.number > (seen?.manifest.number ?? 0)) await writeLastSeen(known, revision)
    cli.io.out(
      answer.unchanged
        ? `revision ${answer.number} is there already\n`
        : `revision ${answer.number} is published (${answer.manifestDigest})\n`,
    )
  })
}

function only(path: string, parts: readonly Part[], kind: Part['kind']): Part {
  const [part, second] = parts.filter(found => found.kind === kind)
  if (!part || second) throw new CliError('error', `${path}: must hold one ${kind}`)
  return part
}

async function readWhole(path: string, part: Part, most: number): Promise<Buffer> {
  if (part.size > most) throw new CliError('error', `${path}: its ${part.kind} is larger than ${most} bytes`)
  const chunks: Buffer[] = []
  for await (const chunk of readPart(path, part)) chunks.push(chunk)
  return Buffer.concat(chunks)
}
