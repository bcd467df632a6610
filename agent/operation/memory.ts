import { join } from 'node:path'
import { makePrivateDirectory, readFileIfThere, writeFileDurably } from '../../shared/durable-file.ts'
import { reasonOf } from '../../shared/errors.ts'
import { freshMemory, type KnownMemory, type RevisionMemory } from '../../shared/revision/judge-revision.ts'

const FILE = 'revisions.json'

/**
 * Writes the record of accepted revisions for a machine that has none: to be called before the machine makes its key,
 * so that a key without a record always means a lost record. An existing record is left as it is.
 */
export async function initialiseMemory(stateDir: string): Promise<void> {
  await makePrivateDirectory(stateDir)
  const known = await readFileIfThere(join(stateDir, FILE))
  if (known === undefined) await writeMemory(stateDir, freshMemory)
}

/** What this node remembers of the revisions it accepted. Missing and unreadable are told apart, and neither is zero. */
export async function readMemory(stateDir: string): Promise<RevisionMemory> {
  try {
    const bytes = await readFileIfThere(join(stateDir, FILE))
    return bytes === undefined ? { kind: 'missing' } : parseMemory(bytes.toString('utf8'))
  } catch (error) {
    return { kind: 'unreadable', reason: reasonOf(error) }
  }
}

/** Replaces the record; durable when it returns. */
export async function writeMemory(stateDir: string, memory: KnownMemory): Promise<void> {
  const { highest, highestDigest, floor, host } = memory
  await writeFileDurably(
    join(stateDir, FILE),
    `${JSON.stringify({ v: 1, highest, highestDigest, floor, host })}\n`,
  )
}

function parseMemory(text: string): RevisionMemory {
  const parsed: unknown = JSON.parse(text)
  const fields = typeof parsed === 'object' && parsed !== null ? new Map(Object.entries(parsed)) : new Map()
  const [v, highest, floor] = ['v', 'highest', 'floor'].map(name => fields.get(name))
  const highestDigest = fields.get('highestDigest')
  const host = fields.get('host')
  if (v !== 1) return { kind: 'unreadable', reason: `${FILE}: v: this program knows 1` }
  if (!Number.isSafeInteger(highest) || !Number.isSafeInteger(floor) || typeof highestDigest !== 'string') {
    return {
      kind: 'unreadable',
      reason: `${FILE}: highest, floor or highestDigest is missing or of the wrong type`,
    }
  }
  if (host !== undefined && typeof host !== 'string') {
    return { kind: 'unreadable', reason: `${FILE}: host: must be text` }
  }
  return { kind: 'known', highest, floor, highestDigest, host }
}
