/** Where this agent stands with its coordinator. */
export type AgentPhase = 'enrolling' | 'waiting' | 'refused' | 'connecting' | 'connected'

/** What the local socket tells, kept up to date by whoever knows. */
export class StatusBoard {
  #phase: AgentPhase = 'enrolling'
  #reason = ''
  #coordinator: string

  constructor(coordinator: string) {
    this.#coordinator = coordinator
  }

  get phase(): AgentPhase {
    return this.#phase
  }

  get reason(): string {
    return this.#reason
  }

  get coordinator(): string {
    return this.#coordinator
  }

  set(phase: AgentPhase, reason: string, coordinator = this.#coordinator): void {
    this.#phase = phase
    this.#reason = reason
    this.#coordinator = coordinator
  }
}
