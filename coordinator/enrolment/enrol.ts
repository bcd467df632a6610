import type { MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import type { Clock } from '../../shared/clock.ts'
import type { EnrolRequest, EnrolResponseSchema } from '../../shared/gen/muster/v1/enrolment_pb.ts'
import type { Logger } from '../../shared/log.ts'
import type { CallContext } from '../../shared/rpc/definition.ts'
import { keyId } from '../../shared/x509/key-id.ts'
import type { Authorities } from '../authority/authorities.ts'
import { type AdmitDeps, type Admitted, admitMachine } from './admit.ts'
import { type ProveDeps, proveRequest } from './prove.ts'
import type { RefusalLog } from './refusal-log.ts'

export interface EnrolDeps extends ProveDeps, AdmitDeps {
  readonly authorities: Pick<Authorities, 'prepareMachine' | 'list'>
  readonly refusals: RefusalLog
  readonly clock: Clock
  readonly log: Logger
  /** host:port of the fleet listener. */
  readonly fleetAddress: () => string
  /** After how many seconds a waiting machine asks again. */
  readonly waitSeconds: number
}

type Response = MessageInitShape<typeof EnrolResponseSchema>

/** Answers a machine that asks for a certificate. Everything it says is a claim until its proof was checked. */
export function enrol(deps: EnrolDeps) {
  return async (request: EnrolRequest, { peer }: Pick<CallContext, 'peer'>): Promise<Response> => {
    const now = deps.clock.now()
    const proved = await proveRequest(deps, request, peer.address, now.getTime())
    if (proved.kind === 'refuse') return await answer(deps, proved, request, peer.address)
    const admitted = await admitMachine(deps, proved, request.tokenSecret, peer.address, now)
    return await answer(deps, admitted, request, peer.address)
  }
}

async function answer(
  { log, clock, fleetAddress, waitSeconds, refusals, strangers, directory }: EnrolDeps,
  admitted: Admitted,
  request: EnrolRequest,
  address: string,
): Promise<Response> {
  switch (admitted.kind) {
    case 'certificate': {
      const { chainPem, notAfter } = admitted
      const value = { chainPem, notAfter: timestampFromDate(notAfter), fleetAddress: fleetAddress() }
      return { answer: { case: 'certificate', value } }
    }
    case 'wait': {
      const { reason, command } = admitted
      // The more machines wait, the less often each asks: together they stay within what strangers may.
      const retryAfterSeconds = Math.max(waitSeconds, strangers.spreadSeconds(directory.count('pending')))
      return { answer: { case: 'waiting', value: { reason, command, retryAfterSeconds } } }
    }
    case 'refuse': {
      const { reason, retry, retryAfterSeconds, command } = admitted
      const machine = keyId(request.publicKey)
      const unlogged = refusals.takeLine(clock.now())
      if (unlogged !== undefined) {
        const line = { machineId: machine, class: admitted.class, address, ...(unlogged > 0 && { unlogged }) }
        log.info(line, 'enrolment refused')
      }
      // What only tells the machine to come back later is no news to an operator.
      if (admitted.class !== 'nonce' && admitted.class !== 'full') {
        await refusals.record({ machine, class: admitted.class, reason, address })
      }
      const value = { class: admitted.class, reason, retry, retryAfterSeconds, command }
      return { answer: { case: 'refusal', value } }
    }
  }
}
