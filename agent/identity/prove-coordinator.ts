import { reasonOf } from '../../shared/errors.ts'
import { parseHostPort } from '../../shared/host-port.ts'
import { type ChainFault, verifyPinnedChain } from '../../shared/x509/pinned-chain.ts'
import { readServerChain } from '../../shared/x509/server-chain.ts'

export type CoordinatorProof =
  | { readonly ok: true; readonly caPem: string; readonly pin: string }
  | { readonly ok: false; readonly fault: ChainFault | 'unreachable'; readonly reason: string }

/**
 * Proves that the server at an address belongs to a trusted authority, before anything is sent to it. What follows must
 * use the authority given back as its only root.
 */
export async function proveCoordinator(
  input: {
    readonly address: string
    readonly pins: readonly string[]
    readonly now: Date
    readonly timeoutMs: number
  },
  signal: AbortSignal,
): Promise<CoordinatorProof> {
  const { address, pins, now, timeoutMs } = input
  const parsed = parseHostPort(address)
  if (!parsed) return { ok: false, fault: 'malformed', reason: `${address} is not host:port` }
  let chain: readonly Buffer[]
  try {
    chain = await readServerChain({ ...parsed, timeoutMs, signal })
  } catch (error) {
    return { ok: false, fault: 'unreachable', reason: `${address} cannot be reached: ${reasonOf(error)}` }
  }
  return verifyPinnedChain(chain, pins, parsed.host, now)
}
