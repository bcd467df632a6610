import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { type GateSchema, RebootPolicy, type Safety, SafetySchema } from '../gen/muster/v1/manifest_pb.ts'
import type { GateProbe } from '../revision/safety.ts'
import { durationFromMs } from '../time.ts'
import type { SafetySettings } from './fleet.ts'

/** What of the file goes into a target: as much as is written, so that what is left open follows the agent. */
export function safetyMessage(settings: SafetySettings): Safety {
  const { soakMs, confirmWithinMs, confirm, reboot, trial, toleratedUnits, gates } = settings
  return create(SafetySchema, {
    ...(soakMs === undefined ? {} : { soak: durationFromMs(soakMs) }),
    ...(confirmWithinMs === undefined ? {} : { confirmWithin: durationFromMs(confirmWithinMs) }),
    confirmLocally: confirm === 'local',
    reboot: reboot === undefined ? RebootPolicy.UNSPECIFIED : policies[reboot],
    noTrial: trial === 'none',
    toleratedUnits: [...toleratedUnits],
    gates: gates.map(({ name, deadlineMs, probe }) => ({
      name,
      ...(deadlineMs === undefined ? {} : { deadline: durationFromMs(deadlineMs) }),
      probe: probeMessage(probe),
    })),
  })
}

/** Whether a message says anything at all: a target without any safety has the bytes it always had. */
export function saysNothing(settings: SafetySettings): boolean {
  const { soakMs, confirmWithinMs, confirm, reboot, trial, toleratedUnits, gates } = settings
  return (
    soakMs === undefined &&
    confirmWithinMs === undefined &&
    confirm !== 'local' &&
    reboot === undefined &&
    trial !== 'none' &&
    toleratedUnits.length === 0 &&
    gates.length === 0
  )
}

const policies = {
  never: RebootPolicy.NEVER,
  required: RebootPolicy.REQUIRED,
  'whenever-changed': RebootPolicy.WHENEVER_CHANGED,
} as const

type ProbeInit = NonNullable<MessageInitShape<typeof GateSchema>['probe']>

function probeMessage(probe: GateProbe): ProbeInit {
  switch (probe.kind) {
    case 'units':
      return { case: 'units', value: { units: [...probe.units] } }
    case 'http': {
      const { url, status, contains } = probe
      return { case: 'http', value: { url, status: status ?? 0, contains: contains ?? '' } }
    }
    case 'tcp': {
      const host = probe.host.includes(':') ? `[${probe.host}]` : probe.host
      return { case: 'tcp', value: { address: `${host}:${probe.port}` } }
    }
    case 'disk':
      return { case: 'disk', value: { path: probe.path, freeBytes: BigInt(probe.freeBytes) } }
    case 'reach':
      return { case: 'reach', value: { hosts: [...probe.hosts] } }
    case 'script':
      return { case: 'script', value: { path: probe.path, arguments: [...probe.arguments] } }
  }
}
