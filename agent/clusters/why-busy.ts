import { type OperationReport, Phase } from '../../shared/gen/muster/v1/operation_pb.ts'

/** Why nothing may change the machine's part in its cluster now; undefined: no operation is changing the system. */
export function whyBusy(operations: readonly OperationReport[]): string | undefined {
  const changing = operations.find(
    ({ outcome, phases }) => !outcome && phases.some(({ phase }) => CHANGING.has(phase)),
  )
  return changing && `operation ${changing.operationId} is changing the system of this machine`
}

const CHANGING: ReadonlySet<Phase> = new Set([
  Phase.ARM,
  Phase.ACTIVATE,
  Phase.REBOOT,
  Phase.PROVE,
  Phase.CONFIRM,
  Phase.PROMOTE,
  Phase.RETURN,
  Phase.KUBERNETES,
])
