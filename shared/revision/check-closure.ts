import type { ClosureFetch } from '../gen/muster/v1/manifest_pb.ts'
import { isDigest } from '../ids.ts'

const MAX_SOURCES = 16

/** What is wrong with a closure that a machine shall fetch; undefined: nothing. */
export function checkClosure(place: string, closure: ClosureFetch): string | undefined {
  const { storePath, substituters, publicKeys, closureDigest } = closure
  if (!/^\/nix\/store\/[0-9a-df-np-sv-z]{32}-[0-9A-Za-z+._?=-]{1,211}$/.test(storePath)) {
    return `${place} closure store_path: must be one path right below /nix/store`
  }
  if (!isDigest(closureDigest)) return `${place} closure closure_digest: must be 64 lower-case hex characters`
  if (substituters.length > MAX_SOURCES || publicKeys.length > MAX_SOURCES) {
    return `${place} closure: at most ${MAX_SOURCES} substituters and ${MAX_SOURCES} public keys are allowed`
  }
  // These become words of an option of Nix, which are separated by white space.
  if ([...substituters, ...publicKeys].some(text => text === '' || /[\s\p{Cc}]/u.test(text))) {
    return `${place} closure: a substituter or public key is empty or has white space in it`
  }
  return publicKeys.length === 0 ? `${place} closure public_keys: at least one is needed` : undefined
}
