import { create } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import {
  type SecretBinding as BindingMessage,
  ClusterRole,
  SecretBindingSchema,
  SecretPurpose,
} from '../gen/muster/v1/cluster_pb.ts'
import { isDigest } from '../ids.ts'
import { millisOf } from '../time.ts'

/** What a secret is bound to: who may open it, for what, from whom and until when. Times in milliseconds since 1970. */
export interface SecretBinding {
  readonly purpose: SecretPurpose
  readonly fleetId: string
  readonly cluster: string
  readonly role: ClusterRole
  /** SHA-256 (hex) of the SubjectPublicKeyInfo of the key that opens it. */
  readonly recipient: string
  /** The same of the machine that minted it. */
  readonly minter: string
  readonly operationId: string
  readonly mintedMs: number
  readonly expiresMs: number
}

/** No secret is good for longer, whatever its minter says. */
export const MAX_LIFETIME_MS = 60 * 60_000
const MAX_NAME_CHARS = 128

export type BindingReading =
  | { readonly ok: true; readonly binding: SecretBinding }
  | { readonly ok: false; readonly reason: string }

/** Reads a binding that came from elsewhere. Every part must be there and have its form: none has a default. */
export function readBinding(message: BindingMessage | undefined): BindingReading {
  if (!message) return bad('binding: missing')
  const { purpose, fleetId, cluster, role, recipient, minter, operationId } = message
  const mintedMs = wholeMillis(message.minted)
  const expiresMs = wholeMillis(message.expires)
  if (mintedMs === undefined) return bad('minted: missing, or no time in whole milliseconds')
  if (expiresMs === undefined) return bad('expires: missing, or no time in whole milliseconds')
  const binding = { purpose, fleetId, cluster, role, recipient, minter, operationId, mintedMs, expiresMs }
  const problem = bindingProblem(binding)
  return problem === undefined ? { ok: true, binding } : bad(problem)
}

/** What is wrong with a binding; undefined: nothing. */
export function bindingProblem(binding: SecretBinding): string | undefined {
  const { purpose, fleetId, cluster, role, recipient, minter, operationId, mintedMs, expiresMs } = binding
  if (!(purpose in PURPOSES)) return 'purpose: is none that is known'
  if (!(role in ROLES)) return 'role: is none that is known'
  if (PURPOSES[purpose] !== ROLES[role]) return 'role: does not go with the purpose'
  for (const [name, text] of Object.entries({ fleetId, cluster, operationId })) {
    if (!isName(text)) return `${name}: wanted 1 to ${MAX_NAME_CHARS} printable characters without a space`
  }
  if (!isDigest(recipient)) return 'recipient: wanted 64 lower-case hex characters'
  if (!isDigest(minter)) return 'minter: wanted 64 lower-case hex characters'
  const lifetime = expiresMs - mintedMs
  if (!Number.isSafeInteger(mintedMs) || !Number.isSafeInteger(expiresMs))
    return 'expires: is no whole number'
  if (lifetime <= 0 || lifetime > MAX_LIFETIME_MS) {
    return `expires: ${lifetime / 1000} s after it was minted, wanted more than 0 and at most ${MAX_LIFETIME_MS / 1000}`
  }
  return undefined
}

export function bindingMessage({ mintedMs, expiresMs, ...rest }: SecretBinding): BindingMessage {
  return create(SecretBindingSchema, {
    ...rest,
    minted: timestampFromMs(mintedMs),
    expires: timestampFromMs(expiresMs),
  })
}

/** The text that both encryptions are bound to, as `proto/muster/v1/cluster.proto` documents it. */
export function bindingText(binding: SecretBinding): Buffer {
  const { purpose, fleetId, cluster, role, recipient, minter, operationId, mintedMs, expiresMs } = binding
  const parts = [purpose, fleetId, cluster, role, recipient, minter, operationId, mintedMs, expiresMs]
  return Buffer.from(`muster secret v1\n${parts.map(part => `${part}\n`).join('')}`)
}

/** Which purposes are known, and whether each goes with a role. */
const PURPOSES: Partial<Record<SecretPurpose, boolean>> = {
  [SecretPurpose.JOIN]: true,
  [SecretPurpose.AUTHORITY]: true,
  [SecretPurpose.KUBECONFIG]: false,
  [SecretPurpose.NEXT_TOKEN]: true,
}
const ROLES: Record<ClusterRole, boolean> = {
  [ClusterRole.UNSPECIFIED]: false,
  [ClusterRole.SERVER]: true,
  [ClusterRole.WORKER]: true,
  [ClusterRole.SERVER_AND_WORKER]: true,
}

/** Without line feeds, so that where a part ends in the text is never in doubt. */
function isName(text: string): boolean {
  return text.length <= MAX_NAME_CHARS && /^[!-~]+$/.test(text)
}

function wholeMillis(time: BindingMessage['minted']): number | undefined {
  return time && time.nanos % 1_000_000 === 0 ? millisOf(time) : undefined
}

function bad(reason: string): BindingReading {
  return { ok: false, reason }
}
