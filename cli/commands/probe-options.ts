import type { MessageInitShape } from '@bufbuild/protobuf'
import type { LiveProbeSchema } from '../../shared/gen/muster/v1/probe_pb.ts'
import { durationFromMs } from '../../shared/time.ts'
import { isUnitName } from '../../shared/unit-name.ts'
import { CliError } from '../exit-codes.ts'

export const PROBES = ['units', 'disks', 'ports', 'journal'] as const
type ProbeName = (typeof PROBES)[number]

type Probe = MessageInitShape<typeof LiveProbeSchema>['probe'] & { readonly case?: ProbeName }

/** `--probe WHAT[=VALUE]`: the same thing said several times asks for all of its values. */
export function readProbeOptions(options: {
  readonly probe?: readonly string[] | undefined
  readonly lines?: number | undefined
  readonly since?: number | undefined
}): readonly { readonly probe: Probe }[] {
  const asked = new Map<ProbeName, string[]>()
  for (const text of options.probe ?? []) {
    const at = text.indexOf('=')
    const word = at < 0 ? text : text.slice(0, at)
    const name = PROBES.find(known => known === word)
    if (name === undefined) throw usage(`--probe ${text}: asks for none of ${PROBES.join(', ')}`)
    const values = asked.get(name) ?? []
    asked.set(name, at < 0 ? values : [...values, text.slice(at + 1)])
  }
  if (!asked.has('journal') && (options.lines !== undefined || options.since !== undefined)) {
    throw usage('--lines and --since are for --probe journal=UNIT')
  }
  return [...asked].map(([name, values]) => ({ probe: probeOf(name, values, options) }))
}

function probeOf(
  name: ProbeName,
  values: readonly string[],
  { lines, since }: { readonly lines?: number | undefined; readonly since?: number | undefined },
): Probe {
  switch (name) {
    case 'units':
      return { case: name, value: { patterns: [...values] } }
    case 'disks':
      return { case: name, value: { paths: [...values] } }
    case 'ports':
      if (values.length > 0) throw usage('--probe ports: takes no value; choose with the expression')
      return { case: name, value: {} }
    case 'journal': {
      const [unit = '', ...others] = values
      if (unit === '' || others.length > 0) {
        throw usage('--probe journal=UNIT: names one unit, such as journal=sshd.service')
      }
      const whole = isUnitName(unit) ? unit : `${unit}.service`
      if (!isUnitName(whole)) throw usage(`--probe journal=${unit}: is no name of a unit`)
      const long = since === undefined ? {} : { since: durationFromMs(since) }
      return { case: name, value: { unit: whole, lines: lines ?? 0, ...long } }
    }
  }
}

function usage(text: string): CliError {
  return new CliError('usage', text)
}
