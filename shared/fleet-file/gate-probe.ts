import { parseHostPort } from '../host-port.ts'
import type { GateProbe } from '../revision/safety.ts'
import type { GateSettings, JobGateSettings } from './fleet.ts'
import type { GateTable } from './read-sections.ts'

/** The keys that say what a gate asks for; it has exactly one of them. */
export const probeKinds = ['units', 'http', 'tcp', 'disk', 'reach', 'script', 'job'] as const

/** The Job of a gate of clusters; undefined: it asks something else. */
export function jobGateSettings({ name, table: { values } }: GateTable): JobGateSettings | undefined {
  const { job, deadline } = values
  return job && { name, deadlineMs: deadline?.value, path: job.value }
}

/** What a gate asks of a host; undefined when its table does not say, or asks it of a cluster. */
export function gateSettings({ name, table: { values } }: GateTable): GateSettings | undefined {
  const probe = probeOf(values)
  return probe && { name, deadlineMs: values.deadline?.value, probe }
}

function probeOf(values: GateTable['table']['values']): GateProbe | undefined {
  const { units, http, tcp, disk, free, reach, script } = values
  if (units) return { kind: 'units', units: units.value }
  if (http) {
    const { status, contains } = values
    return { kind: 'http', url: http.value, status: status?.value, contains: contains?.value }
  }
  if (tcp) {
    const parsed = parseHostPort(tcp.value)
    return parsed && { kind: 'tcp', ...parsed }
  }
  if (disk) return free && { kind: 'disk', path: disk.value, freeBytes: free.value }
  if (reach) return { kind: 'reach', hosts: reach.value }
  return script && { kind: 'script', path: script.value, arguments: values.arguments?.value ?? [] }
}
