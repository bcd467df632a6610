import { mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { status } from '@grpc/grpc-js'
import { reasonOf } from '../../../shared/errors.ts'
import type { ClosureFetch } from '../../../shared/gen/muster/v1/manifest_pb.ts'
import { OutcomeClass } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { isDigest } from '../../../shared/ids.ts'
import { pause } from '../../../shared/lifecycle.ts'
import { backoffMs } from '../../../shared/retry.ts'
import { closureDigest } from '../../../shared/revision/closure-digest.ts'
import type { KnownManifest } from '../../../shared/revision/read-manifest.ts'
import { RpcError } from '../../../shared/rpc/rpc-error.ts'
import { receiveTree, type TreeCheck } from '../../../shared/tree/receive-tree.ts'
import { unpackTree } from '../../../shared/tree/unpack-tree.ts'
import { describeEnding, succeeded } from '../../system/system.ts'
import {
  failed,
  type OperationsConfig,
  type OperationsDeps,
  type OperationsLink,
  type PhaseContext,
  type PhaseFailure,
  type PhaseResult,
  STOPPED,
} from '../context.ts'
import { flowing } from '../flowing.ts'
import { treesOfProofs } from '../proof-file.ts'
import { fetchRoot } from '../roots.ts'
import { exitCodeOf, runLogged } from '../run-logged.ts'

/** Downloads that fail this often in a row are given up; each one goes on where the last one ended. */
const MAX_TRIES = 20
/** Unpacked trees that stay for the next operation. */
const KEPT_TREES = 3
/** A download from which nothing comes for so long has stalled. */
const STALL_MS = 60_000

/** What fetching a tree needs; every phase has it. */
export interface TreeContext {
  readonly deps: Pick<OperationsDeps, 'stateDir' | 'log'> & {
    readonly link: Pick<OperationsLink, 'downloadTree'>
    readonly config: Pick<OperationsConfig, 'stallMs' | 'buildDeadlineMs' | 'retry'>
  }
  readonly signal: AbortSignal
}

/** Brings the revision's tree here, checked against the verified manifest, and unpacks it. Says where it lies. */
export async function fetchTree(
  context: TreeContext,
  manifest: Pick<KnownManifest, 'number'> & {
    readonly manifest: Pick<KnownManifest['manifest'], 'treeDigest' | 'treeLength'>
  },
): Promise<PhaseResult<string>> {
  const { deps, signal } = context
  const folder = join(deps.stateDir, 'trees')
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const expected = { digest: manifest.manifest.treeDigest, length: Number(manifest.manifest.treeLength) }
  const file = join(folder, `${expected.digest}.packed`)
  const destination = join(folder, expected.digest)
  await dropUnfinished(folder, expected.digest)
  if (!(await isThere(destination))) {
    const limits = {
      stallMs: deps.config.stallMs ?? STALL_MS,
      endMs: performance.now() + deps.config.buildDeadlineMs,
    }
    for (let attempt = 0; ; attempt++) {
      if (signal.aborted) return STOPPED
      try {
        const received = await receiveTree({
          ...expected,
          file,
          openSource: offset =>
            flowing(
              inner => deps.link.downloadTree(BigInt(manifest.number), BigInt(offset), inner),
              limits,
              signal,
            ),
        })
        if (received.kind === 'refused') return refusedTree(received)
        break
      } catch (error) {
        if (signal.aborted) return STOPPED
        if (attempt + 1 >= MAX_TRIES || isFinal(error) || performance.now() >= limits.endMs) {
          return failed(OutcomeClass.FETCH_FAILED, `tree not downloaded: ${reasonOf(error)}`)
        }
        deps.log.warn({ err: reasonOf(error) }, 'download of the tree broke off')
        await pause(backoffMs(attempt, deps.config.retry), signal)
      }
    }
    const unpacked = await unpackTree({ ...expected, file, destination })
    if (unpacked.kind === 'refused') return refusedTree(unpacked)
    await rm(file, { force: true })
  }
  await keepNewest(folder, expected.digest, await treesOfProofs(deps.stateDir))
  return {
    kind: 'ok',
    value: destination,
    detail: `tree ${expected.digest.slice(0, 12)}, ${expected.length} bytes`,
  }
}

/** An answer that asking again does not change. */
function isFinal(error: unknown): boolean {
  const final = [status.NOT_FOUND, status.PERMISSION_DENIED, status.INVALID_ARGUMENT]
  return error instanceof RpcError && final.includes(error.code)
}

function refusedTree(check: Extract<TreeCheck, { kind: 'refused' }>): PhaseFailure {
  return { ...failed(OutcomeClass.REFUSED, check.reason), refusal: `tree-${check.class}` }
}

async function isThere(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isDirectory() ?? false
}

/**
 * Removes what broken downloads of other trees left: they are not gone on with, and a coordinator that breaks off every
 * download would fill the disk with them.
 */
async function dropUnfinished(folder: string, current: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (name === `${current}.packed` || !/\.(packed|partial)$/.test(name)) continue
    await rm(join(folder, name), { recursive: true, force: true })
  }
}

/**
 * Removes all but the newest few trees, and those by whose scripts something is still proved. When one was last used stands in an empty file beside it: a flake sees the times
 * of the tree itself, which must be the same on every node.
 */
async function keepNewest(folder: string, used: string, needed: ReadonlySet<string>): Promise<void> {
  await writeFile(join(folder, `${used}.used`), '')
  const names = (await readdir(folder)).filter(isDigest)
  const lastUsed = async (name: string) =>
    (await stat(join(folder, `${name}.used`)).catch(() => undefined))?.mtimeMs ?? 0
  const trees = await Promise.all(names.map(async name => ({ name, at: await lastUsed(name) })))
  const old = trees.toSorted((a, b) => b.at - a.at).slice(KEPT_TREES)
  for (const { name } of old) {
    if (needed.has(name)) continue
    await rm(join(folder, name), { recursive: true, force: true })
    await rm(join(folder, `${name}.used`), { force: true })
  }
}

/** Fetches the very store path that the manifest names, from the places and with the keys it names, and nothing else. */
export async function fetchClosure(
  context: PhaseContext,
  closure: ClosureFetch,
): Promise<PhaseResult<string>> {
  const { deps, signal, operation } = context
  const roots = join(deps.stateDir, 'roots')
  await mkdir(roots, { recursive: true, mode: 0o700 })
  const run = await runLogged(
    context,
    'nix-store',
    [
      '--realise',
      closure.storePath,
      '--add-root',
      fetchRoot(deps.stateDir, operation),
      '--option',
      'substituters',
      closure.substituters.join(' '),
      '--option',
      'trusted-public-keys',
      closure.publicKeys.join(' '),
      '--option',
      'require-sigs',
      'true',
      '--option',
      'narinfo-cache-negative-ttl',
      '0',
      '--option',
      'max-jobs',
      '0',
    ],
    { deadlineMs: deps.config.buildDeadlineMs, signal },
  )
  if (signal.aborted) return STOPPED
  if (!succeeded(run.ending)) {
    return failed(
      OutcomeClass.FETCH_FAILED,
      `${describeEnding('nix-store --realise', run.ending)}: ${run.errors.join(' ') || 'see the log'}`,
      exitCodeOf(run.ending),
    )
  }
  const problem = await checkClosure(context, closure)
  return problem ?? { kind: 'ok', value: closure.storePath, detail: closure.storePath }
}

/** Paths whose hashes are asked for at once; they stand on a command line. */
const QUERIED = 500
const MAX_CLOSURE_BYTES = 16 * 1024 * 1024

/**
 * Compares what is in the store now with what the publisher built and signed: a path's name says what it was built from,
 * not what is in it, and one that was here before was not fetched from anywhere.
 */
async function checkClosure(
  { deps, signal }: PhaseContext,
  { storePath, closureDigest: expected }: ClosureFetch,
): Promise<PhaseResult<never> | undefined> {
  const query = async (args: readonly string[]) => {
    const { ending, stdout, truncated } = await deps.system.run('nix-store', ['--query', ...args], {
      deadlineMs: 120_000,
      signal,
      maxOutputBytes: MAX_CLOSURE_BYTES,
    })
    return succeeded(ending) && !truncated ? stdout.trim().split('\n') : undefined
  }
  const paths = await query(['--requisites', storePath])
  const hashes: string[] = []
  for (let at = 0; paths && at < paths.length; at += QUERIED) {
    hashes.push(...((await query(['--hash', ...paths.slice(at, at + QUERIED)])) ?? []))
  }
  if (signal.aborted) return STOPPED
  if (!paths || hashes.length !== paths.length) {
    return failed(OutcomeClass.FETCH_FAILED, `what is in the closure of ${storePath} cannot be read`)
  }
  const found = closureDigest(paths.map((path, at) => ({ path, narHash: hashes[at] ?? '' })))
  if (found === expected) return undefined
  return failed(
    OutcomeClass.FETCH_FAILED,
    `the closure of ${storePath} is not what was published (its digest is ${found ?? 'unknown'}, signed is ${expected}); if a path of it was in the store before, \`nix-store --delete\` it and order again`,
  )
}
