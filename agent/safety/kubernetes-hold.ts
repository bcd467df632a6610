import { rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import {
  makePrivateDirectory,
  readFileIfThere,
  syncDirectory,
  writeFileDurably,
} from '../../shared/durable-file.ts'
import { readClusterFacts } from '../drivers/cluster-facts.ts'
import { startUnits } from '../drivers/node/services.ts'
import type { System } from '../system/system.ts'

/** A text that no other keeper of the file writes. */
const OURS = /^change (\S+)\n$/

const holdPath = (stateDir: string) => join(stateDir, 'cluster', 'hold')

/**
 * Keeps Kubernetes from being started until the change is settled, over boots too. What runs goes on running. "others":
 * somebody else holds it down already, who will let it go. Durable when it returns.
 */
export async function holdForChange(stateDir: string, operation: string): Promise<'ours' | 'others'> {
  const path = holdPath(stateDir)
  const before = (await readFileIfThere(path))?.toString('utf8')
  // One change runs at a time: a hold of an earlier one was left behind.
  if (before !== undefined && !OURS.test(before)) return 'others'
  await makePrivateDirectory(join(stateDir, 'cluster'))
  await writeFileDurably(path, `change ${operation}\n`)
  return 'ours'
}

/** Whose change keeps Kubernetes down; undefined: none does. */
export async function holderOf(stateDir: string): Promise<string | undefined> {
  return await ownerIn(holdPath(stateDir))
}

async function ownerIn(path: string): Promise<string | undefined> {
  const text = (await readFileIfThere(path))?.toString('utf8')
  return text === undefined ? undefined : (OURS.exec(text)?.[1] ?? 'others')
}

/** Takes the hold of one change away, and no other. */
export async function endHold(stateDir: string, operation: string): Promise<void> {
  if ((await holderOf(stateDir)) === operation) await remove(holdPath(stateDir))
}

async function remove(path: string): Promise<void> {
  await rm(path, { force: true })
  await syncDirectory(dirname(path))
}

/**
 * Lets the Kubernetes of the system that runs now start again, once a change has come to nothing. What runs is left alone.
 * Needs no agent; may be cut between any two lines and be called again.
 */
export async function letKubernetesGo(
  system: System,
  stateDir: string,
  operation: string,
  say: (line: string) => void,
): Promise<void> {
  const [hold, going] = [holdPath(stateDir), join(stateDir, 'cluster', 'let-go')]
  if ((await holderOf(stateDir)) === operation) {
    // Down no more, and not yet started: in one step, so that whoever comes after a cut knows it.
    await rename(hold, going)
    await syncDirectory(dirname(hold))
  }
  if ((await ownerIn(going)) !== operation) return
  const facts = await readClusterFacts(system)
  if (facts.kind === 'facts') {
    const started = await startUnits(system, facts.facts.units)
    say(
      started.kind === 'done'
        ? 'Kubernetes of the system that runs may start again'
        : `Kubernetes of the system that runs could not be started: ${started.reason}`,
    )
  }
  await remove(going)
}
