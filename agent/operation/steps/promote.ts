import { join } from 'node:path'
import { OutcomeClass, Phase } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { changeDeadline } from '../../safety/deadline.ts'
import { runBoot } from '../../safety/run-boot.ts'
import { readBootTime } from '../../safety/uptime.ts'
import { beginPromotion, claimConfirmed } from '../../safety/verdict.ts'
import { describeEnding, succeeded } from '../../system/system.ts'
import { currentSystem, PROFILE, profileSystem } from '../../system/system-links.ts'
import { failed } from '../context.ts'
import { byHand } from '../next-step.ts'
import { roundOf, watchDeps } from './round.ts'
import { AGAIN, type StepContext, type StepEnd } from './step-context.ts'
import { claimReturn } from './take-back.ts'

const PROFILE_MS = 60_000
/** A profile and a boot loader are written in seconds; an agent that dies here for good must not hold the machine for long. */
const PROMOTION_MS = 10 * 60_000

/** What runs, or is the profile's, in the place of what was proved; undefined: nothing that is known. */
async function switchedTo({ deps }: StepContext, target: string): Promise<string | undefined> {
  const { system, config } = deps
  const current = await currentSystem(system, config.systemRoot)
  const profile = (await profileSystem(system, config.systemRoot))?.storePath
  return [current, profile].find(path => path !== undefined && path !== target)
}

/**
 * Makes what was confirmed the boot default: profile first, then the boot loader. The dead man waits for it: only when both
 * are done is the change settled for good, and an agent that is cut in between leaves what the dead man puts right.
 */
export async function promote(context: StepContext): Promise<StepEnd> {
  const { deps, phase, record, seen } = context
  const { folder, arm } = await roundOf(context)
  // Once a boot: an agent that is cut over and over does not get more time each time.
  if (seen.deadline?.of !== 'promotion' || seen.deadline.bootId !== seen.now.bootId) {
    const { bootId, uptimeMs } = await readBootTime(deps.system)
    const until = uptimeMs + Math.min(arm.switchMs, PROMOTION_MS)
    await changeDeadline(folder, async () => ({ bootId, uptimeMs: until, of: 'promotion' }))
  }
  if (!(await beginPromotion(folder))) return AGAIN
  const result = await phase(Phase.PROMOTE, async () => {
    const profile = join(deps.config.systemRoot, PROFILE)
    const before = await profileSystem(deps.system, deps.config.systemRoot)
    if (before?.storePath !== arm.target) {
      const set = await deps.system.run('nix-env', ['-p', profile, '--set', arm.target], {
        deadlineMs: PROFILE_MS,
      })
      if (!succeeded(set.ending)) {
        const said = set.stderr.trim().split('\n').at(-1) ?? ''
        return failed(
          OutcomeClass.ACTIVATION_FAILED,
          `${arm.target} runs and is healthy, but could not be made the profile: ${describeEnding('nix-env --set', set.ending)} ${said}`,
        )
      }
    }
    const problem = await runBoot(watchDeps(context), folder, arm, arm.target)
    if (problem !== undefined) {
      return failed(
        OutcomeClass.ACTIVATION_FAILED,
        `${arm.target} runs and is healthy, but its boot entry was not written: ${problem}`,
      )
    }
    // What was proved must be what runs and what is booted: the entry may have been written after another switch.
    const other = await switchedTo(context, arm.target)
    return other === undefined
      ? { kind: 'ok', value: undefined, detail: `${arm.target} is the boot default` }
      : failed(OutcomeClass.UNKNOWN, byHand(other, arm.target))
  })
  if (result.kind === 'stopped') return result
  if (result.kind === 'failed') {
    await claimReturn(context, { by: 'agent', class: result.class, reason: result.reason })
    return AGAIN
  }
  await record({ kind: 'promoted' })
  await claimConfirmed(folder)
  return AGAIN
}
