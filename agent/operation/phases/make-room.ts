import { join } from 'node:path'
import type { ClosureFetch } from '../../../shared/gen/muster/v1/manifest_pb.ts'
import { systemChange } from '../../../shared/system-change.ts'
import { closureNeed } from '../../plan/closure-size.ts'
import { readGenerations } from '../../plan/generations.ts'
import { spaceProblems } from '../../plan/plan-problems.ts'
import { readSpace } from '../../plan/plan-space.ts'
import { removeGenerations } from '../../plan/remove-generations.ts'
import { surplusGenerations } from '../../plan/surplus-generations.ts'
import { armFolder, prepareBootFolder } from '../../safety/operation-folder.ts'
import { runBoot } from '../../safety/run-boot.ts'
import { PROFILE, profileSystem } from '../../system/system-links.ts'
import { type PhaseContext, type PhaseFailure, refused } from '../context.ts'
import { actionOf, type OperationState } from '../fold.ts'

const REMOVE_MS = 15 * 60_000

/**
 * Makes room before anything is fetched or built: what is surplus goes first, from the boot partition too, and only then
 * is refused. What is booted, runs, is the default, ran before or is to come is never removed.
 */
export async function makeRoom(
  context: PhaseContext,
  closure: ClosureFetch | undefined,
  states: ReadonlyMap<string, OperationState>,
): Promise<PhaseFailure | undefined> {
  const { deps, signal, say } = context
  if (deps.units.kind !== 'systemd') return undefined // a simulated machine has no store of its own
  const { system, config } = deps
  const root = config.systemRoot
  const need = closure
    ? await closureNeed(system, closure, signal)
    : ({ kind: 'need', bytes: 1, paths: 0 } as const) // a build needs some room, nobody knows how much
  const lacking = async () => {
    const space = await readSpace(system, {
      root,
      storeDir: config.storeDir,
      need: need.kind === 'need' ? need : { kind: 'need', bytes: 1, paths: 0 },
      target: undefined,
    })
    return spaceProblems(space)
  }
  const before = await lacking()
  if (before.length === 0) return undefined
  const removed = await removeSurplus(context, states, { keep: 1, collectGarbage: true })
  say(removed)
  const [problem] = await lacking()
  return problem && refused(problem.class, `${problem.reason}; ${removed}`)
}

/**
 * Systems that operations may still lead to: those of open ones, of the newest one, and what ran before the last change,
 * which is where a rollback on order leads.
 */
export function neededSystems(states: readonly OperationState[]): readonly string[] {
  const open = states.filter(({ outcome }) => !outcome)
  const change = states.findLast(mayHaveChanged)
  return [...open, ...states.slice(-1), ...(change ? [change] : [])]
    .flatMap(({ previous, storePath, round }) => [previous, storePath, round?.target ?? ''])
    .filter(path => path !== '')
}

function mayHaveChanged({ order, outcome }: OperationState): boolean {
  if (!outcome) return false
  return (
    systemChange({ action: actionOf(order), outcomeClass: outcome.class, phase: outcome.phase }) !== 'none'
  )
}

/** Removes generations beyond the number kept, with what only they held. Says what it did. */
export async function removeSurplus(
  { deps, signal, operation, say }: Pick<PhaseContext, 'deps' | 'signal' | 'operation' | 'say'>,
  states: ReadonlyMap<string, OperationState>,
  { keep, collectGarbage }: { readonly keep: number; readonly collectGarbage: boolean },
): Promise<string> {
  const { system, config } = deps
  const reading = await readGenerations(system, config.systemRoot)
  if (reading.kind === 'unknown') return `no generation was removed: ${reading.why}`
  const protect = neededSystems([...states.values()])
  const surplus = surplusGenerations({
    generations: reading.value,
    keep,
    protect,
    nowMs: deps.clock.now().getTime(),
  })
  if (surplus.kind === 'unknown') return `no generation was removed: ${surplus.why}`
  if (surplus.remove.length === 0) return 'no generation is surplus'
  const bootDefault = (await profileSystem(system, config.systemRoot))?.storePath
  if (bootDefault === undefined) return 'no generation was removed: the boot default cannot be read'
  // Round 0 is none: what runs there is housekeeping, and nothing is taken back for it.
  const folder = armFolder(deps.stateDir, operation, 0)
  await prepareBootFolder(folder, deps.stateDir)
  const doors = { system, units: deps.units, root: config.systemRoot, say }
  const run = {
    operation,
    program: deps.program,
    toolPath: config.toolPath,
    switchMs: Math.min(config.switchDeadlineMs, REMOVE_MS),
  }
  const removal = await removeGenerations({
    system,
    profile: join(config.systemRoot, PROFILE),
    remove: surplus.remove,
    bootDefault,
    deadlineMs: REMOVE_MS,
    collectGarbage,
    runBoot: toplevel => runBoot(doors, folder, run, toplevel),
    signal,
  })
  return removal.kind === 'removed'
    ? `generations ${removal.numbers.join(', ')} were removed`
    : `generations could not be removed: ${removal.reason}`
}
