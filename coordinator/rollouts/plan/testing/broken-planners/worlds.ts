import type { SimulationOptions } from '../simulated-operators.ts'

/** A world that gives every mistake its chance. */
export const SMALL_WORLD: SimulationOptions = {
  seed: 1,
  alone: 12,
  quarantined: 0,
  lying: 0.02,
  forbidding: 0,
  late: 0,
  joining: 0,
  askGates: false,
  askJobs: false,
  calamity: false,
  clusters: [
    { servers: 3, workers: 5 },
    { servers: 3, workers: 2 },
  ],
  maxUnavailable: { kind: 'number', number: 2 },
  onFailure: 'continue',
  maxFailures: undefined,
  spread: false,
  canaries: 1,
  byHand: false,
  actions: ['upgrade', 'apply', 'reboot'],
  later: [],
}

/** A world in which much is done in clusters. */
export const BUSY: Partial<SimulationOptions> = {
  alone: 0,
  maxUnavailable: { kind: 'percent', percent: 100 },
}

/** A world in which operators name hosts one by one, and many are off. */
export const BY_HAND: Partial<SimulationOptions> = {
  byHand: true,
  clusters: [],
  alone: 30,
  maxUnavailable: { kind: 'number', number: 1 },
}

/** A world in which much is taken back. */
export const TAKES_BACK: Partial<SimulationOptions> = {
  actions: ['apply', 'apply', 'apply'],
  onFailure: 'revert',
  later: ['rollback', 'apply', 'rollback', 'apply', 'rollback', 'apply', 'rollback'],
}
