import type { GateName } from './decision.ts'
import type { RolloutAction, RolloutRecord } from './rollout-record.ts'

/** What a rollout does, as its gates tell it apart: two actions are other ones by how they were asked for. */
export type GatedAction = RolloutAction | 'leave-dead' | 'rotate-tokens'

export function gatedAction({ action, how }: Pick<RolloutRecord, 'action' | 'how'>): GatedAction {
  if (action === 'leave' && how === 'dead') return 'leave-dead'
  return action === 'rotate' && how === 'tokens' ? 'rotate-tokens' : action
}

type Passed = Readonly<Partial<Record<GateName, string>>>

const BRINGS_NOTHING: Passed = {
  pin: 'it brings no revision',
  quarantine: 'it brings no revision',
  skew: 'it brings no version',
}

/** The node is only spoken of: a server of its cluster does it. */
const BY_A_SERVER: Passed = {
  away: 'a server does it, and the node needs no word of its own',
  unbound: 'a server does it, also to the node of a host that is in no revision any more',
}

/** The cluster's own planner judges these where it begins the act, and knows more of them than what is seen here. */
const BY_ITS_CLUSTER: Passed = {
  unknown: 'the planner of its cluster judges what it knows of the node',
  checks: 'whoever is ill is moved away from, taken out or set back all the same',
  health: 'whoever is ill is moved away from, taken out or set back all the same',
}

/** Nobody is away for it who is not away already. */
const TAKES_NOBODY: Passed = {
  jobs: 'it takes nobody away',
  budget: 'it takes nobody away',
  spread: 'it takes nobody away',
  silence: 'it takes nobody away',
  window: 'it takes nobody away',
}

/**
 * The gates that do not hold an action, and why. EVERY OTHER GATE HOLDS EVERY ACTION: what is new and stands in no line here waits for all.
 */
export const PASSES: Readonly<Record<GatedAction, Passed>> = {
  apply: {},
  upgrade: {},
  reboot: BRINGS_NOTHING,
  restart: BRINGS_NOTHING,
  rollback: {
    ...BRINGS_NOTHING,
    silence: 'a way back is kept from nobody',
    checks: 'a way back is kept from nobody',
    jobs: 'a way back is kept from nobody',
  },
  drain: {
    ...BRINGS_NOTHING,
    ...BY_A_SERVER,
    ...BY_ITS_CLUSTER,
    quorum: 'its server goes on serving the datastore',
  },
  uncordon: {
    ...BRINGS_NOTHING,
    ...BY_A_SERVER,
    ...BY_ITS_CLUSTER,
    ...TAKES_NOBODY,
    quorum: 'it gives a node back',
    order: 'it gives a node back',
    cluster: 'it gives a node back',
    servers: 'it gives a node back',
    canary: 'it gives a node back',
  },
  leave: {
    ...BRINGS_NOTHING,
    ...BY_ITS_CLUSTER,
    away: 'its order lies ready, and the planner of its cluster gives it when the machine is there',
  },
  // A host that is gone for good holds up nothing by being gone. Its datastore must still agree without it.
  'leave-dead': {
    ...BRINGS_NOTHING,
    ...BY_A_SERVER,
    ...BY_ITS_CLUSTER,
    ...TAKES_NOBODY,
    held: 'its machine is asked for nothing',
    busy: 'nobody will hear how what it was at has ended',
  },
  rotate: BRINGS_NOTHING,
  'rotate-tokens': {
    ...BRINGS_NOTHING,
    ...TAKES_NOBODY,
    health: 'nothing is restarted for it',
    checks: 'nothing is restarted for it',
    quorum: 'nothing is restarted for it',
  },
  // There is nothing left that these could protect: the cluster is down, or is given up as it is.
  restore: {
    ...BRINGS_NOTHING,
    ...BY_ITS_CLUSTER,
    ...TAKES_NOBODY,
    quorum: 'it is for a datastore that agrees on nothing any more',
  },
  wipe: {
    ...BRINGS_NOTHING,
    ...BY_ITS_CLUSTER,
    ...TAKES_NOBODY,
    quorum: 'its host is no member of the datastore, which the planner of its cluster sees to',
  },
}

/** Why a gate does not hold this action; undefined: it does. */
export function whyPassed(
  rollout: Pick<RolloutRecord, 'action' | 'how'>,
  gate: GateName,
): string | undefined {
  return PASSES[gatedAction(rollout)][gate]
}
