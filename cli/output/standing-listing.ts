import { status } from '@grpc/grpc-js'
import {
  type GateWait,
  type HostStanding,
  HostStandingSchema,
  RolloutService,
} from '../../shared/gen/muster/v1/rollout_pb.ts'
import { RpcError } from '../../shared/rpc/rpc-error.ts'
import { millisOf } from '../../shared/time.ts'
import type { Connection } from '../connect.ts'
import { whatItDoes } from '../rollouts/rollout-words.ts'
import { ago } from './machine-listing.ts'
import { type PlainRecord, plainOf } from './plain.ts'
import type { Column } from './table.ts'

export const STANDING_FIELDS = [
  ...['host', 'machine', 'rollout', 'action', 'revision', 'pending', 'behind', 'state', 'step', 'waits'],
] as const

/** A host, and one of the gates that hold it; undefined: none does. */
export interface StandingAtGate {
  readonly standing: HostStanding
  readonly wait: GateWait | undefined
}

/** What a host waits for, or all hosts that are held for themselves. A coordinator that cannot say has nothing to say. */
export async function fetchStandings(
  { service, call }: Connection,
  host: string,
): Promise<readonly HostStanding[]> {
  try {
    return (await service(RolloutService).listStandings({ host }, call)).standings
  } catch (error) {
    if (error instanceof RpcError && error.code === status.UNIMPLEMENTED) return []
    throw error
  }
}

export function standingRecord(standing: HostStanding): PlainRecord {
  return plainOf(HostStandingSchema, standing)
}

/** A line for each gate that holds a host. */
export function atGates(standings: readonly HostStanding[]): readonly StandingAtGate[] {
  return standings.flatMap((standing): readonly StandingAtGate[] =>
    standing.waits.length === 0
      ? [{ standing, wait: undefined }]
      : standing.waits.map(wait => ({ standing, wait })),
  )
}

export function standingColumns(now: Date): readonly Column<StandingAtGate>[] {
  return [
    { title: 'HOST', wraps: true, text: ({ standing }) => standing.host },
    { title: 'TO DO', wraps: true, text: ({ standing }) => whatItDoes(standing) },
    { title: 'ROLLOUT', text: ({ standing }) => standing.rollout },
    { title: 'SINCE', text: ({ wait }) => ago(millisOf(wait?.since), now.getTime()) },
    { title: 'STATE', wraps: true, text: standingWords, style: ({ wait }) => (wait ? 'warn' : 'plain') },
    { title: 'OPENS WHEN', wraps: true, text: ({ wait }) => wait?.opens ?? '' },
  ]
}

function standingWords({ standing, wait }: StandingAtGate): string {
  const { pending, step } = standing
  const doing = pending ? 'left behind' : step
  if (!wait) return doing || 'waits for its turn'
  return `${doing === '' ? '' : `${doing}: `}waits at ${wait.gate}: ${wait.reason}`
}
