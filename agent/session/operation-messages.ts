import { toBinary } from '@bufbuild/protobuf'
import { type OperationReport, OperationReportSchema } from '../../shared/gen/muster/v1/operation_pb.ts'
import { sha256Hex } from '../../shared/ids.ts'
import type { Operations } from '../operation/operations.ts'
import type { MessageSource } from './sender.ts'

/**
 * What operations have to tell in one session: each report as often as it changes until it is acknowledged, and their
 * output. A report with an outcome comes after the output, because who follows it stops there.
 */
export function operationMessages(
  operations: Pick<Operations, 'reports' | 'logs' | 'logSent'>,
): MessageSource {
  const told = new Map<string, string>()
  const untold = (reports: readonly OperationReport[]) => {
    for (const report of reports) {
      const digest = sha256Hex(toBinary(OperationReportSchema, report))
      if (told.get(report.operationId) !== digest) return { report, digest }
    }
    return undefined
  }
  return {
    next() {
      const reports = operations.reports()
      for (const id of told.keys()) if (!reports.some(report => report.operationId === id)) told.delete(id)
      const running = untold(reports.filter(report => !report.outcome))
      const lines = running ? undefined : operations.logs()[0]
      if (lines) {
        return { message: { message: { case: 'log', value: lines } }, sent: () => operations.logSent(lines) }
      }
      const found = running ?? untold(reports)
      if (!found) return undefined
      const { report, digest } = found
      return {
        message: { message: { case: 'operation', value: report } },
        sent: () => told.set(report.operationId, digest),
      }
    },
  }
}
