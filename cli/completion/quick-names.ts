import { ClusterService } from '../../shared/gen/muster/v1/cluster_pb.ts'
import { MachineState } from '../../shared/gen/muster/v1/machine_pb.ts'
import { RolloutService } from '../../shared/gen/muster/v1/rollout_pb.ts'
import { withDeadline } from '../../shared/lifecycle.ts'
import { OPENABLE_GATES } from '../../shared/rollout/openable-gates.ts'
import type { Cli } from '../cli.ts'
import { fetchMachines } from '../commands/list-machines.ts'
import { type Connection, withCoordinator } from '../connect.ts'
import { listProfiles } from '../profiles.ts'
import type { NameKind } from './name-kinds.ts'

/** Longer than this nobody waits for the Tab key. */
export const NAMES_WITHIN_MS = 700

/** Names of these kinds; those that the coordinator has, if it answers in time. */
export async function quickNames(cli: Cli, kinds: readonly NameKind[], typed: string): Promise<string[]> {
  const names: string[] = []
  if (kinds.includes('gate')) names.push(...OPENABLE_GATES)
  if (kinds.includes('revision')) names.push('newest')
  const asked = kinds.flatMap(kind => SOURCES[kind] ?? [])
  try {
    if (kinds.includes('profile')) names.push(...(await listProfiles(cli.settings.configHome)))
    if (asked.length === 0) return names.filter(isSafeWord)
    const found = await withDeadline(NAMES_WITHIN_MS, cli.signal, signal =>
      withCoordinator({ ...cli, signal }, connection =>
        Promise.all(asked.map(source => source(connection, typed))),
      ),
    )
    names.push(...found.flat())
  } catch {
    // Completion without names is better than a complaint in the middle of a line.
  }
  return names.filter(isSafeWord)
}

type Source = (connection: Connection, typed: string) => Promise<string[]>

const SOURCES: Readonly<Partial<Record<NameKind, Source>>> = {
  host: hostNames,
  cluster: async ({ service, call }) =>
    (await service(ClusterService).listClusters({}, call)).clusters.map(({ name }) => name),
  rollout: async ({ service, call }) =>
    (await service(RolloutService).listRollouts({}, call)).rollouts.map(({ id }) => id),
  revision: async ({ client, call }) =>
    (await client.listRevisions({}, call)).revisions.map(({ number }) => String(number)),
  token: async ({ client, call }) => (await client.listTokens({}, call)).tokens.map(({ id }) => id),
  operator: async ({ client, call }) =>
    (await client.listOperators({}, call)).operators.map(({ name }) => name),
  // A hundred ids beside the hosts would hide them: they come once one is begun.
  operation: async ({ client, call }, typed) =>
    typed === ''
      ? []
      : (await client.listOperations({}, call)).operations.map(({ operationId }) => operationId),
}

/** Hosts, and the ids of machines that wait. A host whose machine was turned away names none any more. */
async function hostNames(connection: Connection): Promise<string[]> {
  const { machines } = await fetchMachines(connection, {})
  return machines.map(({ host, id, state }) => {
    if (state === MachineState.PENDING) return host || id.slice(0, 12)
    return state === MachineState.ACTIVE || state === MachineState.ENROLLED ? host : ''
  })
}

/** Names come from machines and end up in a shell's line. */
function isSafeWord(word: string): boolean {
  return /^[a-z0-9][a-z0-9-]*$/.test(word)
}
