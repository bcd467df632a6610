import { setImmediate } from 'node:timers/promises'
import type { MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import type { GetDriftRequest, GetDriftResponseSchema } from '../../shared/gen/muster/v1/drift_pb.ts'
import { judgeDrift } from '../drift/judge-drift.ts'
import { type DriftDeps, type MachineSystems, readDrift } from '../drift/read-drift.ts'
import type { FleetQueryDeps } from '../queries/evaluate-fleet.ts'
import type { Caller } from './caller.ts'
import { selectForOrder } from './select-for-order.ts'

const PAGE = 100

type Item = MessageInitShape<typeof GetDriftResponseSchema>

/** Whether machines are what they should be, from what they told last. */
export function getDrift(deps: DriftDeps & FleetQueryDeps) {
  return async function* (
    { refs, where }: GetDriftRequest,
    _caller: Caller,
    signal: AbortSignal,
  ): AsyncGenerator<Item> {
    const all = refs.length === 0 && where.trim() === ''
    const selected = all
      ? { entries: [...deps.directory.entries()].filter(({ state }) => state === 'active'), errors: [] }
      : await selectForOrder(deps, { refs, where }).then(({ machines, errors }) => ({
          entries: machines.map(({ entry }) => entry),
          errors,
        }))
    for (const error of selected.errors) yield { item: { case: 'error', value: error } }
    for (let at = 0; at < selected.entries.length && !signal.aborted; at += PAGE) {
      const page = selected.entries.slice(at, at + PAGE)
      for (const systems of await readDrift(deps, page)) {
        yield { item: { case: 'machine', value: describe(systems) } }
      }
      await setImmediate()
    }
  }
}

function describe({ entry, host, toldMs, input }: MachineSystems) {
  const drift = judgeDrift(input)
  const name = host || entry.id.slice(0, 12)
  return {
    machine: entry.id,
    host,
    state: drift.state,
    changedBy: drift.changedBy,
    reason: drift.reason,
    remedy: drift.remedy.replaceAll('HOST', name),
    booted: input.booted ?? '',
    current: input.current ?? '',
    profile: input.profile ?? '',
    wantedRevision: BigInt(input.desired?.revision ?? 0),
    wanted: input.desired?.storePath ?? '',
    operationId: input.reached?.operation ?? '',
    reachedRevision: BigInt(input.reached?.revision ?? 0),
    ...(toldMs !== undefined && { told: timestampFromMs(toldMs) }),
  }
}
