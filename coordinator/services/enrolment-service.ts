import type { EnrolmentService } from '../../shared/gen/muster/v1/enrolment_pb.ts'
import type { ServiceHandlers } from '../../shared/rpc/definition.ts'
import { begin } from '../enrolment/begin.ts'
import { enrol } from '../enrolment/enrol.ts'
import { reportFailure } from '../enrolment/report-failure.ts'

type Deps = Parameters<typeof begin>[0] & Parameters<typeof enrol>[0] & Parameters<typeof reportFailure>[0]

/** What strangers may call. */
export function enrolmentService(deps: Deps): ServiceHandlers<typeof EnrolmentService> {
  return { begin: begin(deps), enrol: enrol(deps), reportFailure: reportFailure(deps) }
}
