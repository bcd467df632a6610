import { chmod, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { makePrivateDirectory, readFileIfThere, writeFileDurably } from '../../shared/durable-file.ts'
import { hasCode, reasonOf } from '../../shared/errors.ts'
import { lockDirectory, OWN_FILE_SYSTEM, readBootId } from '../../shared/process-lock.ts'
import { type MachineIdentity, makeIdentity, readIdentity } from '../identity/machine-identity.ts'
import { AgentStateFile } from './agent-state.ts'
import { countThisBoot } from './boot-count.ts'
import { StateError } from './state-error.ts'

const PROBE = '.write-probe'

export interface StateDirectory extends AsyncDisposable {
  readonly path: string
  readonly state: AgentStateFile
  readonly identity: MachineIdentity
}

export interface OpenStateOptions {
  readonly keyBits: number
  /** Files of other parts that must exist before the key does, so that a key without them means that they were lost. */
  readonly prepare?: (directory: string) => Promise<void>
  /** Tests bring their own boots. */
  readonly bootId?: string
}

/**
 * Opens the agent's one directory, locked, and makes the machine's key at the first start. The order of the files tells
 * a first start cut short from a loss: `state.json` comes first, then the key, then the key's id in `state.json`.
 */
export async function openStateDirectory(path: string, options: OpenStateOptions): Promise<StateDirectory> {
  await makePrivateDirectory(path)
  await closeToOthers(path)
  // Which also proves that the file system makes hard links: verdicts of operations rest on them.
  const lock = await lockDirectory(path, 'muster-agent')
  try {
    await proveRoom(path)
    const state = await openState(path, options)
    const identity = await openIdentity(path, state, options.keyBits)
    await countThisBoot(path, state, options.bootId ?? (await readBootId()))
    return { path, state, identity, [Symbol.asyncDispose]: () => lock[Symbol.asyncDispose]() }
  } catch (error) {
    await lock[Symbol.asyncDispose]()
    throw error
  }
}

async function closeToOthers(path: string): Promise<void> {
  const isOpen = async () => ((await stat(path)).mode & 0o077) !== 0
  if (!(await isOpen())) return
  try {
    await chmod(path, 0o700)
  } catch (error) {
    throw new StateError(`${path}: cannot be closed to others (${reasonOf(error)}): ${OWN_FILE_SYSTEM}`, {
      cause: error,
    })
  }
  // Some file systems take it and do nothing.
  if (await isOpen()) throw new StateError(`${path}: stays open to others: ${OWN_FILE_SYSTEM}`)
}

/** A machine that has its certificate starts on a full disk, too: what it must write meanwhile has its room already, and it can be helped. */
async function proveRoom(path: string): Promise<void> {
  try {
    await proveWritable(path)
  } catch (error) {
    const isFull = error instanceof StateError && hasCode(error.cause, 'ENOSPC')
    if (!isFull || !(await readFileIfThere(join(path, 'certificate.pem')))) throw error
    await rm(join(path, PROBE), { force: true })
  }
}

async function openState(path: string, options: OpenStateOptions): Promise<AgentStateFile> {
  const known = await AgentStateFile.open(path)
  if (known) return known
  for (const name of ['key.pem', 'certificate.pem', 'trust.json']) {
    if (await readFileIfThere(join(path, name))) {
      throw new StateError(
        `${path}: state.json is missing beside ${name}, so this machine’s counters are lost. Put it back from a backup; or, to enrol as a new machine, remove the whole directory`,
      )
    }
  }
  await options.prepare?.(path)
  return AgentStateFile.create(path)
}

async function openIdentity(path: string, state: AgentStateFile, keyBits: number): Promise<MachineIdentity> {
  const known = await readIdentity(path)
  const { machine } = state.current
  if (machine !== undefined && !known) {
    throw new StateError(
      `${join(path, 'key.pem')}: is missing, and this machine was known by it. Put it back from a backup; or, to enrol as a new machine, remove the whole directory`,
    )
  }
  const identity = known ?? (await makeIdentity(path, keyBits))
  if (machine !== undefined && machine !== identity.id) {
    throw new StateError(
      `${join(path, 'key.pem')}: is the key of ${identity.id}, state.json belongs to ${machine}`,
    )
  }
  if (machine === undefined) await state.update(before => ({ ...before, machine: identity.id }))
  return identity
}

/** A certificate that cannot be kept must not be asked for: a token would be spent on it. */
export async function proveWritable(path: string): Promise<void> {
  const probe = join(path, PROBE)
  try {
    await writeFileDurably(probe, 'probe\n')
    await rm(probe, { force: true })
  } catch (error) {
    throw new StateError(`${path}: cannot be written: ${reasonOf(error)}`, { cause: error })
  }
}
