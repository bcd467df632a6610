import type { ForcedDefault } from './forced-default.ts'
import type { Part } from './part.ts'
import { BOOT_RESERVE, type Bytes, type PlanSpace, STORE_RESERVE } from './plan-space.ts'
import type { RebootReasons } from './reboot-reasons.ts'
import { NEEDED, type NeededUnit, type Toplevel } from './toplevel.ts'
import { isUp, type UnitStatesReading } from './unit-states.ts'

/** Why a target may not be switched to. */
export interface PlanProblem {
  readonly class: ProblemClass
  readonly reason: string
}

export type ProblemClass =
  /** A file is missing without which the switch does the wrong thing. */
  | 'incomplete'
  | 'no-agent'
  | 'no-dead-man'
  /** Its agent and dead man would not find the state of those that run. */
  | 'state-moves'
  /** A unit that must run names a program that is not in the store. */
  | 'program-missing'
  /** Made for another architecture. */
  | 'system'
  | 'host-name'
  | 'no-current-system'
  | 'logind'
  | 'space-store'
  | 'space-boot'
  /** The firmware names a default of its own: nothing that is promoted would be booted. */
  | 'forced-default'
  /** Something that safety rests on cannot be read. */
  | 'unreadable'

export interface ProblemsQuestion {
  readonly target: Toplevel
  /** Store path of what runs. */
  readonly current: Part
  readonly reboot: RebootReasons
  readonly states: UnitStatesReading
  readonly space: PlanSpace
  readonly forced: ForcedDefault
  /** Why the target's agent would not find the state of this one; undefined: it would. */
  readonly stateMoves?: string | undefined
  /** What the manifest says of this machine; no host name for a group's target. */
  readonly expected: { readonly host?: string | undefined; readonly system: string }
}

/** Everything that speaks against switching to the target, each with its cure. Empty: nothing does. */
export function planProblems(question: ProblemsQuestion): PlanProblem[] {
  const { target, current, reboot, states, space, forced, expected } = question
  return [
    ...currentProblems(current),
    ...fileProblems(target),
    ...unitProblems(target.path, target.agent, 'no-agent', 'the switch would cut this node off'),
    ...unitProblems(target.path, target.deadMan, 'no-dead-man', 'nothing would bring this node back'),
    ...stateProblems(question.stateMoves),
    ...systemProblems(target, expected.system),
    ...hostProblems(target, expected.host),
    ...rebootProblems(reboot),
    ...logindProblems(states),
    ...kubernetesProblems(target),
    ...spaceProblems(space),
    ...forcedProblems(forced),
  ]
}

function currentProblems(current: Part): PlanProblem[] {
  if (current.kind === 'value') return []
  const why = current.kind === 'missing' ? 'is missing' : `cannot be read (${current.why ?? 'unknown'})`
  return [
    {
      class: 'no-current-system',
      reason: `/run/current-system ${why}: nobody could say what to go back to; boot a generation of NixOS first`,
    },
  ]
}

function fileProblems({ path, needed, units }: Toplevel): PlanProblem[] {
  const problems: PlanProblem[] = NEEDED.flatMap((name): PlanProblem[] => {
    const presence = needed.get(name) ?? 'unknown'
    if (presence === 'present') return []
    return presence === 'missing'
      ? [{ class: 'incomplete', reason: `${path} has no ${name}; ${cureFor(name)}` }]
      : [{ class: 'unreadable', reason: `${path}/${name} cannot be read` }]
  })
  if (units.kind === 'unknown') problems.push({ class: 'unreadable', reason: units.why })
  return problems
}

function cureFor(name: string): string {
  return name === 'bin/switch-to-configuration'
    ? 'system.switch.enable must be on in its configuration, or it is not whole'
    : 'build or fetch the whole closure again'
}

function unitProblems(
  path: string,
  { unit, file, program, programFile }: NeededUnit,
  missing: 'no-agent' | 'no-dead-man',
  consequence: string,
): PlanProblem[] {
  switch (file) {
    case 'unknown':
      return [{ class: 'unreadable', reason: `${path}/etc/systemd/system/${unit} cannot be read` }]
    case 'missing':
    case 'masked': {
      const what = file === 'missing' ? 'has no' : 'masks'
      const cure = 'enable services.muster.agent in its configuration'
      return [{ class: missing, reason: `${path} ${what} ${unit}: ${consequence}; ${cure}` }]
    }
    case 'present':
      if (programFile === 'present') return []
      return [
        {
          class: programFile === 'missing' ? 'program-missing' : 'unreadable',
          reason:
            program === undefined
              ? `${unit} of ${path} names no program (ExecStart=)`
              : `${unit} of ${path} runs ${program}, which ${programFile === 'missing' ? 'is not in the store' : 'cannot be read'}`,
        },
      ]
  }
}

function stateProblems(why: string | undefined): PlanProblem[] {
  if (why === undefined) return []
  return [
    {
      class: 'state-moves',
      reason: `${why}. The new agent would be a stranger, and nothing would bring this node back`,
    },
  ]
}

function systemProblems({ path, system }: Toplevel, expected: string): PlanProblem[] {
  if (system.kind !== 'value' || system.value === expected) return [] // a missing file is told as such
  return [{ class: 'system', reason: `${path} is made for ${system.value}, this machine is ${expected}` }]
}

/** A system without a host name of its own (it comes from DHCP) is no other host's. */
function hostProblems({ path, hostName }: Toplevel, expected: string | undefined): PlanProblem[] {
  if (expected === undefined || hostName.kind === 'missing') return []
  if (hostName.kind === 'unknown') {
    return [{ class: 'unreadable', reason: `${path}/etc/hostname cannot be read` }]
  }
  if (hostName.value === expected) return []
  const reason = `${path} is the system of host ${hostName.value}, this machine is ${expected}; networking.hostName must be the name in fleet.toml`
  return [{ class: 'host-name', reason }]
}

/** Whether a switch works at all must be known; what merely waits for the next boot need not be. */
function rebootProblems({ unknown }: RebootReasons): PlanProblem[] {
  return unknown
    .filter(kind => kind === 'init-interface' || kind === 'inhibitor')
    .map(kind => ({
      class: 'unreadable',
      reason: `${kind} cannot be compared: nobody can tell whether a switch is possible or a reboot is needed`,
    }))
}

/** Whether Kubernetes must be kept down until the system is confirmed must be known before. */
function kubernetesProblems({ kubernetes }: Toplevel): PlanProblem[] {
  return kubernetes.kind === 'unknown' ? [{ class: 'unreadable', reason: kubernetes.why }] : []
}

/** Without logind the switch ends after the activation with nothing started. */
function logindProblems(reading: UnitStatesReading): PlanProblem[] {
  if (reading.kind === 'unknown') return [{ class: 'unreadable', reason: reading.why }]
  const state = reading.states.get('systemd-logind.service')
  if (isUp(state)) return []
  const is = state === undefined ? 'not loaded' : `${state.load} and ${state.active}`
  const reason = `systemd-logind.service is ${is}: the switch would end in the middle; start it first`
  return [{ class: 'logind', reason }]
}

function forcedProblems(forced: ForcedDefault): PlanProblem[] {
  switch (forced.kind) {
    case 'none':
      return []
    case 'unknown':
      return [{ class: 'unreadable', reason: forced.why }]
    case 'entry': {
      const cure = 'let it go with `bootctl set-default ""`'
      const reason = `systemd-boot was told by hand to boot ${forced.entry}, whatever is installed: no change could become the default; ${cure}`
      return [{ class: 'forced-default', reason }]
    }
  }
}

/** What of the space is not enough, or not known. Also of use before anything is fetched. */
export function spaceProblems({ store, boot }: PlanSpace): PlanProblem[] {
  const cure = 'remove generations or make room'
  const problems = short('space-store', store.path, store.free, store.need, STORE_RESERVE, cure)
  if (store.filesFree.kind === 'bytes' && store.filesFree.bytes === 0) {
    problems.push({ class: 'space-store', reason: `${store.path}: no more files can be made; ${cure}` })
  }
  if (boot === undefined) return problems
  const { place, free, need } = boot
  return [...problems, ...short('space-boot', place.mountPoint, free, need, BOOT_RESERVE, cure)]
}

function short(
  kind: 'space-store' | 'space-boot',
  path: string,
  free: Bytes,
  need: Bytes,
  reserve: number,
  cure: string,
): PlanProblem[] {
  if (need.kind === 'unknown') return [{ class: 'unreadable', reason: need.why }]
  if (need.bytes === 0) return []
  if (free.kind === 'unknown') return [{ class: 'unreadable', reason: free.why }]
  if (free.bytes >= need.bytes + reserve) return []
  const missing = need.bytes + reserve - free.bytes
  return [{ class: kind, reason: `${path}: ${missing} bytes too few for ${need.bytes} more; ${cure}` }]
}
