import { join } from 'node:path'
import { decodeEnvelope, encodeEnvelope, MAX_ENVELOPE_BYTES } from '../../shared/envelope/decode-envelope.ts'
import { hasCode } from '../../shared/errors.ts'
import { sha256Hex } from '../../shared/ids.ts'
import { readManifest } from '../../shared/revision/read-manifest.ts'
import { saysNothingNew } from '../../shared/revision/same-content.ts'
import type { Cli } from '../cli.ts'
import { CliError } from '../exit-codes.ts'
import type { Format } from '../output/format.ts'
import { startProgress } from '../output/progress.ts'
import { showResult } from '../output/show-result.ts'
import {
  listCache,
  type Part,
  partialOf,
  readExport,
  readWholePart,
  refuseThere,
  showExport,
  writeExport,
} from './export-file.ts'
import type { FleetKnowledge } from './fleet-folder.ts'
import { type KnownRevision, readLastSeen, writeLastSeen } from './known-revision.ts'
import type { Content } from './prepare-content.ts'

/**
 * Writes the next revision into a file. It is remembered as the newest when all of the file is written and before anybody can hold it: a
 * file that cannot be written uses no number up, and no number goes out twice with two contents. What says nothing new is
 * the newest once more, since the coordinator that has that one takes no other in its place; but for a renewal, which means to.
 */
export async function signOffline(
  cli: Cli,
  known: FleetKnowledge,
  newest: KnownRevision | undefined,
  content: Content,
  signed: KnownRevision,
  options: {
    readonly export?: string | undefined
    readonly renew?: boolean | undefined
    readonly output?: Format | undefined
  },
): Promise<void> {
  const path = options.export ?? ''
  const old =
    !options.renew && newest && saysNothingNew(newest.manifest, signed.manifest) ? newest : undefined
  const revision = old ?? signed
  await exportRevision(cli, path, content, revision, () => writeLastSeen(known, revision))
  await tellSigned(cli, path, revision, options.output, old !== undefined)
}

async function tellSigned(
  cli: Cli,
  path: string,
  { manifest }: Pick<KnownRevision, 'manifest'>,
  output: Format | undefined,
  unchanged: boolean,
): Promise<void> {
  const { number, digest } = manifest
  const { treeDigest, treeLength } = manifest.manifest
  const until = manifest.expires.toISOString()
  const record = {
    number,
    manifestDigest: digest,
    unchanged,
    treeDigest,
    treeLength: Number(treeLength),
    file: path,
  }
  await showResult(cli.io, 'publish', record, output, () =>
    unchanged
      ? `revision ${number} already says exactly this; the file holds it, good until ${until}\n${carryText(path)}`
      : `revision ${number} is signed (${digest}), good until ${until}; no coordinator has it yet\n${carryText(path)}`,
  )
}

export function carryText(path: string): string {
  return `${path}: take it to the other coordinator and run \`muster import\` there\n`
}

/** Writes a revision into a file: without its tree when that is of the revision before, which the other coordinator has. */
export async function exportRevision(
  cli: Cli,
  path: string,
  content: Content,
  revision: KnownRevision,
  beforeItAppears?: () => Promise<void>,
): Promise<void> {
  const { file } = content.tree
  using progress = startProgress(cli, 'export')
  await writeExport(
    path,
    async add => {
      await add('envelope', '', encodeEnvelope(revision.envelope))
      for (const bytes of revision.targetBytes) await add('target', sha256Hex(bytes), bytes)
      if (file !== undefined) await add('tree', content.tree.digest, { file })
      if (content.cache === undefined) return
      for (const name of await listCache(content.cache)) {
        progress.update(name)
        await add('cache', name, { file: join(content.cache, name) })
      }
    },
    beforeItAppears,
  )
  progress.end()
}

/**
 * A renewal that was cut between being remembered and its file: signed again it would be the one after, and the site would miss
 * the one that nobody has. Whether there was such a one; its file is there then.
 */
export async function endCutRenewal(
  cli: Cli,
  known: FleetKnowledge,
  path: string,
  output: Format | undefined,
): Promise<boolean> {
  await refuseThere(path)
  const lastSeen = await readLastSeen(known)
  if (!lastSeen || (await digestOfExport(partialOf(path))) !== lastSeen.manifest.digest) return false
  await showExport(path)
  await tellSigned(cli, path, lastSeen, output, false)
  return true
}

/** Of the manifest in an export; undefined when there is no such file, or it is not whole. */
async function digestOfExport(path: string): Promise<string | undefined> {
  let parts: readonly Part[]
  try {
    parts = await readExport(path)
  } catch (error) {
    if (error instanceof CliError || hasCode(error, 'ENOTDIR')) return undefined
    throw error
  }
  const [part] = parts.filter(({ kind }) => kind === 'envelope')
  if (!part) return undefined
  const envelope = decodeEnvelope(await readWholePart(path, part, MAX_ENVELOPE_BYTES))
  const read = envelope && readManifest(envelope.payload)
  return read?.kind === 'ok' ? read.manifest.digest : undefined
}
