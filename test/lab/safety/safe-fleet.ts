import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Outcome, OutcomeClass, Phase } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { outcomeName } from '../../../shared/operation-names.ts'
import { waitUntil } from '../../support/wait-until.ts'
import type { LabFleet } from '../lab-fleet.ts'
import type { LabMachine } from '../machine.ts'

/** Where a machine is when all three places name one system. */
export const allAt = (system: string) => ({ current: system, profile: system, bootDefault: system })

/** "rolled back (activation failed)", "refused no-agent". */
export function inWords({ class: kind, refusal, firstCause }: Outcome): string {
  const cause = firstCause === OutcomeClass.UNSPECIFIED ? '' : `(${outcomeName(firstCause)})`
  return [outcomeName(kind), refusal, cause].filter(text => text !== '').join(' ')
}

export interface JournalLine {
  readonly op: string
  readonly kind: string
  readonly phase?: number
}

/** The agent's journal as it stands on the machine's disk at this moment. */
export async function journalOf(machine: LabMachine): Promise<readonly JournalLine[]> {
  const path = join(machine.root, 'var/lib/muster-agent/journal.jsonl')
  const text = await readFile(path, 'utf8').catch(() => '')
  return text.split('\n').flatMap(line => {
    try {
      const parsed: JournalLine = JSON.parse(line)
      return [parsed]
    } catch {
      return [] // the line that is being written
    }
  })
}

/** Waits until an operation has begun a phase, looking often: some phases take a few milliseconds. */
export async function untilPhase(machine: LabMachine, operation: string, phase: Phase): Promise<void> {
  await untilLine(
    machine,
    operation,
    `phase ${phase}`,
    line => line.kind === 'started' && line.phase === phase,
  )
}

/** Waits until the machine's journal holds a line of this kind of an operation. */
export async function untilJournaled(machine: LabMachine, operation: string, kind: string): Promise<void> {
  await untilLine(machine, operation, `a line of kind ${kind}`, line => line.kind === kind)
}

async function untilLine(
  machine: LabMachine,
  operation: string,
  what: string,
  wanted: (line: JournalLine) => boolean,
): Promise<void> {
  await waitUntil(
    `${what} of ${operation}`,
    async () => (await journalOf(machine)).some(line => line.op === operation && wanted(line)) || undefined,
    { timeoutMs: 60_000, everyMs: 5 },
  )
}

/** Kills the agent's process as the kernel does when memory is short: nothing of it can clean up. */
export async function killAgent(machine: LabMachine): Promise<void> {
  await machine.exec(['systemctl', 'kill', '--kill-who=main', '--signal=KILL', 'muster-agent.service'])
}

/** What must hold after every fault: reachable, nothing left armed or switching, no unit failed. */
export async function atRest(fleet: LabFleet, host: string): Promise<void> {
  await fleet.untilOnline(host)
  const machine = fleet.machine(host)
  await waitUntil(
    `nothing of an operation is left on ${host}`,
    async () => {
      const listed = await machine.ok([
        'systemctl',
        'list-units',
        '--all',
        '--plain',
        '--no-legend',
        'muster-*-*-*',
      ])
      const left = listed
        .split('\n')
        .filter(line => /^muster-(switch|return|back|prove|boot)-/.test(line.trim()))
      if (left.length > 0) throw new Error(`there is ${left.join(', ')}`)
      return true as const
    },
    { timeoutMs: 60_000 },
  )
}

/** Every phase in which a machine can be cut while it changes. */
export const CHANGING_PHASES = [
  ['verify', Phase.VERIFY],
  ['preflight', Phase.PREFLIGHT],
  ['fetch', Phase.FETCH],
  ['build', Phase.BUILD],
  ['plan', Phase.PLAN],
  ['arm', Phase.ARM],
  ['activate', Phase.ACTIVATE],
  ['prove', Phase.PROVE],
  ['confirm', Phase.CONFIRM],
  ['promote', Phase.PROMOTE],
] as const
