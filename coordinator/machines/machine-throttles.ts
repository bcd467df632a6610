import { Throttle } from '../enrolment/throttle.ts'

/** A rate of its own for each machine. Holds one entry for each machine that ever used it: all are known and let in. */
export class MachineThrottles {
  readonly #perSecond: number
  readonly #burst: number
  readonly #ofMachine = new Map<string, Throttle>()

  constructor(perSecond: number, burst: number) {
    this.#perSecond = perSecond
    this.#burst = burst
  }

  /** Takes one: 0 when it may go on, else the seconds until one will. */
  take(machine: string, nowMs: number): number {
    const throttle = this.#ofMachine.get(machine) ?? new Throttle(this.#perSecond, this.#burst)
    this.#ofMachine.set(machine, throttle)
    return throttle.take(nowMs)
  }
}
