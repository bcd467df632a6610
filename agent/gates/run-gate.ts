import { reasonOf } from '../../shared/errors.ts'
import { escapeText } from '../../shared/escape.ts'
import type { Gate, GateProbe } from '../../shared/revision/safety.ts'
import type { System } from '../system/system.ts'
import { boundText } from './bound-text.ts'
import type { Finding, GateAnswer } from './gate-answer.ts'
import { probeDisk } from './probe-disk.ts'
import { probeHttp } from './probe-http.ts'
import { probeReach } from './probe-reach.ts'
import { probeScript } from './probe-script.ts'
import { probeTcp } from './probe-tcp.ts'
import { probeUnits } from './probe-units.ts'

export interface RunGateDeps {
  readonly system: System
  /** The verified tree, unpacked: script gates run below it. */
  readonly treeDir: string
  /** Milliseconds on a clock that nobody sets. */
  readonly nowMs: () => number
}

const MAX_REASON_CHARS = 500

/** Asks a gate once, within its deadline. Never rejects: what goes wrong while asking is an answer, unavailable. */
export async function runGate(deps: RunGateDeps, gate: Gate, signal: AbortSignal): Promise<GateAnswer> {
  const startedAtMs = deps.nowMs()
  const { verdict, reason, output } = await find(deps, gate, signal)
  return {
    gate: gate.name,
    verdict,
    reason: escapeText(reason).slice(0, MAX_REASON_CHARS),
    output: boundText(output ?? ''),
    startedAtMs,
    endedAtMs: deps.nowMs(),
  }
}

async function find(deps: RunGateDeps, { probe, deadlineMs }: Gate, signal: AbortSignal): Promise<Finding> {
  try {
    return await ask(deps, probe, deadlineMs, signal)
  } catch (error) {
    return { verdict: 'unavailable', reason: `could not be asked: ${reasonOf(error)}` }
  }
}

function ask(
  { system, treeDir }: RunGateDeps,
  probe: GateProbe,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<Finding> {
  switch (probe.kind) {
    case 'units':
      return probeUnits(system, probe.units, deadlineMs, signal)
    case 'http':
      return probeHttp(system, probe, deadlineMs, signal)
    case 'tcp':
      return probeTcp(probe, deadlineMs, signal)
    case 'disk':
      return probeDisk(system, probe, deadlineMs, signal)
    case 'reach':
      return probeReach(system, probe.hosts, deadlineMs, signal)
    case 'script':
      return probeScript(system, treeDir, probe, deadlineMs, signal)
  }
}
