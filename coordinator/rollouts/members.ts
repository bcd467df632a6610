import type { Target } from '../../shared/gen/muster/v1/manifest_pb.ts'
import { type Amount, countOf } from '../../shared/rollout/amount.ts'
import { readHostPolicy } from '../../shared/rollout/rollout-policy.ts'
import type { MachineDirectory } from '../machines/directory.ts'
import type { MachineEntry } from '../machines/entry.ts'

/** A host that a rollout is to have, before its place in the order is known. */
export interface Member {
  readonly host: string
  readonly machine: string | undefined
  readonly cluster: string | undefined
  readonly role: string
  readonly after: readonly string[]
  readonly drainLimitMs: number | undefined
  /** How often its machine has booted by now; undefined: not known. */
  readonly boots?: number | undefined
}

export interface OrderedMember extends Member {
  readonly canary: boolean
}

/** The target that the newest revision has for a host, as it lists it by name or as a group that admitted its machine. */
export function targetOfHost(
  directory: MachineDirectory,
  host: string,
  machine: string | undefined,
): Target | undefined {
  const assignment = machine === undefined ? undefined : directory.assignment(machine)
  const group = assignment?.kind === 'host' ? assignment.group : ''
  return group === '' ? directory.targets.hosts.get(host) : directory.targets.groups.get(group)
}

/** What the newest revision says of a host that a machine is, or that it lists by name. */
export function memberOfHost(directory: MachineDirectory, host: string, machine: string | undefined): Member {
  const target = targetOfHost(directory, host, machine)
  const policy = readHostPolicy(target?.rollout)
  return {
    host,
    machine,
    cluster: target && target.cluster !== '' && target.role !== 'none' ? target.cluster : undefined,
    role: target?.role ?? 'none',
    after: policy.kind === 'ok' ? policy.value.after : [],
    drainLimitMs: policy.kind === 'ok' ? policy.value.drainLimitMs : undefined,
    boots: bootsOf(machine === undefined ? undefined : directory.get(machine)),
  }
}

/** A machine that never connected has counted nothing. */
export function bootsOf(entry: Pick<MachineEntry, 'bootCount'> | undefined): number | undefined {
  return entry === undefined || entry.bootCount === 0 ? undefined : entry.bootCount
}

/** Who is asked to go first. */
export interface CanaryWish {
  readonly named: readonly string[]
  /** So many besides, chosen from the members. */
  readonly size: Amount | undefined
  /** Where canaries are wanted and no member would be one, another takes their place: what is brought is proved by somebody before all others. */
  readonly standIn: boolean
  /** Servers that go last in their clusters; none of them stands in while there is another. */
  readonly leaders: ReadonlySet<string>
}

/**
 * Members in the order of their turns: canaries, then cluster by cluster the servers before the workers, hosts that go after others
 * behind them. Canaries that are chosen by number are workers, or hosts outside of clusters, never a server: by their names, those that are
 * a machine first. `standIn`: who is a canary because nobody else was.
 */
export function orderMembers(
  members: readonly Member[],
  { named: canaries, size, standIn, leaders }: CanaryWish,
): { readonly members: readonly OrderedMember[]; readonly standIn: string | undefined } {
  const byName = members.toSorted((a, b) => (a.host < b.host ? -1 : 1))
  const named = new Set(canaries)
  // What no machine is would be waited for by everybody.
  const eligible = byName.toSorted(
    (a, b) => Number(a.machine === undefined) - Number(b.machine === undefined),
  )
  const able = eligible.filter(member => !isServerRole(member.role) && !named.has(member.host))
  const chosen = size ? able.slice(0, countOf(size, members.length)) : []
  const isWanted = canaries.length > 0 || size !== undefined
  const has = chosen.length > 0 || byName.some(({ host }) => named.has(host))
  const stands =
    isWanted && !has && standIn && members.length > 1
      ? (able[0] ?? eligible.find(({ host }) => !leaders.has(host)) ?? eligible[0])?.host
      : undefined
  const isCanary = new Set([
    ...named,
    ...chosen.map(({ host }) => host),
    ...(stands === undefined ? [] : [stands]),
  ])
  const depth = depths(byName)
  // Of everybody a canary nobody is one: then there is nobody to go before.
  const all = byName.every(({ host }) => isCanary.has(host))
  const ordered = byName.map(member => ({ ...member, canary: !all && isCanary.has(member.host) }))
  const rank = (member: OrderedMember): readonly (number | string)[] => [
    member.canary ? 0 : 1,
    depth.get(member.host) ?? 0,
    member.cluster ?? '',
    isServerRole(member.role) ? 0 : 1,
    member.host,
  ]
  return { members: ordered.toSorted((a, b) => compare(rank(a), rank(b))), standIn: stands }
}

export function isServerRole(role: string): boolean {
  return role === 'server' || role === 'server+worker'
}

function compare(a: readonly (number | string)[], b: readonly (number | string)[]): number {
  for (const [index, left] of a.entries()) {
    const right = b[index]
    if (right === undefined || left === right) continue
    return left < right ? -1 : 1
  }
  return 0
}

/** How many hosts stand in a row before each, by the edges among these members. */
function depths(members: readonly Member[]): ReadonlyMap<string, number> {
  const after = new Map(members.map(member => [member.host, member.after]))
  const depth = new Map<string, number>()
  let rest = members.map(({ host }) => host)
  // Each round settles at least one host, unless they stand in a circle, which is refused elsewhere.
  for (let round = 0; rest.length > 0 && round <= members.length; round++) {
    const waiting = rest.filter(host =>
      (after.get(host) ?? []).some(other => other !== host && after.has(other) && !depth.has(other)),
    )
    const settled = new Set(waiting.length === rest.length ? [] : waiting)
    for (const host of rest) if (!settled.has(host) || waiting.length === rest.length) depth.set(host, round)
    rest = waiting.length === rest.length ? [] : waiting
  }
  return depth
}
