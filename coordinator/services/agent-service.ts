import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import type { AgentService } from '../../shared/gen/muster/v1/agent_pb.ts'
import type { Envelope } from '../../shared/gen/muster/v1/envelope_pb.ts'
import type { Peer, ServiceHandlers } from '../../shared/rpc/definition.ts'
import { denied } from '../../shared/rpc/rpc-error.ts'
import { agentDownloadTree } from '../api/agent-download-tree.ts'
import { agentGetRevision } from '../api/agent-get-revision.ts'
import type { Caller } from '../api/caller.ts'
import { renewCertificate } from '../machines/renew-certificate.ts'
import { type ConfirmDeps, confirmOperation } from '../operations/confirm-operation.ts'
import type { SessionRegistry } from '../sessions/registry.ts'
import type { OpenCalls } from './open-calls.ts'

type Deps = Parameters<typeof agentGetRevision>[0] &
  Parameters<typeof agentDownloadTree>[0] &
  Parameters<typeof renewCertificate>[0] &
  ConfirmDeps & {
    readonly registry: SessionRegistry
    readonly openCalls: OpenCalls
    readonly callerOf: (peer: Peer) => Caller
    readonly trustChain: () => readonly Envelope[]
  }

/** What a machine may call. Each handler is given the machine that the certificate proves, never one that it names. */
export function agentService(deps: Deps): ServiceHandlers<typeof AgentService> {
  const machineOf = (peer: Peer) => {
    const caller = deps.callerOf(peer)
    if (caller.kind !== 'machine') throw denied('only a machine may call this')
    return caller
  }
  const getRevision = agentGetRevision(deps)
  const downloadTree = agentDownloadTree(deps)
  const renew = renewCertificate(deps)
  return {
    session(requests, { peer }) {
      const { id, notAfter, issuer } = machineOf(peer)
      return deps.registry.serve(id, requests, { address: peer.address, notAfter, issuer })
    },
    async renew({ publicKey }, { peer }) {
      const { chainPem, notAfter } = await renew(machineOf(peer).id, publicKey)
      return { chainPem, notAfter: timestampFromDate(notAfter) }
    },
    getRevision: async (request, { peer }) => await getRevision(request, machineOf(peer).id),
    downloadTree: (request, { peer, signal }) =>
      deps.openCalls.stream(machineOf(peer), signal, () => downloadTree(request, machineOf(peer).id)),
    async getTrust(_request, { peer }) {
      machineOf(peer)
      return { trust: { envelopes: [...deps.trustChain()] } }
    },
    confirmOperation: async (request, { peer }) => await confirmOperation(deps, machineOf(peer).id, request),
  }
}
