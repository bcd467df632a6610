import type { Duration } from '@bufbuild/protobuf/wkt'
import {
  type Gate as GateMessage,
  RebootPolicy,
  type Safety as SafetyMessage,
} from '../gen/muster/v1/manifest_pb.ts'
import { parseHostPort } from '../host-port.ts'
import { msFromDuration } from '../time.ts'
import { isHostName } from './host-name.ts'
import * as bounds from './safety-bounds.ts'
import * as texts from './safety-text.ts'

/** How a change of a host is proved, and what may be done for it; nothing is absent any more. */
export interface Safety {
  /** How long the gates must hold after the activation. */
  readonly soakMs: number
  /** How long after the activation the change may stay unconfirmed. At least 5 s more than the soak time. */
  readonly confirmWithinMs: number
  /** The gates alone decide, without the coordinator's answer. */
  readonly confirmLocally: boolean
  readonly reboot: 'never' | 'required' | 'whenever-changed'
  /** "none": no trial boot, the new system becomes the default before it is proved. */
  readonly trial: 'auto' | 'none'
  readonly toleratedUnits: readonly string[]
  /** All must be healthy; at most 64, each name once. */
  readonly gates: readonly Gate[]
}

/** One condition of health. */
export interface Gate {
  readonly name: string
  /** For one attempt. */
  readonly deadlineMs: number
  readonly probe: GateProbe
}

export type GateProbe =
  /** All must be active. */
  | { readonly kind: 'units'; readonly units: readonly string[] }
  | {
      readonly kind: 'http'
      readonly url: string
      /** Undefined: any from 200 to 399. */
      readonly status: number | undefined
      /** What the body must contain. */
      readonly contains: string | undefined
    }
  /** Must take a connection. */
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'disk'; readonly path: string; readonly freeBytes: number }
  /** Names or addresses, all of which must answer an echo request. */
  | { readonly kind: 'reach'; readonly hosts: readonly string[] }
  /** A program of the fleet directory, and its arguments. */
  | { readonly kind: 'script'; readonly path: string; readonly arguments: readonly string[] }

export type SafetyReading =
  | { readonly kind: 'ok'; readonly safety: Safety }
  | { readonly kind: 'refused'; readonly reason: string }

/** Reads the safety of a target and fills in what it leaves open. What this program does not know is a refusal. */
export function readSafety(message: SafetyMessage | undefined): SafetyReading {
  try {
    return { kind: 'ok', safety: read(message) }
  } catch (error) {
    if (error instanceof Refusal) return { kind: 'refused', reason: error.message }
    throw error
  }
}

/** Unwinds from whatever depth finds a rule broken; never leaves this file. */
class Refusal extends Error {}

function refuse(place: string, cure: string): never {
  throw new Refusal(`${place}: ${cure}`)
}

function read(message: SafetyMessage | undefined): Safety {
  const { SAFETY_BOUNDS, SAFETY_DEFAULTS } = bounds
  const soakMs = duration('soak', message?.soak, SAFETY_DEFAULTS.soakMs, SAFETY_BOUNDS.soakMs)
  const confirmWithinMs = duration(
    'confirm_within',
    message?.confirmWithin,
    SAFETY_DEFAULTS.confirmWithinMs,
    SAFETY_BOUNDS.confirmWithinMs,
  )
  if (confirmWithinMs < soakMs + bounds.LEAST_CONFIRM_MARGIN_MS) {
    refuse('confirm_within', `must exceed the soak time by ${bounds.LEAST_CONFIRM_MARGIN_MS} ms`)
  }
  const gates = (message?.gates ?? []).map(readGate)
  within('gates', gates.length, bounds.MAX_GATES)
  const twice = gates.find(({ name }, index) => gates.findIndex(other => other.name === name) < index)
  if (twice) refuse(`gate ${twice.name}`, 'stands there twice')
  const toleratedUnits = listed(
    'tolerated_units',
    message?.toleratedUnits ?? [],
    bounds.MAX_TOLERATED_UNITS,
    texts.unitNameProblem,
  )
  for (const { name, probe } of gates) {
    const both = probe.kind === 'units' && probe.units.find(unit => toleratedUnits.includes(unit))
    if (both) refuse(`gate ${name}`, `asks for ${both}, which may fail`)
  }
  return {
    soakMs,
    confirmWithinMs,
    confirmLocally: message?.confirmLocally ?? false,
    reboot: rebootOf(message?.reboot ?? RebootPolicy.UNSPECIFIED),
    trial: message?.noTrial ? 'none' : 'auto',
    toleratedUnits,
    gates,
  }
}

function rebootOf(policy: RebootPolicy): Safety['reboot'] {
  switch (policy) {
    case RebootPolicy.UNSPECIFIED:
    case RebootPolicy.NEVER:
      return 'never'
    case RebootPolicy.REQUIRED:
      return 'required'
    case RebootPolicy.WHENEVER_CHANGED:
      return 'whenever-changed'
    default:
      // A number that only a later version knows.
      return refuse('reboot', `the policy ${Number(policy)} is not known here`)
  }
}

function readGate(gate: GateMessage): Gate {
  if (!isHostName(gate.name)) refuse('gate', 'the name must be a-z, 0-9 and -, at most 63 characters')
  const place = `gate ${gate.name}`
  const { gateDeadlineMs: bound } = bounds.SAFETY_BOUNDS
  return {
    name: gate.name,
    deadlineMs: duration(`${place} deadline`, gate.deadline, bounds.SAFETY_DEFAULTS.gateDeadlineMs, bound),
    probe: readProbe(place, gate.probe),
  }
}

function readProbe(place: string, probe: GateMessage['probe']): GateProbe {
  switch (probe.case) {
    case 'units': {
      const { units } = probe.value
      return {
        kind: 'units',
        units: listed(`${place} units`, units, bounds.MAX_GATE_UNITS, texts.unitNameProblem, 1),
      }
    }
    case 'http': {
      const { url, status, contains } = probe.value
      checked(`${place} http`, url, texts.probeUrlProblem)
      if (status !== 0 && (status < 100 || status > 599)) refuse(`${place} status`, 'must be from 100 to 599')
      if (contains !== '') checked(`${place} contains`, contains, texts.containsProblem)
      return {
        kind: 'http',
        url,
        status: status === 0 ? undefined : status,
        contains: contains === '' ? undefined : contains,
      }
    }
    case 'tcp': {
      const { address } = probe.value
      checked(`${place} tcp`, address, texts.hostPortProblem)
      const parsed = parseHostPort(address)
      return parsed ? { kind: 'tcp', ...parsed } : refuse(`${place} tcp`, 'must be host:port')
    }
    case 'disk': {
      const { path, freeBytes } = probe.value
      checked(`${place} disk`, path, texts.diskPathProblem)
      if (freeBytes < 1n || freeBytes > BigInt(bounds.MAX_FREE_BYTES)) {
        refuse(`${place} free_bytes`, `must be from 1 to ${bounds.MAX_FREE_BYTES}`)
      }
      return { kind: 'disk', path, freeBytes: Number(freeBytes) }
    }
    case 'reach': {
      const { hosts } = probe.value
      return {
        kind: 'reach',
        hosts: listed(`${place} reach`, hosts, bounds.MAX_REACH_HOSTS, texts.reachHostProblem, 1),
      }
    }
    case 'script': {
      const { path, arguments: words } = probe.value
      checked(`${place} script`, path, texts.scriptPathProblem)
      return {
        kind: 'script',
        path,
        arguments: listed(`${place} arguments`, words, bounds.MAX_SCRIPT_ARGUMENTS, texts.argumentProblem),
      }
    }
    case undefined:
      return refuse(place, 'asks nothing that is known here')
  }
}

function duration(
  place: string,
  value: Duration | undefined,
  fallback: number,
  { least, most }: { readonly least: number; readonly most: number },
): number {
  if (value === undefined) return fallback
  const ms = msFromDuration(value)
  return ms >= least && ms <= most ? ms : refuse(place, `must be from ${least} to ${most} ms`)
}

function checked(place: string, text: string, problem: (text: string) => string | undefined): void {
  const cure = problem(text)
  if (cure !== undefined) refuse(place, cure)
}

function within(place: string, count: number, most: number, least = 0): void {
  if (count < least || count > most) refuse(place, `must be from ${least} to ${most}`)
}

function listed(
  place: string,
  items: readonly string[],
  most: number,
  problem: (text: string) => string | undefined,
  least = 0,
): readonly string[] {
  within(place, items.length, most, least)
  for (const item of items) checked(place, item, problem)
  return items
}
