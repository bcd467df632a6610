import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import type { Clock } from '../../shared/clock.ts'
import { PROTOCOL_MAX, PROTOCOL_MIN, VERSION } from '../../shared/version.ts'
import type { Operations } from '../operation/operations.ts'
import type { AgentStateFile } from '../state/agent-state.ts'
import type { TrustStore } from '../trust/trust-store.ts'
import type { Outgoing } from './sender.ts'

export interface HelloDeps {
  readonly state: AgentStateFile
  readonly operations: Operations
  readonly trust: TrustStore
  readonly clock: Clock
  readonly allowed: readonly string[]
  readonly simulated: boolean
}

/** The first message: who this machine is, and everything that must never go backwards. */
export function makeHello(deps: HelloDeps, instance: string): Outgoing {
  const { state, operations, trust, clock, allowed, simulated } = deps
  const { highest, highestDigest, host } = operations.memory()
  const { factsDigest, bootId, bootCount, auditHeads, host: toldHost } = state.current
  const { acknowledged, untold } = operations.told()
  const head = auditHeads.at(-1)
  return {
    message: {
      case: 'hello',
      value: {
        protocolMin: PROTOCOL_MIN,
        protocolMax: PROTOCOL_MAX,
        version: VERSION,
        factsDigest,
        bootId,
        bootCount: BigInt(bootCount),
        journalSequence: operations.journalSequence(),
        highestRevision: highest,
        highestDigest,
        // Before its first operation it is the host that it was told last.
        host: host || toldHost,
        instance,
        trust: trust.report(),
        now: timestampFromDate(clock.now()),
        allowed: [...allowed],
        simulated,
        acknowledged,
        ...(head && { auditHead: { id: BigInt(head.id), hash: head.hash } }),
        untold: untold.map(({ operationId, acceptedAt }) => ({
          operationId,
          accepted: timestampFromDate(acceptedAt),
        })),
      },
    },
  }
}
