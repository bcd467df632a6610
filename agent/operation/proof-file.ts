import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fromBinary, toBinary } from '@bufbuild/protobuf'
import { makePrivateDirectory, readFileIfThere, writeFileDurably } from '../../shared/durable-file.ts'
import { type Target, TargetSchema } from '../../shared/gen/muster/v1/manifest_pb.ts'
import type { Safety } from '../../shared/revision/safety.ts'
import { readSafety } from '../gates/read-safety.ts'
import { operationFolder, operationsOnDisk } from '../safety/operation-folder.ts'

/** What a proof goes by: from the verified target, kept here because the process that proves is not the one that verified. */
export interface Proof {
  readonly safety: Safety
  /** Of the unpacked tree that scripts are taken from; empty: none is needed. */
  readonly treeDigest: string
}

const TARGET = 'target.bin'
const TREE = 'tree'

/** Durable when it returns. */
export async function writeProof(
  stateDir: string,
  operation: string,
  target: Target,
  treeDigest: string,
): Promise<void> {
  const folder = operationFolder(stateDir, operation)
  await makePrivateDirectory(folder)
  await writeFileDurably(join(folder, TREE), treeDigest)
  await writeFileDurably(join(folder, TARGET), toBinary(TargetSchema, target))
}

export async function readProof(stateDir: string, operation: string): Promise<Proof> {
  const folder = operationFolder(stateDir, operation)
  const target = await readFileIfThere(join(folder, TARGET))
  const tree = await readFileIfThere(join(folder, TREE))
  if (target === undefined || tree === undefined) {
    throw new Error(`${folder}: what the change is to be proved by is gone`)
  }
  return { safety: readSafety(fromBinary(TargetSchema, target)), treeDigest: tree.toString('utf8') }
}

/** What an earlier operation was proved by, where it is still known. */
export interface EarlierProof {
  readonly target: Target
  /** Of the tree that its scripts are taken from; empty: it needed none, or that tree is not here any more. */
  readonly treeDigest: string
}

export async function readEarlierProof(
  stateDir: string,
  operation: string,
): Promise<EarlierProof | undefined> {
  const folder = operationFolder(stateDir, operation)
  const bytes = await readFileIfThere(join(folder, TARGET))
  if (bytes === undefined) return undefined
  const tree = (await readFileIfThere(join(folder, TREE)))?.toString('utf8') ?? ''
  const isHere = tree !== '' && existsSync(join(stateDir, 'trees', tree))
  return { target: fromBinary(TargetSchema, bytes), treeDigest: isHere ? tree : '' }
}

/** The trees by whose scripts operations on disk were proved: a rollback to what one of them reached asks these anew. */
export async function treesOfProofs(stateDir: string): Promise<ReadonlySet<string>> {
  const trees = await Promise.all(
    (await operationsOnDisk(stateDir)).map(async operation => {
      const proof = await readEarlierProof(stateDir, operation).catch(() => undefined)
      const hasScript = proof?.target.safety?.gates.some(({ probe }) => probe.case === 'script')
      return hasScript ? (proof?.treeDigest ?? '') : ''
    }),
  )
  return new Set(trees.filter(tree => tree !== ''))
}
