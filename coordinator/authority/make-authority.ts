import type { Clock } from '../../shared/clock.ts'
import {
  type Authority,
  type AuthorityMaterial,
  createAuthority,
  openAuthority,
} from '../../shared/x509/authority.ts'
import { BACKDATE_MS } from './lifetimes.ts'

const BITS = 3072

/** Makes an authority that begins to count a day ago. It exists in memory only until its caller has written it. */
export async function makeAuthority(
  clock: Clock,
  lifetimeMs: number,
): Promise<{ readonly material: AuthorityMaterial; readonly authority: Authority }> {
  const now = clock.now().getTime()
  const material = await createAuthority({
    notBefore: new Date(now - BACKDATE_MS),
    notAfter: new Date(now + lifetimeMs),
    bits: BITS,
  })
  return { material, authority: openAuthority(material) }
}
