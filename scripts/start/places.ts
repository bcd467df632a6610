import { join } from 'node:path'

/** Where everything of a start lies. */
export type Places = ReturnType<typeof placesBelow>

export function placesBelow(state: string) {
  return {
    state,
    running: join(state, 'running.json'),
    ports: join(state, 'ports.json'),
    socket: join(state, 'coordinator.sock'),
    coordinator: join(state, 'coordinator'),
    coordinatorState: join(state, 'coordinator/state'),
    agent: join(state, 'agent'),
    agentState: join(state, 'agent/state'),
    agentSocket: join(state, 'agent.sock'),
    token: join(state, 'agent/token'),
    logs: join(state, 'logs'),
  }
}
