import { setImmediate } from 'node:timers/promises'
import type { MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import type { Kysely } from 'kysely'
import type { Plan } from '../../shared/gen/muster/v1/plan_pb.ts'
import type { PlannedChangeSchema } from '../../shared/gen/muster/v1/rollout_pb.ts'
import { runningSystem } from '../machines/running-system.ts'
import { newestPlans, type OperationRow, planOf } from '../store/operations.ts'
import type { Database } from '../store/tables.ts'
import { viewOfOperation } from './operation-view.ts'
import type { RolloutRecord } from './plan/rollout-record.ts'
import type { OperationView } from './plan/rollout-snapshot.ts'

/** Names of units that one answer holds, over all hosts and lists. */
const MOST_NAMES = 60_000
const MOST_NAMES_OF_HOST = 500
const CHUNK = 500

/** What is known of what a revision would change, by host. */
export interface KnownPlans {
  readonly views: ReadonlyMap<string, OperationView>
  /** By host the operation that has planned it, among `views`. */
  readonly operations: ReadonlyMap<string, string>
  readonly changes: ReadonlyMap<string, MessageInitShape<typeof PlannedChangeSchema>>
  /** By host, where there is none. */
  readonly missing: ReadonlyMap<string, string>
}

/** Plans of the hosts of a rollout for what it brings them. A plan by which another system runs there than does now tells nothing. */
export async function knownPlans(
  db: Kysely<Database>,
  { action, hosts }: RolloutRecord,
  manifestDigest: string,
): Promise<KnownPlans> {
  const views = new Map<string, OperationView>()
  const operations = new Map<string, string>()
  const changes = new Map<string, MessageInitShape<typeof PlannedChangeSchema>>()
  const missing = new Map<string, string>()
  const known = { views, operations, changes, missing }
  if (action !== 'apply') return known
  const machines = hosts.flatMap(({ machine }) => machine ?? [])
  const rows = new Map((await newestPlans(db, machines, manifestDigest)).map(row => [row.machine, row]))
  const current = await currentSystems(db, [...rows.keys()])
  const most = Math.max(1, Math.min(MOST_NAMES_OF_HOST, Math.floor(MOST_NAMES / Math.max(1, rows.size * 4))))
  for (const [index, { host, machine }] of hosts.entries()) {
    // Plans may be long: agents and others have their turn in between.
    if (index % CHUNK === CHUNK - 1) await setImmediate()
    const row = rows.get(machine ?? '')
    const plan = row && planOf(row)
    const why = whyNoPlan(machine, plan, current.get(machine ?? ''))
    if (why !== undefined) missing.set(host, why)
    if (!row || !plan || why !== undefined) continue
    views.set(row.id, viewOfOperation(row))
    operations.set(host, row.id)
    changes.set(host, changeOf(row, plan, most))
  }
  return known
}

function whyNoPlan(
  machine: string | undefined,
  plan: Plan | undefined,
  current: string | undefined,
): string | undefined {
  if (machine === undefined) return 'no machine is this host'
  if (!plan) return 'nobody has planned this revision there'
  // What runs may not be told; a plan that is certainly of another system is none.
  return current !== undefined && plan.from !== '' && plan.from !== current
    ? 'it was planned when another system ran there'
    : undefined
}

/** By machine the system that runs there, as it last said. */
async function currentSystems(
  db: Kysely<Database>,
  machines: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  const found = new Map<string, string>()
  for (let at = 0; at < machines.length; at += CHUNK) {
    const rows = await db
      .selectFrom('machines')
      .select(['id', 'node_status'])
      .where('id', 'in', machines.slice(at, at + CHUNK))
      .execute()
    for (const row of rows) {
      const current = runningSystem(row)
      if (current !== undefined) found.set(row.id, current)
    }
  }
  return found
}

function changeOf(row: OperationRow, plan: Plan, most: number): MessageInitShape<typeof PlannedChangeSchema> {
  const lists = [plan.stops, plan.starts, plan.restarts, plan.reloads]
  const cut = lists.reduce((sum, list) => sum + Math.max(0, list.length - most), 0)
  return {
    operationId: row.id,
    at: timestampFromMs(row.ended ?? row.ordered),
    mode: plan.mode,
    rebootReasons: plan.rebootReasons,
    stops: plan.stops.slice(0, most),
    starts: plan.starts.slice(0, most),
    restarts: plan.restarts.slice(0, most),
    reloads: plan.reloads.slice(0, most),
    moreUnits: plan.leftOut + cut,
    kubernetesRestarts: plan.kubernetesRestarts,
  }
}
