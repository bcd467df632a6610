import type { KubernetesChange } from './kubernetes-change.ts'
import { knownValue, type Part } from './part.ts'
import type { RebootReasons } from './reboot-reasons.ts'
import type { RuntimeChange } from './runtime-change.ts'
import { isTargetPending } from './target-pending.ts'
import { AGENT_UNIT, type Toplevel } from './toplevel.ts'
import type { UnitComparison } from './unit-changes.ts'
import { unitDifference } from './unit-difference.ts'
import { settingsOf, type UnitFolder } from './unit-folder.ts'
import { failedUnits, type UnitStatesReading } from './unit-states.ts'

/** Something to know before a switch that does not forbid it. */
export interface PlanWarning {
  readonly kind: WarningKind
  readonly text: string
}

export type WarningKind =
  | 'dbus'
  | 'agent-changes'
  | 'agent-stops'
  | 'systemd'
  | 'no-host-name'
  | 'units-unknown'
  | 'reboot-unknown'
  | 'failed-before'
  | 'boot-pending'
  | 'kubernetes'
  | 'runtime'

export interface WarningsQuestion {
  readonly current: Toplevel | undefined
  readonly target: Toplevel
  readonly booted: Part
  /** What the next boot starts. */
  readonly profile: Part
  readonly reboot: RebootReasons
  readonly units: UnitComparison
  readonly states: UnitStatesReading
  readonly expected: { readonly host?: string | undefined }
  readonly kubernetes: KubernetesChange | undefined
  readonly runtime: RuntimeChange | undefined
}

const DBUS = ['dbus.service', 'dbus.socket', 'dbus-broker.service']
const MAX_NAMED = 20

/** What an operator should know of a plan. */
export function planWarnings(question: WarningsQuestion): PlanWarning[] {
  const { current, target, reboot, units, states, expected } = question
  const warnings: PlanWarning[] = []
  const warn = (kind: WarningKind, text: string) => warnings.push({ kind, text })
  const dbus = dbusChange(question)
  if (dbus !== undefined) {
    warn('dbus', `${dbus}: the switch speaks over this bus and can lose it; a reboot is the safe way`)
  }
  const touched = units.changes.find(({ unit }) => unit === AGENT_UNIT)
  if (touched && touched.action !== 'keep' && touched.action !== 'start') {
    warn('agent-stops', `the switch would ${touched.action} ${AGENT_UNIT}: it lacks restartIfChanged = false`)
  }
  if (agentChanges(current, target)) {
    warn('agent-changes', `the agent restarts into ${target.agent.program ?? 'its new unit'}`)
  }
  if (reboot.reasons.some(({ kind }) => kind === 'systemd')) {
    warn('systemd', 'systemd changes: the switch executes it anew')
  }
  if (expected.host !== undefined && target.hostName.kind === 'missing') {
    warn('no-host-name', `${target.path} names no host, so nobody can see whose system it is`)
  }
  const { kubernetes, runtime } = question
  if (kubernetes) {
    const { from, to, files } = kubernetes
    const versions = from === to ? '' : ` (${from ?? 'unknown'}, then ${to ?? 'unknown'})`
    const read = files.length === 0 ? '' : `, with ${named(files)}`
    warn(
      'kubernetes',
      `Kubernetes changes${versions}${read}: not by the switch; it restarts once the system is confirmed`,
    )
  }
  if (runtime) {
    const read = runtime.files.length === 0 ? '' : `, with ${named(runtime.files)}`
    warn(
      'runtime',
      `the container runtime changes${read}: ${named(runtime.units)} restarts right after the switch, and goes back with it`,
    )
  }
  if (units.unknown.length > 0) {
    warn('units-unknown', `units that cannot be compared: ${named(units.unknown)}`)
  }
  if (reboot.unknown.length > 0) {
    warn('reboot-unknown', `cannot be compared with what was booted: ${named(reboot.unknown)}`)
  }
  const next = knownValue(question.profile)
  if (next !== undefined && ![current?.path, target.path, knownValue(question.booted)].includes(next)) {
    warn('boot-pending', `${next} was set for the next boot and never switched to; this plan replaces it`)
  }
  const systems = { target: target.path, current: current?.path, booted: knownValue(question.booted) }
  if (isTargetPending({ ...systems, profile: next })) {
    warn(
      'boot-pending',
      `the next boot starts ${target.path} although ${current?.path ?? 'another system'} runs: what runs is made the boot default, until the new system has proved itself`,
    )
  }
  const failed = states.kind === 'states' ? failedUnits(states.states) : []
  if (failed.length > 0) warn('failed-before', `failed already: ${named(failed)}`)
  return warnings
}

/** Whether the program or the unit of the agent is another in the target. */
export function agentChanges(current: Toplevel | undefined, target: Toplevel): boolean {
  if (current === undefined) return true
  const [before, after] = [folderOf(current), folderOf(target)]
  const old = before && settingsOf(before, AGENT_UNIT, AGENT_UNIT)
  const now = after && settingsOf(after, AGENT_UNIT, AGENT_UNIT)
  if (old === undefined || now === undefined) return old !== now
  return unitDifference(old, now) !== 'none'
}

function dbusChange({ current, target, reboot, units }: WarningsQuestion): string | undefined {
  const implementation = reboot.reasons.find(
    ({ kind, key }) => kind === 'inhibitor' && key === 'dbus-implementation',
  )
  if (implementation) return `D-Bus changes from ${implementation.before} to ${implementation.after}`
  const [before, after] = [dbusOf(current), dbusOf(target)]
  if (before !== undefined && after !== undefined && before !== after) {
    return `D-Bus changes from ${before} to ${after}`
  }
  const touched = units.changes.find(({ unit, action }) => DBUS.includes(unit) && action !== 'keep')
  return touched && `the switch would ${touched.action} ${touched.unit}`
}

/** Which program serves the system bus. */
function dbusOf(toplevel: Toplevel | undefined): string | undefined {
  const folder = toplevel && folderOf(toplevel)
  if (folder === undefined) return undefined
  if (folder.units.get('dbus-broker.service')?.kind === 'file') return 'dbus-broker'
  return folder.units.has('dbus.service') ? 'dbus-daemon' : undefined
}

function folderOf({ units }: Toplevel): UnitFolder | undefined {
  return units.kind === 'folder' ? units.folder : undefined
}

function named(names: readonly string[]): string {
  const more = names.length - MAX_NAMED
  return names.slice(0, MAX_NAMED).join(', ') + (more > 0 ? ` and ${more} more` : '')
}
