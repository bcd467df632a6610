import type { JobsProbe } from '../../shared/gen/muster/v1/probe_pb.ts'
import { openToMany } from '../../shared/lifecycle.ts'
import { type JobGateAnswer, type JobGateDeps, runJobGates } from './run-job-gates.ts'

/**
 * Askings of the Jobs that are gates, one at a time: each takes away what an earlier one of the same gate left, so that two
 * would take away one another's Jobs. Another one that comes while one runs is refused rather than kept waiting, since its
 * own time would run out in the middle of its Jobs. One that nobody waits for any more, since its session broke, is only
 * tidying up: that is waited for, so that who asks again in a new session is not refused for it.
 */
export class JobGateRuns {
  readonly #deps: JobGateDeps
  /** Of the agent. */
  readonly #stop: AbortSignal
  #running: { readonly signal: AbortSignal; readonly over: Promise<void> } | undefined

  constructor(deps: JobGateDeps, stop: AbortSignal) {
    this.#deps = deps
    this.#stop = stop
  }

  async run(asked: JobsProbe, signal: AbortSignal): Promise<readonly JobGateAnswer[]> {
    while (this.#running) {
      if (!this.#running.signal.aborted)
        throw new Error('the Jobs of this cluster are being run here for another question: ask again later')
      await this.#running.over
    }
    const controller = openToMany()
    const end = () => controller.abort(new Error('no longer asked'))
    const ends = [signal, this.#stop]
    if (ends.some(({ aborted }) => aborted)) throw new Error('no longer asked')
    for (const each of ends) each.addEventListener('abort', end, { once: true })
    const work = runJobGates(this.#deps, asked, controller.signal).finally(() => {
      for (const each of ends) each.removeEventListener('abort', end)
      this.#running = undefined
    })
    const over = work.then(
      () => {},
      () => {}, // told to who asked
    )
    this.#running = { signal: controller.signal, over }
    return await work
  }

  /** When what was asked has been tidied up; whoever calls this has the agent's signal fire before. */
  async idle(): Promise<void> {
    while (this.#running) await this.#running.over
  }
}
