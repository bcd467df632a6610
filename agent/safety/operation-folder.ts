import type { Dirent } from 'node:fs'
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { makePrivateDirectory, syncDirectory } from '../../shared/durable-file.ts'
import { hasCode } from '../../shared/errors.ts'
import { readSlot, reserveSlot } from './slot.ts'

/** One attempt of one operation to change the machine, and where everything about it lies. */
export interface ArmFolder {
  readonly operation: string
  /** From 1; a change that is begun anew gets a folder of its own, so that no old verdict counts for it. */
  readonly round: number
  readonly path: string
}

/** The slots of a round. Their space is taken when the operation is accepted, and surely before anything is touched. */
export const SLOTS = [
  'switch.start',
  'switch.end',
  'switch.lists',
  'runtime.start',
  'back.start',
  'back.end',
  'boot.start',
  'boot.end',
  'claim.agent',
  'deadline',
  'return.end',
] as const
export type SlotName = (typeof SLOTS)[number]

const FOLDER = 'ops'

export function operationFolder(stateDir: string, operation: string): string {
  return join(stateDir, FOLDER, operation)
}

export function armFolder(stateDir: string, operation: string, round: number): ArmFolder {
  return { operation, round, path: join(operationFolder(stateDir, operation), String(round)) }
}

export const slotPath = (folder: ArmFolder, name: SlotName) => join(folder.path, name)

/** Makes the folder of a round with all its slots. */
export async function prepareArmFolder(folder: ArmFolder, stateDir: string): Promise<void> {
  await makePrivateDirectory(folder.path)
  for (const name of SLOTS) await reserveSlot(slotPath(folder, name))
  for (const path of [folder.path, operationFolder(stateDir, folder.operation), join(stateDir, FOLDER)]) {
    await syncDirectory(path)
  }
}

/** Makes the folder of a round that begins: one whose slots were reserved and never used is kept, so that its space is never given up. */
export async function beginArmFolder(folder: ArmFolder, stateDir: string): Promise<void> {
  if (!(await isUnused(folder))) await rm(folder.path, { recursive: true, force: true })
  await prepareArmFolder(folder, stateDir)
}

async function isUnused(folder: ArmFolder): Promise<boolean> {
  const entries = await entriesOf(folder.path)
  const readings = await Promise.all(SLOTS.map(name => readSlot(slotPath(folder, name))))
  return entries.length === SLOTS.length && readings.every(({ kind }) => kind === 'empty')
}

/** Makes the folder for runs of the boot loader's installer that belong to no round. */
export async function prepareBootFolder(folder: ArmFolder, stateDir: string): Promise<void> {
  await makePrivateDirectory(folder.path)
  for (const name of ['boot.start', 'boot.end'] as const) await reserveSlot(slotPath(folder, name))
  for (const path of [operationFolder(stateDir, folder.operation), join(stateDir, FOLDER)]) {
    await syncDirectory(path)
  }
}

/** All operations of which anything is on disk, in no order. */
export async function operationsOnDisk(stateDir: string): Promise<readonly string[]> {
  return await namesIn(join(stateDir, FOLDER))
}

/** All rounds on disk, in no order. */
export async function listArmFolders(stateDir: string): Promise<readonly ArmFolder[]> {
  const found: ArmFolder[] = []
  for (const operation of await operationsOnDisk(stateDir)) {
    for (const name of await namesIn(operationFolder(stateDir, operation))) {
      if (/^[1-9]\d{0,5}$/.test(name)) found.push(armFolder(stateDir, operation, Number(name)))
    }
  }
  return found
}

/** Gives up what a finished operation left, except what `keep` names. */
export async function forgetOperations(stateDir: string, keep: ReadonlySet<string>): Promise<void> {
  for (const operation of await operationsOnDisk(stateDir)) {
    if (!keep.has(operation)) await rm(operationFolder(stateDir, operation), { recursive: true, force: true })
  }
}

async function namesIn(path: string): Promise<readonly string[]> {
  const entries = await entriesOf(path)
  return entries.filter(entry => entry.isDirectory()).map(entry => entry.name)
}

async function entriesOf(path: string): Promise<readonly Dirent[]> {
  try {
    return await readdir(path, { withFileTypes: true })
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return []
    throw error
  }
}
