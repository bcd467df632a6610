import type { Clock } from '../../shared/clock.ts'
import { AgentService } from '../../shared/gen/muster/v1/agent_pb.ts'
import { createClient, type RpcClient } from '../../shared/rpc/client.ts'
import { unavailable } from '../../shared/rpc/rpc-error.ts'
import { createClientCredentials } from '../../shared/x509/client-credentials.ts'
import type { CertificateStore } from '../identity/certificate-store.ts'
import { CHANNEL_OPTIONS } from '../identity/channel-options.ts'
import { type CoordinatorProof, proveCoordinator } from '../identity/prove-coordinator.ts'
import type { Pins } from '../identity/token.ts'
import type { OperationsLink } from '../operation/context.ts'
import type { StateDirectory } from '../state/state-directory.ts'
import { type TrustStore, trustedPins } from '../trust/trust-store.ts'
import { fleetAddresses } from './addresses.ts'
import { trustedRoots } from './authorities.ts'

export interface FleetLinkDeps {
  readonly directory: StateDirectory
  readonly certificates: CertificateStore
  readonly trust: TrustStore
  readonly pins: Pins
  readonly clock: Clock
  readonly connectMs: number
}

export type FleetClient = RpcClient<typeof AgentService>

/** The way to the fleet listener: which address, which roots, which certificate, at this moment. */
export class FleetLink implements OperationsLink {
  readonly #deps: FleetLinkDeps
  #turn = 0
  #connected = false

  constructor(deps: FleetLinkDeps) {
    this.#deps = deps
  }

  /** The address in turn; undefined before the first enrolment. */
  get address(): string | undefined {
    const { directory, trust } = this.#deps
    const all = fleetAddresses(directory.state.current.fleetAddress, trust.current?.set.coordinators ?? [])
    return all[this.#turn % Math.max(1, all.length)]
  }

  nextAddress(): void {
    this.#turn += 1
  }

  /** A client with a connection of its own. Throws UNAVAILABLE while this machine has no way to the fleet. */
  open(): FleetClient {
    const { certificates, directory } = this.#deps
    const held = certificates.current
    const { address } = this
    if (!held || address === undefined) throw unavailable('this machine is not enrolled')
    const caPem = trustedRoots(directory.state.current.authorities, this.#pins())
    if (caPem.length === 0) throw unavailable('no authority that is trusted now has been seen yet')
    const identity = { chainPem: held.chainPem, privateKeyPem: directory.identity.privateKeyPem }
    return createClient(AgentService, address, createClientCredentials({ caPem, identity }), CHANNEL_OPTIONS)
  }

  /**
   * Looks at who answers at the address in turn. An authority that is trusted but was not seen before is kept: that is how
   * a machine follows the fleet to a new one.
   */
  async inspect(signal: AbortSignal): Promise<CoordinatorProof & { readonly learnt: boolean }> {
    const { directory, clock, connectMs } = this.#deps
    const { address = '' } = this
    const proof = await proveCoordinator(
      { address, pins: this.#pins(), now: clock.now(), timeoutMs: connectMs },
      signal,
    )
    const learnt = proof.ok && !directory.state.current.authorities.includes(proof.caPem)
    if (proof.ok && learnt) {
      await directory.state.update(state => ({ ...state, authorities: [...state.authorities, proof.caPem] }))
    }
    return { ...proof, learnt }
  }

  #pins(): readonly string[] {
    const { trust, pins } = this.#deps
    return trustedPins(trust.current, pins.caPin)
  }

  setConnected(connected: boolean): void {
    this.#connected = connected
  }

  connected(): boolean {
    return this.#connected
  }

  async getRevision(number: bigint, signal: AbortSignal) {
    using client = this.open()
    return await client.getRevision({ number }, { signal, deadlineMs: this.#deps.connectMs })
  }

  /** Over a connection of its own: what it shows is that one can be made now. */
  async confirmOperation(request: Parameters<OperationsLink['confirmOperation']>[0], signal: AbortSignal) {
    using client = this.open()
    return await client.confirmOperation(request, { signal, deadlineMs: this.#deps.connectMs })
  }

  async *downloadTree(number: bigint, offset: bigint, signal: AbortSignal): AsyncIterable<Uint8Array> {
    using client = this.open()
    for await (const { chunk } of client.downloadTree({ number, offset }, { signal })) yield chunk
  }
}
