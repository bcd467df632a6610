import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import { readFileIfThere, syncDirectory } from '../../shared/durable-file.ts'
import { loadSigningKey } from '../../shared/envelope/keys.ts'
import { hasCode } from '../../shared/errors.ts'
import type { KnownTrust } from '../../shared/trust/trust-set.ts'
import { FLEET_FILES } from './fleet-folder.ts'

/**
 * Puts a freshly made signing key into its place once the trust set that names it is in force. Also ends a rotation that
 * was cut off in between. The old key stays beside it, named after the last set it belonged to.
 */
export async function adoptKey(folder: string, trust: KnownTrust): Promise<void> {
  const own = join(folder, FLEET_FILES.signingKey)
  const pem = await readFileIfThere(`${own}.next`)
  if (!pem) return
  const { keyId } = loadSigningKey(pem.toString())
  if (!trust.keys.some(key => key.keyId === keyId)) return
  try {
    await rename(own, `${own}.${trust.number - 1}`)
  } catch (error) {
    // A rotation by the recovery key has no old key to keep.
    if (!hasCode(error, 'ENOENT')) throw error
  }
  await rename(`${own}.next`, own)
  await syncDirectory(folder)
}
