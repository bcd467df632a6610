import type { Duration } from '@bufbuild/protobuf/wkt'
import { type Gate, RebootPolicy, type Safety } from '../gen/muster/v1/manifest_pb.ts'
import { msFromDuration } from '../time.ts'

/** What a target says of safety, field by field as people know it; what it leaves open is left out. */
export function describeSafety(
  safety: Safety | undefined,
): readonly (readonly [field: string, text: string])[] {
  if (safety === undefined) return []
  const { soak, confirmWithin, confirmLocally, reboot, noTrial, toleratedUnits, gates } = safety
  const policies: ReadonlyMap<RebootPolicy, string> = new Map([
    [RebootPolicy.NEVER, 'never'],
    [RebootPolicy.REQUIRED, 'required'],
    [RebootPolicy.WHENEVER_CHANGED, 'whenever-changed'],
  ])
  const parts: readonly (readonly [string, string])[] = [
    ['soak', seconds(soak)],
    ['confirm within', seconds(confirmWithin)],
    ['confirm', confirmLocally ? 'local' : ''],
    ['reboot', policies.get(reboot) ?? ''],
    ['trial', noTrial ? 'none' : ''],
    ['tolerated units', toleratedUnits.join(' ')],
    ['gates', gates.map(({ name }) => name).join(' ')],
    ...gates.map(gate => [`gate ${gate.name}`, describeGate(gate)] as const),
  ]
  return parts.filter(([, text]) => text !== '')
}

function describeGate({ probe, deadline }: Gate): string {
  const within = deadline === undefined ? '' : `, deadline ${seconds(deadline)}`
  return `${describeProbe(probe)}${within}`
}

function describeProbe(probe: Gate['probe']): string {
  switch (probe.case) {
    case 'units':
      return `units ${probe.value.units.join(' ')}`
    case 'http': {
      const { url, status, contains } = probe.value
      const of = [
        ...(status === 0 ? [] : [`status ${status}`]),
        ...(contains === '' ? [] : [`contains ${JSON.stringify(contains)}`]),
      ]
      return `http ${[url, ...of].join(', ')}`
    }
    case 'tcp':
      return `tcp ${probe.value.address}`
    case 'disk':
      return `disk ${probe.value.path}, ${probe.value.freeBytes} bytes free`
    case 'reach':
      return `reach ${probe.value.hosts.join(' ')}`
    case 'script':
      return `script ${[probe.value.path, ...probe.value.arguments.map(word => JSON.stringify(word))].join(' ')}`
    case undefined:
      return 'asks nothing that is known here'
  }
}

function seconds(duration: Duration | undefined): string {
  return duration === undefined ? '' : `${msFromDuration(duration) / 1_000} s`
}
