import type { System } from '../system/system.ts'
import { type ClosureNeed, type ClosureSize, closureSize } from './closure-size.ts'
import { compareFstab } from './compare-fstab.ts'
import { compareUnits } from './compare-units.ts'
import { readForcedDefault } from './forced-default.ts'
import { type Generations, readGenerations } from './generations.ts'
import { type KubernetesChange, kubernetesChange } from './kubernetes-change.ts'
import { changedKubernetesFiles, changedRuntimeFiles } from './kubernetes-files.ts'
import { knownValue, type Part } from './part.ts'
import { type PlanProblem, planProblems } from './plan-problems.ts'
import { type PlanSpace, readSpace } from './plan-space.ts'
import { agentChanges, type PlanWarning, planWarnings } from './plan-warnings.ts'
import { type RebootReasons, rebootReasons } from './reboot-reasons.ts'
import { type RuntimeChange, runtimeChange, withRuntime } from './runtime-change.ts'
import { whyStateMoves } from './state-place.ts'
import { readToplevel, type Toplevel } from './toplevel.ts'
import type { UnitComparison } from './unit-changes.ts'
import { readUnitStates, type UnitStatesReading } from './unit-states.ts'

/** What reaching a target would do to this machine, and what speaks against it. Nothing was touched to learn it. */
export interface Plan {
  /** Store path of the target. */
  readonly target: string
  readonly current: Part
  readonly booted: Part
  /** What the next boot starts. */
  readonly profile: Part
  /** The target runs and is the boot default already: there is nothing to do. */
  readonly unchanged: boolean
  readonly reboot: RebootReasons
  readonly units: UnitComparison
  readonly closure: ClosureSize
  readonly space: PlanSpace
  /** The agent's own unit or program is another in the target. */
  readonly agentChanges: boolean
  /** What it makes of the Kubernetes that runs; undefined: nothing. */
  readonly kubernetes: KubernetesChange | undefined
  /** The same of its container runtime, which restarts with the switch. */
  readonly runtime: RuntimeChange | undefined
  /** Each forbids the switch. */
  readonly problems: readonly PlanProblem[]
  readonly warnings: readonly PlanWarning[]
}

export interface PlanQuestion {
  /** Folder that holds run/, boot/ and nix/var/nix/profiles; "/" on a real machine. */
  readonly root: string
  readonly storeDir: string
  /** Store path of the target, which is in the store. */
  readonly target: string
  /** What the manifest says of this machine; no host name for a group's target. */
  readonly expected: { readonly host?: string | undefined; readonly system: string }
  /** Where the agent that runs keeps its state; absent: nobody asks whether it stays. */
  readonly stateDir?: string | undefined
  readonly signal?: AbortSignal | undefined
  /** The machine is simulated: nothing runs there whose states could be asked. */
  readonly simulated?: boolean | undefined
  /** A cluster runs here that is nobody's of ours: its container runtime is left alone. */
  readonly leavesRuntime?: boolean | undefined
}

const NOTHING_TO_FETCH: ClosureNeed = { kind: 'need', bytes: 0, paths: 0 }

/** Reads the machine and the target, and compares them. */
export async function makePlan(system: System, question: PlanQuestion): Promise<Plan> {
  const { root, storeDir, expected, signal } = question
  const target = await readToplevel(system, question.target)
  const reading = await readGenerations(system, root)
  const machine = reading.kind === 'generations' ? reading.value : unknownMachine(reading.why)
  const current = await readIfKnown(system, machine.current)
  const booted = await readIfKnown(system, machine.booted)
  const states: UnitStatesReading = question.simulated
    ? { kind: 'states', states: new Map() }
    : await readUnitStates(system, signal)
  const space = await readSpace(system, { root, storeDir, need: NOTHING_TO_FETCH, target })
  const forced = await readForcedDefault(system)
  const { stateDir } = question
  const stateMoves =
    stateDir === undefined ? undefined : await whyStateMoves(system, current, target, stateDir)
  const reboot = rebootOf(booted, current, target)
  const runtime = question.leavesRuntime
    ? undefined
    : runtimeChange(current, target, await changedRuntimeFiles(system, current, target))
  const compared = unitsOf(current, target, states)
  const units = { ...compared, changes: withRuntime(compared.changes, runtime) }
  const kubernetes = kubernetesChange(current, target, await changedKubernetesFiles(system, current, target))
  return {
    target: target.path,
    current: machine.current,
    booted: machine.booted,
    profile: machine.profile,
    unchanged: [machine.current, machine.profile].every(part => knownValue(part) === target.path),
    reboot,
    units,
    closure: await closureSize(system, target.path, current?.path, signal),
    space,
    agentChanges: agentChanges(current, target),
    kubernetes,
    runtime,
    problems: planProblems({
      target,
      current: machine.current,
      reboot,
      states,
      space,
      forced,
      stateMoves,
      expected,
    }),
    warnings: planWarnings({
      ...machine,
      current,
      target,
      reboot,
      units,
      states,
      expected,
      kubernetes,
      runtime,
    }),
  }
}

async function readIfKnown(system: System, part: Part): Promise<Toplevel | undefined> {
  const path = knownValue(part)
  return path === undefined ? undefined : await readToplevel(system, path)
}

/** Without what was booted only the running system is there to compare with. */
function rebootOf(
  booted: Toplevel | undefined,
  current: Toplevel | undefined,
  target: Toplevel,
): RebootReasons {
  if (booted !== undefined) return rebootReasons({ booted, current, target })
  const answer = rebootReasons({ booted: current ?? target, current, target })
  return { ...answer, unknown: [...answer.unknown, 'booted-system'] }
}

function unitsOf(current: Toplevel | undefined, target: Toplevel, states: UnitStatesReading): UnitComparison {
  if (current?.units.kind !== 'folder' || target.units.kind !== 'folder' || states.kind !== 'states') {
    return { changes: [], unknown: ['all units'] }
  }
  const compared = compareUnits(current.units.folder, target.units.folder, states.states)
  const mounts = compareFstab(current.fstab, target.fstab)
  const changes = [...compared.changes, ...mounts].sort((a, b) => (a.unit < b.unit ? -1 : 1))
  const mountsUnknown = current.fstab.kind === 'unknown' || target.fstab.kind === 'unknown'
  return { changes, unknown: [...compared.unknown, ...(mountsUnknown ? ['mounts of /etc/fstab'] : [])] }
}

function unknownMachine(why: string): Generations {
  const part: Part = { kind: 'unknown', why }
  return { generations: [], booted: part, current: part, profile: part, profileNumber: undefined }
}
