import type { Wait } from './decision.ts'
import type { GateInput } from './gates.ts'
import { isDisruptive, newestGrants, stepsOf } from './host-steps.ts'
import type { RolloutRecord, StepKind } from './rollout-record.ts'
import type { HostView, RolloutSnapshot } from './rollout-snapshot.ts'
import { whyNotNeeded } from './why-not-needed.ts'

/** An order that a step comes to, and who takes it: the host itself, or any server of its cluster. */
interface NeededVerb {
  readonly verb: string
  readonly of: 'host' | 'server'
}

/** What an agent must allow for a step; undefined: the step orders nobody anything. */
export function verbOf(
  { action, how }: Pick<RolloutRecord, 'action' | 'how'>,
  step: StepKind,
): NeededVerb | undefined {
  switch (step) {
    case 'prefetch':
      return action === 'apply' || action === 'upgrade' ? { verb: action, of: 'host' } : undefined
    case 'snapshot':
      return { verb: 'snapshot', of: 'host' }
    case 'drain':
    case 'uncordon':
      return { verb: 'drain', of: 'server' }
    case 'prove':
    case 'soak':
      return undefined
    case 'act':
      if (action === 'drain' || action === 'uncordon') return { verb: 'drain', of: 'server' }
      return { verb: action, of: how === undefined ? 'host' : 'server' }
  }
}

/**
 * What the owner of a node lets be ordered there holds before anything is begun, for this step and for those that follow up to the act:
 * nobody is drained for an order that would be refused. What was never said forbids nothing: the node refuses by itself.
 */
export function* allowed({ snapshot, rollout, host, view, step, servers }: GateInput): Iterable<Wait> {
  if (!view) return
  const steps = stepsOf(rollout, host)
  const upTo = steps.indexOf('act')
  const missing = new Map<string, NeededVerb>()
  for (const next of steps.slice(steps.indexOf(step), upTo + 1)) {
    // Whether anything is drained for a change is known when its plan is.
    if (next === 'drain' && !isDisruptive(step)) continue
    const needed = verbOf(rollout, next)
    if (!needed || missing.has(needed.verb)) continue
    if (whyNotNeeded(snapshot, rollout, host, next) !== undefined) continue
    const takers = needed.of === 'host' ? [view] : servers.of(host.cluster)
    if (takers.length > 0 && takers.every(taker => forbids(taker, needed.verb))) {
      missing.set(needed.verb, needed)
    }
  }
  for (const { verb, of } of missing.values()) {
    yield of === 'host'
      ? {
          gate: 'allow',
          reason: `its agent does not take orders to ${verb}`,
          opens: `\`allow\` of its agent has "${verb}"`,
        }
      : {
          gate: 'allow',
          reason: `no server of cluster ${host.cluster} takes orders to ${verb}`,
          opens: `\`allow\` of a server's agent has "${verb}"`,
        }
  }
  const { plan } = snapshot.operations.get(newestGrants(host).get('prefetch')?.operation ?? '') ?? {}
  if (rollout.action === 'apply' && plan?.barred && forbids(view, 'reboot')) {
    yield {
      gate: 'allow',
      reason: 'by its plan only a reboot reaches the system, and its agent does not take orders to reboot',
      opens: '`allow` of its agent has "reboot"',
    }
  }
}

export function forbids({ allowed: said }: HostView, verb: string): boolean {
  return said !== undefined && !said.includes(verb)
}

/** The servers of each cluster. Read once, since every host asks. */
export class Servers {
  readonly #hosts: RolloutSnapshot['hosts']
  #byCluster: Map<string, HostView[]> | undefined

  constructor({ hosts }: Pick<RolloutSnapshot, 'hosts'>) {
    this.#hosts = hosts
  }

  of(cluster: string | undefined): readonly HostView[] {
    this.#byCluster ??= this.#read()
    return cluster === undefined ? [] : (this.#byCluster.get(cluster) ?? [])
  }

  #read(): Map<string, HostView[]> {
    const found = new Map<string, HostView[]>()
    for (const view of this.#hosts.values()) {
      if (view.cluster === undefined || !view.server) continue
      const list = found.get(view.cluster)
      if (list) list.push(view)
      else found.set(view.cluster, [view])
    }
    return found
  }
}
