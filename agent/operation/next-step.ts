import { OutcomeClass, Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import { type Deadline, leftUntil } from '../safety/deadline.ts'
import type { ReturnEnd } from '../safety/return-end.ts'
import type { BootTime } from '../safety/uptime.ts'
import type { ReturnClaim, Verdict } from '../safety/verdict.ts'
import { failureBefore } from './failure-before.ts'
import { actionOf, type KubernetesState, type OperationState, type RoundState } from './fold.ts'

/** An operation that was begun so often and never came to its end is given up. */
export const MAX_ATTEMPTS = 5
/** So often a machine may be cut off in the middle before its target is held to be the cause. */
export const MAX_ROUNDS = 3

/** What the machine and the round's folder say at this moment. */
export interface Observed {
  readonly now: BootTime
  /** Of this start of the agent. */
  readonly instance: string
  readonly current: string | undefined
  readonly booted: string | undefined
  readonly verdict: Verdict
  readonly returnEnd: ReturnEnd | undefined
  readonly deadline: Deadline | undefined
  /** Why the record of what was armed cannot be used; undefined: it can, or nothing is armed. */
  readonly recordProblem: string | undefined
  /** Why the record of what was armed can be used by a newer program alone; undefined: it is none of a newer one. */
  readonly newerRecord: string | undefined
}

export interface Conclusion {
  readonly class: OutcomeClass
  /** Class of a refusal; empty for anything else. */
  readonly refusal: string
  readonly reason: string
  readonly exitCode?: number | undefined
  readonly phase: Phase
  readonly storePath: string
  /** What went wrong first, where it went back. */
  readonly firstCause?: OutcomeClass | undefined
  /** The target failed here by its own fault: it is not tried again. */
  readonly quarantine?: boolean | undefined
  /** Somebody must look before anything else is done here: the node is held. */
  readonly hold?: boolean | undefined
}

/** What is to be done next with one operation. */
export type Step =
  | { readonly kind: 'finished' }
  /** What needs no system: hold, resume, retry. */
  | { readonly kind: 'act' }
  /** From the first phase to the armed dead man. */
  | { readonly kind: 'prepare' }
  | { readonly kind: 'activate' }
  /** The switch was started: until its unit is gone, then judge. */
  | { readonly kind: 'watch-switch' }
  | { readonly kind: 'restart-agent' }
  /** Ask for the boot, or wait for the one that was asked for. */
  | { readonly kind: 'reboot' }
  | { readonly kind: 'prove' }
  | { readonly kind: 'confirm' }
  | { readonly kind: 'promote' }
  /** Start the new Kubernetes and wait until it is well; nothing goes back from here. */
  | { readonly kind: 'kubernetes' }
  /** It was decided here and now that the old system must come back. */
  | { readonly kind: 'claim-return'; readonly claim: ReturnClaim }
  | { readonly kind: 'await-return' }
  | { readonly kind: 'conclude'; readonly conclusion: Conclusion }

/**
 * The one decision of how an operation goes on, from what is on disk and what the machine shows, at every start and after
 * every step. INVARIANTS: nothing that was confirmed is taken back; nothing is confirmed after its deadline, nor by the
 * process that activated it; a machine that was touched is never left without an end; a new Kubernetes is started only in
 * a system that was confirmed, and nothing is taken back from then on.
 */
export function nextStep(state: OperationState, seen: Observed): Step {
  if (state.outcome) return { kind: 'finished' }
  const action = actionOf(state.order)
  if (action === 'hold' || action === 'resume' || action === 'retry') return { kind: 'act' }
  if (action === 'upgrade') {
    if (!state.kubernetes) return prepare(state)
    return nextOfKubernetes(state.kubernetes, state.storePath, {
      class: OutcomeClass.SUCCEEDED,
      reason: `Kubernetes runs from ${state.storePath}`,
    })
  }
  if (action === 'restart') {
    if (!state.kubernetes) return prepare(state)
    // Nothing was changed: whoever mends it may restart it again.
    return nextOfKubernetes(
      state.kubernetes,
      '',
      { class: OutcomeClass.SUCCEEDED, reason: 'Kubernetes was restarted and is well' },
      { hold: false },
    )
  }
  const { round } = state
  if (!round) return action === 'reboot' ? nextOfReboot(state, seen) : prepare(state)
  if (seen.verdict.kind === 'confirmed') {
    const good = {
      class: round.degraded.length > 0 ? OutcomeClass.DEGRADED : OutcomeClass.SUCCEEDED,
      reason:
        round.degraded.length > 0
          ? `runs ${round.target}; tolerated units have failed: ${round.degraded.join(', ')}`
          : `runs ${round.target}`,
    }
    return nextOfKubernetes(state.kubernetes, round.target, good)
  }
  if (seen.verdict.kind === 'untouched') {
    const { class: kind, refusal, reason, exitCode } = seen.verdict
    return conclude({
      class: kind,
      refusal,
      reason,
      exitCode,
      phase: round.mode === 'switch' ? Phase.ACTIVATE : Phase.REBOOT,
      storePath: round.target,
      quarantine: kind === OutcomeClass.ACTIVATION_FAILED,
    })
  }
  if (seen.recordProblem !== undefined) {
    // Nothing can be taken further or back without it, and it does not come back.
    return conclude({
      class: OutcomeClass.UNKNOWN,
      refusal: '',
      reason: `${seen.recordProblem}; the machine runs ${seen.current ?? 'an unknown system'}`,
      phase: Phase.RETURN,
      storePath: round.target,
    })
  }
  if (seen.verdict.kind === 'returned') return nextOfReturn(state, round, seen, seen.verdict.claim)
  if (seen.verdict.kind === 'unreadable') {
    // Whether it was confirmed cannot be told; the old system is the one that is known to be good. What is there cannot be
    // replaced by another decision either, so this stands for one.
    const reason = `what was decided cannot be read: ${seen.verdict.reason}`
    return nextOfReturn(state, round, seen, { by: 'agent', class: OutcomeClass.UNKNOWN, reason })
  }
  if (seen.newerRecord !== undefined) {
    // It cannot be proved nor promoted by what cannot read it, and who wrote it runs in the system before.
    const reason = `the agent of ${round.target} is too old to go on with this change: ${seen.newerRecord}`
    return claim(OutcomeClass.UNKNOWN, reason)
  }
  return nextOfRound(round, seen)
}

/**
 * What is confirmed stays, so a Kubernetes that fails in it is held for somebody to look at: its datastore may have moved on,
 * and an older server does not read what a newer one wrote.
 */
function nextOfKubernetes(
  kubernetes: KubernetesState | undefined,
  storePath: string,
  good: Pick<Conclusion, 'class' | 'reason'>,
  { hold } = { hold: true },
): Step {
  const base = { refusal: '', storePath }
  if (!kubernetes) return conclude({ ...base, ...good, phase: Phase.DONE })
  if (!kubernetes.end) return { kind: 'kubernetes' }
  const { failure } = kubernetes.end
  if (failure === undefined) return conclude({ ...base, ...good, phase: Phase.DONE })
  const { ACTIVATION_FAILED } = OutcomeClass
  return conclude({ ...base, class: ACTIVATION_FAILED, reason: failure, phase: Phase.KUBERNETES, hold })
}

function nextOfRound(round: RoundState, seen: Observed): Step {
  const rebooted = seen.now.bootId !== round.bootId
  if (isOver(seen)) return { kind: 'claim-return', claim: { by: 'deadline' } }
  if (round.mode === 'switch' && !rebooted) {
    if (!round.activationStarted) return { kind: 'activate' }
    if (round.activatedBy === undefined) return { kind: 'watch-switch' }
    const restartedSince = round.restartedBy !== undefined && round.restartedBy !== seen.instance
    if (!restartedSince || round.activatedBy === seen.instance) return { kind: 'restart-agent' }
    return afterActivation(round, seen)
  }
  if (round.mode === 'switch') {
    // It boots what was promoted, or what ran before.
    return seen.booted === round.target
      ? afterActivation(round, seen)
      : claim(
          OutcomeClass.UNKNOWN,
          `the machine restarted before ${round.target} was confirmed, and booted ${seen.booted ?? 'an unknown system'}`,
        )
  }
  if (round.rebootedFrom === undefined) {
    return rebooted
      ? claim(OutcomeClass.UNKNOWN, 'the machine restarted before the trial boot was set')
      : { kind: 'reboot' }
  }
  if (round.rebootedFrom === seen.now.bootId) return { kind: 'reboot' }
  return seen.booted === round.target
    ? afterActivation(round, seen)
    : claim(
        OutcomeClass.ACTIVATION_FAILED,
        `the machine was to boot ${round.target} and came up with ${seen.booted ?? 'an unknown system'}`,
      )
}

function afterActivation(round: RoundState, { current }: Observed): Step {
  if (current !== undefined && current !== round.target) {
    // What holds is proved of what runs: nothing that was asked of another system is a proof of this one, nor may the
    // boot default be set over it. What ran before is the one that is known to be good.
    return claim(OutcomeClass.UNKNOWN, byHand(current, round.target))
  }
  if (!round.proved) return { kind: 'prove' }
  return round.confirmedBy === undefined ? { kind: 'confirm' } : { kind: 'promote' }
}

/** Why it is taken back where somebody else made the machine another in its middle. */
export function byHand(current: string, target: string): string {
  const away = 'that one can be switched to again once this is over'
  return `${current} runs, to which this operation did not switch (by hand?), and not ${target}: ${away}`
}

function prepare(state: OperationState): Step {
  if (state.attempts < MAX_ATTEMPTS) return { kind: 'prepare' }
  const phase = state.running ?? state.phases.at(-1)?.phase ?? Phase.VERIFY
  const failure = failureBefore(phase)
  return conclude({
    ...failure,
    phase,
    reason: `begun ${state.attempts} times and cut off each time; nothing was activated`,
    storePath: state.storePath,
  })
}

/** A reboot that was ordered for itself. */
function nextOfReboot(state: OperationState, seen: Observed): Step {
  if (!state.reboot) return prepare(state).kind === 'prepare' ? { kind: 'reboot' } : prepare(state)
  if (state.reboot.bootId === seen.now.bootId) return { kind: 'reboot' }
  return conclude({
    class: OutcomeClass.SUCCEEDED,
    refusal: '',
    reason: `booted ${seen.booted ?? 'an unknown system'}`,
    phase: Phase.REBOOT,
    storePath: seen.booted ?? '',
  })
}

function nextOfReturn(state: OperationState, round: RoundState, seen: Observed, why: ReturnClaim): Step {
  const { returnEnd: end } = seen
  if (!end || end.kind === 'booting') return { kind: 'await-return' }
  if (why.by === 'boot' && !round.activationStarted && round.rebootedFrom === undefined) {
    // The machine fell over before it was touched: the order stands.
    if (round.number < MAX_ROUNDS) return prepare(state)
  }
  const cause = causeOf(state, round, why)
  const base = { refusal: '', phase: Phase.RETURN, storePath: round.target, firstCause: cause.class }
  if (end.kind === 'failed') {
    return conclude({
      ...base,
      class: OutcomeClass.ROLLBACK_FAILED,
      reason: `${cause.reason}; then the way back failed: ${end.reason}`,
      exitCode: end.exitCode,
      quarantine: cause.quarantine,
    })
  }
  return conclude({
    ...base,
    class: cause.class === OutcomeClass.UNCONFIRMED ? OutcomeClass.UNCONFIRMED : OutcomeClass.ROLLED_BACK,
    reason: `${cause.reason}; ${end.reason}`,
    quarantine: cause.quarantine,
  })
}

interface Cause {
  readonly class: OutcomeClass
  readonly reason: string
  readonly quarantine: boolean
}

/** What was proved and confirmed, and what was never booted, is not at fault for a boot loader that could not be written. */
function isBlamed({ mode, rebootedFrom, confirmedBy }: RoundState): boolean {
  return confirmedBy === undefined && (mode === 'switch' || rebootedFrom !== undefined)
}

/** What went wrong first, and whether the target is to blame. */
function causeOf(state: OperationState, round: RoundState, why: ReturnClaim): Cause {
  switch (why.by) {
    case 'agent':
      return {
        class: why.class,
        reason: why.reason,
        quarantine: why.class === OutcomeClass.ACTIVATION_FAILED && isBlamed(round),
      }
    case 'boot':
      if (round.confirmedBy !== undefined) {
        return {
          class: OutcomeClass.UNKNOWN,
          reason: `the machine restarted before ${round.target}, which was confirmed, was the boot default for good`,
          quarantine: false,
        }
      }
      return round.mode === 'switch'
        ? {
            class: OutcomeClass.UNKNOWN,
            reason: `the machine restarted before ${round.target} was confirmed`,
            quarantine: false,
          }
        : {
            class: OutcomeClass.ACTIVATION_FAILED,
            reason: `the trial boot of ${round.target} did not prove itself: the machine restarted again`,
            quarantine: true,
          }
    case 'deadline':
      return causeOfSilence(state, round)
  }
}

function causeOfSilence(state: OperationState, round: RoundState): Cause {
  if (round.confirmedBy !== undefined) {
    return {
      class: OutcomeClass.ACTIVATION_FAILED,
      reason: `${round.target} was confirmed, but did not become the boot default in time`,
      quarantine: false,
    }
  }
  if (round.proved) {
    return {
      class: OutcomeClass.UNCONFIRMED,
      reason: `${round.target} ran and was healthy, but the coordinator did not answer in time`,
      quarantine: false,
    }
  }
  const proving = state.phases.some(({ phase }) => phase === Phase.PROVE)
  if (proving) {
    return {
      class: OutcomeClass.ACTIVATION_FAILED,
      reason: `the health of ${round.target} was not proved in time`,
      quarantine: true,
    }
  }
  return round.activatedBy !== undefined || round.rebootedFrom !== undefined
    ? {
        class: OutcomeClass.ACTIVATION_FAILED,
        reason: `the agent did not come back in ${round.target} in time`,
        quarantine: true,
      }
    : {
        class: OutcomeClass.UNKNOWN,
        reason: `nothing was heard of the switch to ${round.target} in time`,
        quarantine: false,
      }
}

/** Expired is final: also what is being confirmed at this instant is too late. */
function isOver({ deadline, now }: Observed): boolean {
  if (!deadline) return false
  return leftUntil(deadline, now) === 0
}

const claim = (kind: OutcomeClass, reason: string): Step => ({
  kind: 'claim-return',
  claim: { by: 'agent', class: kind, reason },
})

const conclude = (conclusion: Conclusion): Step => ({ kind: 'conclude', conclusion })
