import type { StepReport } from './absorb-report.ts'
import type { ClusterRecord } from './cluster-record.ts'

/** What a report says of an operation, for the list of events; undefined: nothing that people need to know. */
export function describeReport(
  before: ClusterRecord,
  operation: string,
  report: StepReport,
): { readonly host: string; readonly text: string } | undefined {
  const what = operationOf(before, operation)
  if (!what) return undefined
  const { host, verb } = what
  switch (report.kind) {
    case 'minted':
      return { host, text: `the token for ${host} is minted (operation ${operation})` }
    case 'received':
      return { host, text: `${host} has its token (operation ${operation})` }
    case 'deleted':
      return { host, text: `the token of ${host} is gone, as a listing shows (operation ${operation})` }
    case 'ended': {
      const { done, reason = '' } = report
      const how = done ? 'is done' : `failed${reason === '' ? '' : `: ${reason}`}`
      return { host, text: `${verb} ${host} ${how} (operation ${operation})` }
    }
  }
}

function operationOf({ founding, joins, clears, leaves }: ClusterRecord, operation: string) {
  if (founding?.operation === operation) return { host: founding.host, verb: 'founding on' }
  const join = joins.find(each => each.operation === operation)
  if (join) return { host: join.host, verb: 'joining of' }
  const clear = clears.find(each => each.operation === operation)
  if (clear) return { host: clear.host, verb: 'clearing what was left of' }
  const leave = leaves.find(({ attempt }) => attempt?.operation === operation)
  return leave && { host: leave.host, verb: 'leaving of' }
}
