import { join, resolve } from 'node:path'
import { status } from '@grpc/grpc-js'
import { decodeEnvelope, MAX_ENVELOPE_BYTES } from '../../shared/envelope/decode-envelope.ts'
import { type KnownManifest, readManifest } from '../../shared/revision/read-manifest.ts'
import { MAX_TARGET_BYTES } from '../../shared/revision/read-target.ts'
import { RpcError } from '../../shared/rpc/rpc-error.ts'
import type { Cli } from '../cli.ts'
import { type Connection, withCoordinator } from '../connect.ts'
import { CliError } from '../exit-codes.ts'
import { explainGap } from '../fleets/explain-gap.ts'
import { type Part, readExport, readPart, readWholePart, unpackCache } from '../fleets/export-file.ts'
import { readFleet } from '../fleets/fleet-folder.ts'
import { type KnownRevision, readLastSeen, verifyKnown, writeLastSeen } from '../fleets/known-revision.ts'
import { upload } from '../fleets/upload.ts'
import { type Format, isData } from '../output/format.ts'
import { showResult } from '../output/show-result.ts'

export interface ImportOptions {
  /** Where the binary cache goes; absent: it is left in the file. */
  readonly cache?: string | undefined
  readonly output?: Format | undefined
}

/** Publishes a revision that was signed elsewhere, as it is. The cache comes first: a revision that is there can be applied. */
export async function importFile(cli: Cli, path: string, { cache, output }: ImportOptions): Promise<void> {
  const parts = await readExport(path)
  const envelopePart = only(path, parts, 'envelope')
  // A renewal comes without: its tree is that of the revision before.
  const tree = atMostOne(path, parts, 'tree')
  const envelope = decodeEnvelope(await readWholePart(path, envelopePart, MAX_ENVELOPE_BYTES))
  if (!envelope) throw new CliError('error', `${path}: its envelope cannot be read`)
  const read = readManifest(envelope.payload)
  if (read.kind === 'refused') throw new CliError('error', `${path}: ${read.reason}`)
  const { manifest } = read.manifest
  const targetBytes: Uint8Array[] = []
  for (const part of parts.filter(({ kind }) => kind === 'target')) {
    targetBytes.push(await readWholePart(path, part, MAX_TARGET_BYTES))
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
    if (!isData(output)) cli.io.out(`${join(cache, '')}: ${cached} files of the binary cache\n`)
  } else if (cached > 0) {
    cli.io.err(
      'note: the closures in it are not unpacked; --cache FOLDER puts them where the machines fetch from\n',
    )
  }
  await withCoordinator(cli, async connection => {
    const revision: Pick<KnownRevision, 'envelope' | 'targetBytes'> = { envelope, targetBytes }
    const send = (part: Part | undefined) =>
      upload(cli, connection, {
        revision,
        expectedPredecessor: manifest.predecessor,
        renew: part === undefined,
        tree: part && { chunks: readPart(path, part), length: part.size },
      }).catch(async (error: unknown) => {
        if (!(error instanceof RpcError && error.code === status.ABORTED)) throw error
        throw new CliError('conflict', await whyNotNext(connection, path, read.manifest), { cause: error })
      })
    const first = await send(tree)
    // What says nothing new is no publication, but it is a renewal, which the next one follows.
    const answer = first.manifestDigest === read.manifest.digest ? first : await send(undefined)
    // An older one that is repaired somewhere else does not lead this operator back.
    const seen = known && (await readLastSeen(known))
    if (known && read.manifest.number > (seen?.manifest.number ?? 0)) await writeLastSeen(known, revision)
    const { manifestDigest, unchanged } = answer
    const record = {
      number: Number(answer.number),
      manifestDigest,
      unchanged,
      cacheFiles: cache === undefined ? 0 : cached,
    }
    await showResult(cli.io, 'import', record, output, () =>
      answer.unchanged
        ? `revision ${answer.number} is there already\n`
        : `revision ${answer.number} is published (${answer.manifestDigest})\n`,
    )
  })
}

/** The signer is somewhere else: that one was faster and is to publish again would help nobody here. */
async function whyNotNext(
  { client, call }: Connection,
  path: string,
  { number, manifest }: KnownManifest,
): Promise<string> {
  const { envelope } = await client.getFleetRevision({ number: 0n }, call)
  const newest = readManifest(envelope?.payload ?? new Uint8Array())
  if (newest.kind === 'refused') throw new CliError('error', `the newest revision there: ${newest.reason}`)
  const there = newest.manifest.number
  return `${path}: ${explainGap({ number, predecessor: manifest.predecessor, there })}`
}

function only(path: string, parts: readonly Part[], kind: Part['kind']): Part {
  const part = atMostOne(path, parts, kind)
  if (!part) throw new CliError('error', `${path}: must hold one ${kind}`)
  return part
}

function atMostOne(path: string, parts: readonly Part[], kind: Part['kind']): Part | undefined {
  const [part, second] = parts.filter(found => found.kind === kind)
  if (second) throw new CliError('error', `${path}: must hold one ${kind}`)
  return part
}
