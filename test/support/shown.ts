import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { vi } from 'vitest'
import type { Event } from '../../shared/gen/muster/v1/event_pb.ts'
import { type Machine, MachineState } from '../../shared/gen/muster/v1/machine_pb.ts'
import type { AgentProcess, Fleet } from './fleet.ts'
import type { Found } from './wait-until.ts'

/** What operators are shown, for tests that wait until it is so. */
const WAIT = { timeout: 60_000, interval: 100 }
const STATE_NAMES = ['unspecified', 'pending', 'enrolled', 'active', 'rejected', 'evicted', 'banned']

/** Waits until something is there; what it is. `what` says what was waited for when it never came. */
export async function until<T>(
  what: string,
  look: () => Promise<Found<T> | undefined> | Found<T> | undefined,
): Promise<T> {
  return await vi.waitFor(async () => {
    const found = await look()
    if (found === undefined) throw new Error(`never came: ${what}`)
    return found
  }, WAIT)
}

/** The id of an agent's machine, once it has one. */
export async function idOf(agent: AgentProcess): Promise<string> {
  return await until(`id of ${agent.name}`, async () => {
    const text = await readFile(join(agent.stateDir, 'state.json'), 'utf8').catch(() => '{}')
    const state: { machine?: string } = JSON.parse(text)
    return state.machine
  }).catch((error: Error) => {
    throw new Error(`${error.message}; it printed:\n${agent.program?.stdout}\n${agent.program?.stderr}`)
  })
}

/** A machine as the coordinator shows it; undefined: it knows none such. */
export async function shownMachine(fleet: Fleet, ref: string): Promise<Machine | undefined> {
  const { machines } = await fleet.api.listMachines({ where: '' })
  return machines.find(machine => machine.id === ref || machine.host === ref)
}

export async function untilMachine(
  fleet: Fleet,
  ref: string,
  what: string,
  accept: (machine: Machine) => boolean,
): Promise<Machine> {
  let last: Machine | undefined
  return await until(`machine ${ref.slice(0, 12)}: ${what}`, async () => {
    last = await shownMachine(fleet, ref)
    return last && accept(last) ? last : undefined
  }).catch((error: Error) => {
    const seen = last && [STATE_NAMES[last.state], `online ${last.online}`, last.host, ...conditionsOf(last)]
    throw new Error(`${error.message}; last seen: ${seen?.join(', ')}`)
  })
}

/** Waits until an agent is enrolled, was seen over mutual TLS and is connected. */
export async function untilActive(fleet: Fleet, agent: AgentProcess): Promise<Machine> {
  const isActive = ({ state, online }: Machine) => state === MachineState.ACTIVE && online
  return await untilMachine(fleet, await idOf(agent), `${agent.name} active and online`, isActive)
}

export async function untilPending(fleet: Fleet, agent: AgentProcess): Promise<Machine> {
  const isPending = ({ state }: Machine) => state === MachineState.PENDING
  return await untilMachine(fleet, await idOf(agent), `${agent.name} pending`, isPending)
}

export function conditionsOf(machine: Machine): string[] {
  return machine.conditions.map(({ class: kind, reason }) => `${kind}: ${reason}`)
}

export async function untilCondition(fleet: Fleet, ref: string, kind: string): Promise<Machine> {
  return await untilMachine(fleet, ref, `condition ${kind}`, machine =>
    machine.conditions.some(condition => condition.class === kind),
  )
}

/** Events, the newest first; of one machine when it is named. */
export async function events(fleet: Fleet, ref = ''): Promise<Event[]> {
  return (await fleet.api.listEvents({ ref, limit: 1000 })).events
}

/** Waits until an event of this class whose reason matches is shown. */
export async function untilEvent(
  fleet: Fleet,
  machine: string,
  kind: string,
  reason: RegExp = /^/,
): Promise<Event> {
  let all: Event[] = []
  return await until(`event ${kind} ${reason} of ${machine.slice(0, 12)}`, async () => {
    all = await events(fleet)
    return all.find(event => event.machine === machine && event.class === kind && reason.test(event.reason))
  }).catch((error: Error) => {
    const told = all.slice(0, 12).map(event => `${event.class} ${event.machine.slice(0, 12)} ${event.reason}`)
    throw new Error(`${error.message}; events:\n${told.join('\n')}`)
  })
}

export interface TokenOptions {
  readonly uses?: number
  readonly host?: string
  readonly lifetimeMs?: number
  readonly labels?: Record<string, string>
}

/** A token's text. */
export async function makeToken(fleet: Fleet, options: TokenOptions = {}): Promise<string> {
  const { uses = 1, host = '', lifetimeMs = 3_600_000, labels = {} } = options
  const lifetime = { seconds: BigInt(Math.floor(lifetimeMs / 1000)), nanos: (lifetimeMs % 1000) * 1_000_000 }
  return (await fleet.api.createToken({ lifetime, uses, host, labels })).token
}

/** Waits until an agent's console says something; all it says. */
export async function untilConsole(agent: AgentProcess, text: RegExp): Promise<string> {
  let said = ''
  return await until(`${text} on the console of ${agent.name}`, async () => {
    said = await agent.consoleText()
    return text.test(said) ? said : undefined
  }).catch((error: Error) => {
    throw new Error(`${error.message}; it says:\n${said}`)
  })
}
