// For tests: the coordinator's service of rollouts, scripted, as far as commands of clusters need it.
import { create } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import { status } from '@grpc/grpc-js'
import {
  type HostStanding,
  type PlannedHost,
  PlannedHostSchema,
  type Rollout,
  RolloutHostSchema,
  RolloutHostState,
  RolloutSchema,
  type RolloutService,
  RolloutState,
  type StartRolloutRequest,
} from '../../shared/gen/muster/v1/rollout_pb.ts'
import type { ServiceHandlers } from '../../shared/rpc/definition.ts'
import { notFound, precondition, RpcError } from '../../shared/rpc/rpc-error.ts'

export interface SmallRollouts {
  readonly rollouts: Rollout[]
  readonly requests: StartRolloutRequest[]
  /** What a dry run says of hosts. */
  readonly planned: PlannedHost[]
  /** What hosts wait for. */
  readonly standings: HostStanding[]
  /** How many hosts a dry run was too long for. */
  notThoughtThrough: number
  /** Hosts that do not get there, and why. */
  readonly failures: Map<string, string>
  refusal: string | undefined
}

export function startSmallRollouts(): SmallRollouts {
  return {
    rollouts: [],
    requests: [],
    planned: [],
    standings: [],
    notThoughtThrough: 0,
    failures: new Map(),
    refusal: undefined,
  }
}

export function plannedHost(host: string, waits: string[]): PlannedHost {
  return create(PlannedHostSchema, { host, wave: 1, waits })
}

export function rolloutHandlers(state: SmallRollouts): ServiceHandlers<typeof RolloutService> {
  const unknown = async (): Promise<never> => {
    throw new RpcError(status.UNIMPLEMENTED, 'this test needs no more of rollouts')
  }
  const find = (id: string) => {
    const rollout = state.rollouts.find(each => each.id === id)
    if (!rollout) throw notFound(`id: no rollout ${id}`)
    return rollout
  }
  return {
    startRollout: async request => {
      state.requests.push(request)
      if (state.refusal !== undefined) throw precondition(state.refusal)
      const { refs, action, revision } = request
      const id = `0k3xq2v1a-${state.rollouts.length}`
      const rollout = sampleRollout(refs, { id, action, revision })
      if (request.dryRun) return { rollout, order: state.planned, notThoughtThrough: state.notThoughtThrough }
      state.rollouts.push(rollout)
      return { rollout }
    },
    listRollouts: async ({ open }) => ({
      rollouts: state.rollouts
        .filter(({ ended }) => !open || !ended)
        .map(rollout => ({ ...rollout, hosts: [] })),
    }),
    getRollout: async ({ id }) => ({
      rollout: find(id),
      pending: state.standings.filter(({ rollout }) => rollout === id),
    }),
    listStandings: async ({ host }) => ({
      standings: state.standings.filter(one => host === '' || one.host === host),
    }),
    watchRollout: async function* ({ id }) {
      const rollout = find(id)
      yield { rollout }
      for (const host of rollout.hosts) {
        yield { rollout: { ...rollout, hosts: [{ ...host, state: RolloutHostState.MOVING, step: 'drain' }] } }
        const reason = state.failures.get(host.host)
        host.state = reason === undefined ? RolloutHostState.DONE : RolloutHostState.FAILED
        host.reason = reason ?? ''
        yield { rollout: { ...rollout, hosts: [host] } }
        if (reason !== undefined) break
      }
      const good = rollout.hosts.every(({ state: at }) => at === RolloutHostState.DONE)
      rollout.state = good ? RolloutState.SUCCEEDED : RolloutState.FAILED
      rollout.reason = good ? '' : 'a host failed'
      rollout.ended = timestampFromMs(Date.now())
      for (const host of rollout.hosts) {
        if (host.state === RolloutHostState.WAITING) host.state = RolloutHostState.LEFT
      }
      rollout.counts = {
        done: rollout.hosts.filter(({ state: at }) => at === RolloutHostState.DONE).length,
        failed: state.failures.size,
      }
      yield { rollout }
    },
    pauseRollout: unknown,
    resumeRollout: unknown,
    abortRollout: unknown,
    revertRollout: unknown,
    overrideGate: unknown,
    lockHost: async () => ({}),
    unlockHost: async () => ({}),
    pinHost: async () => ({}),
    unpinHost: async () => ({}),
    listLocks: unknown,
    acceptRestore: async () => ({ accepted: ['olaf accepted revision 7'] }),
  }
}

export function sampleRollout(
  hosts: readonly string[],
  change: { readonly id?: string; readonly action?: string; readonly revision?: bigint } = {},
): Rollout {
  return create(RolloutSchema, {
    id: '0k3xq2v1a-5f0c9d1e2b3a',
    action: 'upgrade',
    revision: 1n,
    state: RolloutState.RUNNING,
    startedBy: 'ann',
    hosts: hosts.map(host =>
      create(RolloutHostSchema, { host, cluster: 'home', state: RolloutHostState.WAITING }),
    ),
    ...change,
  })
}
