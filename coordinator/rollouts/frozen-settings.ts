import { z } from 'zod'
import type { RolloutSettings } from '../../shared/gen/muster/v1/rollout_pb.ts'
import { type Amount, amountText, readAmount } from '../../shared/rollout/amount.ts'
import { failurePolicies, MAX_CANARIES, ROLLOUT_BOUNDS } from '../../shared/rollout/rollout-bounds.ts'
import type { RolloutPolicy } from '../../shared/rollout/rollout-policy.ts'
import { invalid } from '../../shared/rpc/rpc-error.ts'
import { durationFromMs, msFromDuration } from '../../shared/time.ts'
import type { FrozenSettings, RolloutAction } from './plan/rollout-record.ts'

/** Settings of one rollout, with the canaries that they name: what was asked for, else the fleet's policy. */
export interface AskedSettings {
  readonly frozen: FrozenSettings
  readonly canaries: readonly string[]
  readonly canarySize: Amount | undefined
  /** What of the fleet's policy means something else for this action, one sentence; undefined: nothing. */
  readonly remark: string | undefined
}

/** Fills in what the request leaves open; throws with the field's name where it says nonsense. */
export function freezeSettings(
  policy: RolloutPolicy,
  asked: RolloutSettings | undefined,
  action: RolloutAction,
  how: Pick<FrozenSettings, 'direct' | 'prefetch' | 'awayMs'>,
): AskedSettings {
  const maxUnavailable = asked?.maxUnavailable
    ? amount('max_unavailable', asked.maxUnavailable)
    : policy.maxUnavailable
  const onFailure = asked?.onFailure || policy.onFailure
  const wanted = failurePolicies.find(known => known === onFailure)
  if (!wanted) throw invalid(`settings.on_failure: must be ${failurePolicies.join(', ')}`)
  const cannot = wanted === 'revert' && action !== 'apply'
  if (cannot && asked?.onFailure) {
    throw invalid(
      `settings.on_failure: ${action} cannot be taken back, only apply can: its system before is still there; say stop or continue`,
    )
  }
  const failure = cannot ? 'stop' : wanted
  const most = asked?.maxFailures || policy.maxFailures
  if (most !== undefined && most > ROLLOUT_BOUNDS.maxFailures.most) {
    throw invalid(`settings.max_failures: must be at most ${ROLLOUT_BOUNDS.maxFailures.most}`)
  }
  if (asked?.maxFailures && failure !== 'continue') {
    throw invalid('settings.max_failures: has a meaning with --on-failure continue alone')
  }
  const soakMs = durationOf('soak', asked?.soak, ROLLOUT_BOUNDS.soakMs) ?? policy.soakMs
  const canarySoakMs =
    durationOf('canary_soak', asked?.canarySoak, ROLLOUT_BOUNDS.soakMs) ??
    (asked?.soak ? soakMs : policy.canarySoakMs)
  const canaries = asked && asked.canaries.length > 0 ? asked.canaries : policy.canaries
  if (canaries.length > MAX_CANARIES) throw invalid(`settings.canaries: at most ${MAX_CANARIES}`)
  const canarySize = asked?.canarySize ? amount('canary_size', asked.canarySize) : policy.canarySize
  return {
    frozen: {
      maxUnavailable,
      maxUnavailableAlone: maxUnavailable,
      soakMs,
      canarySoakMs,
      onFailure: failure,
      maxFailures: most,
      spread: asked?.spread || policy.spread,
      drainLimitMs:
        durationOf('drain_limit', asked?.drainLimit, ROLLOUT_BOUNDS.drainLimitMs) ?? policy.drainLimitMs,
      ...how,
    },
    canaries,
    canarySize,
    remark: cannot ? `on-failure is stop, since ${action} cannot be taken back` : undefined,
  }
}

function amount(field: string, text: string): Amount {
  const read = readAmount(text)
  if (!read) throw invalid(`settings.${field}: must be such as 2 or 10%, and not nothing`)
  return read
}

function durationOf(
  field: string,
  value: Parameters<typeof msFromDuration>[0] | undefined,
  { least, most }: { readonly least: number; readonly most: number },
): number | undefined {
  if (!value) return undefined
  const ms = msFromDuration(value)
  if (ms >= least && ms <= most) return ms
  throw invalid(`settings.${field}: must be from ${least / 1_000} s to ${most / 1_000} s`)
}

const amountRow = z.string().transform((text, context) => {
  const read = readAmount(text)
  if (read) return read
  context.addIssue({ code: 'custom', message: 'is no amount' })
  return z.NEVER
})

const row = z.strictObject({
  maxUnavailable: amountRow,
  maxUnavailableAlone: amountRow,
  soakMs: z.number(),
  canarySoakMs: z.number(),
  onFailure: z.enum(failurePolicies),
  maxFailures: z.number().optional(),
  spread: z.string().optional(),
  drainLimitMs: z.number(),
  prefetch: z.boolean(),
  direct: z.boolean(),
  awayMs: z.number(),
})

export function settingsToRow(settings: FrozenSettings): string {
  return JSON.stringify({
    ...settings,
    maxUnavailable: amountText(settings.maxUnavailable),
    maxUnavailableAlone: amountText(settings.maxUnavailableAlone),
  })
}

export function settingsOfRow(text: string): FrozenSettings {
  const { maxFailures, spread, ...rest } = row.parse(JSON.parse(text))
  return { ...rest, maxFailures, spread }
}

/** As operators are shown them. */
export function describeSettings(settings: FrozenSettings) {
  return {
    maxUnavailable: amountText(settings.maxUnavailable),
    canarySoak: durationFromMs(settings.canarySoakMs),
    soak: durationFromMs(settings.soakMs),
    onFailure: settings.onFailure,
    maxFailures: settings.maxFailures ?? 0,
    spread: settings.spread ?? '',
    drainLimit: durationFromMs(settings.drainLimitMs),
  }
}
