import { dirname, join, resolve } from 'node:path'
import { OutcomeClass } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { describeEnding, succeeded } from '../../system/system.ts'
import { failed, type PhaseContext, type PhaseFailure, type PhaseResult } from '../context.ts'
import { judgeActivation } from '../judge-activation.ts'
import { exitCodeOf, type LoggedRun, runLogged } from '../run-logged.ts'

/** Files whose absence makes the switch program do the wrong thing, or nothing, without a word. */
const NEEDED = [
  'activate',
  'init-interface-version',
  'nixos-version',
  'system',
  'bin/switch-to-configuration',
  'systemd/lib/systemd/systemd',
  'etc/systemd/system/sysinit-reactivation.target',
]

/** Whether a toplevel may be activated at all: looked at before the activation is recorded as begun. */
export async function inspectToplevel(
  { deps }: PhaseContext,
  storePath: string,
  system: string,
): Promise<PhaseFailure | undefined> {
  if (deps.config.activation === 'never') {
    return refused(
      'not-allowed',
      `built ${storePath}; activation is switched off on this node (option activation), nothing was touched`,
    )
  }
  if ((await currentSystem({ deps })) === undefined) {
    return refused(
      'no-current-system',
      '/run/current-system cannot be read: nobody could say what to go back to',
    )
  }
  for (const name of NEEDED) {
    const found = await deps.system.exists(join(storePath, name))
    if (found.kind !== 'present') return refused('incomplete', `${storePath} has no ${name}`)
  }
  const agent = await deps.system.exists(join(storePath, 'etc/systemd/system/muster-agent.service'))
  if (agent.kind !== 'present') {
    return refused('no-agent', `${storePath} has no muster-agent.service: the switch would cut this node off`)
  }
  const made = await deps.system.readFile(join(storePath, 'system'), 64)
  const madeFor = made.kind === 'file' ? made.bytes.toString('utf8').trim() : ''
  if (madeFor !== system)
    return refused('system', `${storePath} is made for ${madeFor || 'an unknown system'}`)
  return undefined
}

/** Switches to a toplevel and, when that is proved, makes it the boot default. Begun once, never repeated by itself. */
export async function activate(context: PhaseContext, storePath: string): Promise<PhaseResult<undefined>> {
  const { deps, say } = context
  const program = join(storePath, 'bin/switch-to-configuration')
  const before = await currentSystem(context)
  let activating = false
  let lockHeld = false
  // The agent's own stop must not cut a switch in the middle: the switch has its own deadline, and no signal.
  const run = await runLogged(
    context,
    program,
    ['test'],
    { deadlineMs: deps.config.switchDeadlineMs },
    text => {
      activating ||= text.includes('activating the configuration...')
      lockHeld ||= text.includes('Could not acquire lock')
    },
  )
  const after = await currentSystem(context)
  const verdict = judgeActivation({
    ending: run.ending,
    activating,
    lockHeld,
    currentBefore: before,
    currentAfter: after,
    target: storePath,
  })
  say(`switch-to-configuration test: ${describeEnding(program, run.ending)}; ${verdict.reason}`)
  if (verdict.class !== OutcomeClass.SUCCEEDED)
    return failed(verdict.class, verdict.reason, exitCodeOf(run.ending))
  return promote(context, storePath, program)
}

/** Profile first, then the boot entry: only what was seen to run becomes the default. */
async function promote(
  context: PhaseContext,
  storePath: string,
  program: string,
): Promise<PhaseResult<undefined>> {
  const { deps } = context
  const before = await profileSystem(context)
  const set = await setProfile(context, storePath)
  if (!succeeded(set.ending)) {
    return failed(
      OutcomeClass.ACTIVATION_FAILED,
      `${storePath} runs, but is not the boot default: ${describeEnding('nix-env --set', set.ending)} ${set.errors.join(' ')}`,
      exitCodeOf(set.ending),
    )
  }
  const boot = await runLogged(context, program, ['boot'], { deadlineMs: deps.config.switchDeadlineMs })
  if (!succeeded(boot.ending)) {
    const undone = await demote(context, before)
    return failed(
      OutcomeClass.ACTIVATION_FAILED,
      `${storePath} runs, but its boot entry was not written: ${describeEnding('switch-to-configuration boot', boot.ending)}; ${undone}`,
      exitCodeOf(boot.ending),
    )
  }
  return { kind: 'ok', value: undefined, detail: `runs ${storePath}` }
}

/** Puts profile and boot entry back: half a promotion would be the default of the next boot. */
async function demote(context: PhaseContext, before: string | undefined): Promise<string> {
  if (before === undefined) return 'what was the boot default before is not known: look at it by hand'
  const set = await setProfile(context, before)
  const program = join(before, 'bin/switch-to-configuration')
  const boot = await runLogged(context, program, ['boot'], {
    deadlineMs: context.deps.config.switchDeadlineMs,
  })
  return succeeded(set.ending) && succeeded(boot.ending)
    ? `the boot default is ${before} again`
    : `the boot default could not be put back to ${before}: look at it by hand`
}

const PROFILE = 'nix/var/nix/profiles/system'

function setProfile(context: PhaseContext, storePath: string): Promise<LoggedRun> {
  const args = ['-p', join(context.deps.config.systemRoot, PROFILE), '--set', storePath]
  return runLogged(context, 'nix-env', args, { deadlineMs: 60_000 })
}

/** The system that the profile names, the boot default; undefined: cannot be read. */
export async function profileSystem({ deps }: Pick<PhaseContext, 'deps'>): Promise<string | undefined> {
  const profile = join(deps.config.systemRoot, PROFILE)
  const first = await deps.system.readLink(profile)
  if (first.kind !== 'link') return undefined
  const target = resolve(dirname(profile), first.target)
  if (dirname(target) !== dirname(profile)) return target
  const generation = await deps.system.readLink(target)
  return generation.kind === 'link' ? generation.target : undefined
}

/** What /run/current-system points to; undefined: it cannot be read. */
export async function currentSystem({ deps }: Pick<PhaseContext, 'deps'>): Promise<string | undefined> {
  const link = await deps.system.readLink(join(deps.config.systemRoot, 'run/current-system'))
  return link.kind === 'link' ? link.target : undefined
}

function refused(refusal: string, reason: string): PhaseFailure {
  return { ...failed(OutcomeClass.REFUSED, reason), refusal }
}
