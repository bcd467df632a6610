import type { OperatorService } from '../../shared/gen/muster/v1/operator_pb.ts'
import type { Peer, ServiceHandlers } from '../../shared/rpc/definition.ts'
import { addOperator } from '../api/add-operator.ts'
import { approveMachine } from '../api/approve-machine.ts'
import { backup } from '../api/backup.ts'
import { banMachine } from '../api/ban-machine.ts'
import { bindHost } from '../api/bind-host.ts'
import type { Caller } from '../api/caller.ts'
import { confirmTrust } from '../api/confirm-trust.ts'
import { createToken } from '../api/create-token.ts'
import { downloadRevisionTree } from '../api/download-revision-tree.ts'
import { evictMachine } from '../api/evict-machine.ts'
import { followLogs } from '../api/follow-logs.ts'
import { getAuditHeads } from '../api/get-audit-heads.ts'
import { getDrift } from '../api/get-drift.ts'
import { getEvidence } from '../api/get-evidence.ts'
import { getFleet } from '../api/get-fleet.ts'
import { getFleetRevision } from '../api/get-fleet-revision.ts'
import { getFleetTrust } from '../api/get-fleet-trust.ts'
import { getHealth } from '../api/get-health.ts'
import { getMachine } from '../api/get-machine.ts'
import { giveOrders } from '../api/give-orders.ts'
import { listEvents } from '../api/list-events.ts'
import { listFactsChanges } from '../api/list-facts-changes.ts'
import { listMachines } from '../api/list-machines.ts'
import { listOperations } from '../api/list-operations.ts'
import { listOperators } from '../api/list-operators.ts'
import { listRevisions } from '../api/list-revisions.ts'
import { listTokens } from '../api/list-tokens.ts'
import { publishRevision } from '../api/publish-revision.ts'
import { query } from '../api/query.ts'
import { rejectMachine } from '../api/reject-machine.ts'
import { releaseMachine } from '../api/release-machine.ts'
import { removeOperator } from '../api/remove-operator.ts'
import { restore } from '../api/restore.ts'
import { revokeToken } from '../api/revoke-token.ts'
import { rotateAuthority } from '../api/rotate-authority.ts'
import { setFleetTrust } from '../api/set-fleet-trust.ts'
import { unbindHost } from '../api/unbind-host.ts'
import { watchOperations } from '../api/watch-operations.ts'
import type { OpenCalls } from './open-calls.ts'
import { operatorsOnly } from './operators-only.ts'

type Deps = Parameters<typeof addOperator>[0] &
  Parameters<typeof approveMachine>[0] &
  Parameters<typeof backup>[0] &
  Parameters<typeof confirmTrust>[0] &
  Parameters<typeof createToken>[0] &
  Parameters<typeof downloadRevisionTree>[0] &
  Parameters<typeof followLogs>[0] &
  Parameters<typeof getAuditHeads>[0] &
  Parameters<typeof getDrift>[0] &
  Parameters<typeof getHealth>[0] &
  Parameters<typeof getFleet>[0] &
  Parameters<typeof getFleetTrust>[0] &
  Parameters<typeof getEvidence>[0] &
  Parameters<typeof giveOrders>[0] &
  Parameters<typeof listMachines>[0] &
  Parameters<typeof listOperators>[0] &
  Parameters<typeof publishRevision>[0] &
  Parameters<typeof query>[0] &
  Parameters<typeof removeOperator>[0] &
  Parameters<typeof restore>[0] &
  Parameters<typeof rotateAuthority>[0] &
  Parameters<typeof setFleetTrust>[0] &
  Parameters<typeof watchOperations>[0] & { readonly openCalls: OpenCalls }

/** What operators may call, and root by the local socket. `callerOf` says who calls. */
export function operatorService(
  deps: Deps,
  callerOf: (peer: Peer) => Caller,
): ServiceHandlers<typeof OperatorService> {
  const { asked, streamed } = operatorsOnly(deps.openCalls, callerOf)
  return {
    getFleet: asked(getFleet(deps)),
    listMachines: asked(listMachines(deps)),
    getMachine: asked(getMachine(deps)),
    approveMachine: asked(approveMachine(deps)),
    rejectMachine: asked(rejectMachine(deps)),
    evictMachine: asked(evictMachine(deps)),
    banMachine: asked(banMachine(deps)),
    releaseMachine: asked(releaseMachine(deps)),
    bindHost: asked(bindHost(deps)),
    unbindHost: asked(unbindHost(deps)),
    createToken: asked(createToken(deps)),
    listTokens: asked(listTokens(deps)),
    revokeToken: asked(revokeToken(deps)),
    getFleetTrust: asked(getFleetTrust(deps)),
    setFleetTrust: asked(setFleetTrust(deps)),
    confirmTrust: asked(confirmTrust(deps)),
    rotateAuthority: asked(rotateAuthority(deps)),
    addOperator: asked(addOperator(deps)),
    listOperators: asked(listOperators(deps)),
    removeOperator: asked(removeOperator(deps)),
    publishRevision: asked(publishRevision(deps)),
    listRevisions: asked(listRevisions(deps)),
    getFleetRevision: asked(getFleetRevision(deps)),
    downloadRevisionTree: streamed(downloadRevisionTree(deps)),
    giveOrders: asked(giveOrders(deps)),
    getEvidence: streamed(getEvidence(deps)),
    listOperations: asked(listOperations(deps)),
    watchOperations: streamed(watchOperations(deps)),
    followLogs: streamed(followLogs(deps)),
    query: streamed(query(deps)),
    getDrift: streamed(getDrift(deps)),
    getHealth: asked(getHealth(deps)),
    listEvents: asked(listEvents(deps)),
    listFactsChanges: asked(listFactsChanges(deps)),
    getAuditHeads: streamed(getAuditHeads(deps)),
    backup: streamed(backup(deps)),
    restore: asked(restore(deps)),
  }
}
