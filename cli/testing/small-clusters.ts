// For tests: the coordinator's service of clusters, scripted: what hosts there are and how acts end is said by the test. It
// verifies operators' orders as a node would, with the shared code.
import { setTimeout as sleep } from 'node:timers/promises'
import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import {
  type ClusterAct,
  ClusterActSchema,
  type ClusterHost,
  ClusterHostSchema,
  ClusterRole,
  type ClusterService,
  ClusterStanding,
  ClusterStepEndedSchema,
  type ClusterSummary,
  ClusterSummarySchema,
  type StartClusterActRequest,
} from '../../shared/gen/muster/v1/cluster_pb.ts'
import { operationId } from '../../shared/ids.ts'
import { SIGNED_ACTS } from '../../shared/operator-order/operator-order.ts'
import { verifyOperatorOrder } from '../../shared/operator-order/verify-operator-order.ts'
import type { ServiceHandlers } from '../../shared/rpc/definition.ts'
import { invalid, notFound, precondition } from '../../shared/rpc/rpc-error.ts'
import type { KnownTrust } from '../../shared/trust/trust-set.ts'

/** How an act ends; undefined: it does not. */
export type ActAnswer = MessageInitShape<typeof ClusterStepEndedSchema> | undefined

export interface SmallClusters {
  readonly summaries: ClusterSummary[]
  readonly hosts: Map<string, ClusterHost[]>
  /** What the cluster as a whole waits for. */
  readonly waitsFor: string[]
  /** How late the list of clusters is answered. */
  answersAfterMs: number
  /** Newest first. */
  readonly acts: ClusterAct[]
  readonly requests: StartClusterActRequest[]
  /** What each act waits for before it ends. */
  readonly waits: string[]
  /** How acts end; done where nothing is said. */
  answer: (request: StartClusterActRequest, act: ClusterAct) => ActAnswer
  /** Why the next acts are refused, one reason a line. */
  refusal: string | undefined
  /** The answer to the next start is lost after the act began. */
  loseAnswer: (() => void) | undefined
  readonly adoptions: { readonly name: string; readonly dryRun: boolean }[]
}

const NOW = () => timestampFromMs(Date.now())

export function sampleHost(change: MessageInitShape<typeof ClusterHostSchema> = {}): ClusterHost {
  return create(ClusterHostSchema, {
    host: 'olaf',
    machine: 'ab'.repeat(32),
    role: ClusterRole.SERVER_AND_WORKER,
    joined: true,
    version: '1.34.3',
    ready: true,
    ...change,
  })
}

export function startSmallClusters(): SmallClusters {
  return {
    summaries: [
      create(ClusterSummarySchema, {
        name: 'home',
        distribution: 'k3s',
        standing: ClusterStanding.FOUNDED,
        authority: 'aa'.repeat(32),
        firstServer: 'olaf',
        voters: 3,
        healthyVoters: 2,
        hosts: 3,
        joined: 2,
      }),
    ],
    hosts: new Map([
      [
        'home',
        [
          sampleHost(),
          sampleHost({ host: 'anna', machine: 'cd'.repeat(32), role: ClusterRole.WORKER }),
          sampleHost({
            host: 'ida',
            machine: '',
            joined: false,
            ready: false,
            version: '',
            waitsFor: ['no machine is bound to it'],
          }),
        ],
      ],
    ]),
    waitsFor: [],
    answersAfterMs: 0,
    acts: [],
    requests: [],
    waits: [],
    answer: () => ({ done: true }),
    refusal: undefined,
    loseAnswer: undefined,
    adoptions: [],
  }
}

export function clusterHandlers(
  state: SmallClusters,
  trust: () => KnownTrust | undefined,
): ServiceHandlers<typeof ClusterService> {
  const find = (name: string) => {
    const summary = state.summaries.find(each => each.name === name)
    if (!summary) throw notFound(`name: no cluster ${name}`)
    return summary
  }
  const replace = (act: ClusterAct) => {
    state.acts.splice(
      state.acts.findIndex(({ id }) => id === act.id),
      1,
      act,
    )
    return act
  }
  return {
    listClusters: async () => {
      await sleep(state.answersAfterMs)
      return { clusters: state.summaries }
    },
    getCluster: async ({ name }) => ({
      summary: find(name),
      hosts: state.hosts.get(name) ?? [],
      waitsFor: state.waitsFor,
      manifests: { revision: 7n, appliedRevision: 6n, reason: 'they are brought by a server' },
    }),
    adoptCluster: async ({ name, dryRun }) => {
      if (state.refusal !== undefined) throw precondition(state.refusal)
      state.adoptions.push({ name, dryRun })
      return {
        summary: find(name),
        hosts: ['olaf', 'anna'],
        warnings: ['node x is no host of the fleet file'],
      }
    },
    startClusterAct: async request => {
      if (state.refusal !== undefined) throw precondition(state.refusal)
      find(request.cluster)
      const known = state.acts.find(({ id }) => id === request.requestId)
      if (known) return { act: known }
      checkOrder(request, trust(), state.hosts.get(request.cluster) ?? [])
      state.requests.push(request)
      const act = create(ClusterActSchema, {
        id: request.requestId,
        cluster: request.cluster,
        act: request.act,
        host: request.host,
        executor: request.host || 'olaf',
        askedBy: 'ann',
        asked: NOW(),
      })
      state.acts.unshift(act)
      const { loseAnswer } = state
      state.loseAnswer = undefined
      loseAnswer?.()
      return { act }
    },
    watchClusterAct: async function* ({ id }, { signal }) {
      let act = state.acts.find(each => each.id === id)
      if (!act) throw notFound(`id: no act ${id}`)
      const request = state.requests.find(({ requestId }) => requestId === id)
      for (const reason of state.waits) yield { act: { ...act, reason } }
      const result = request && !act.ended ? state.answer(request, act) : act.result
      if (!act.ended && !result) {
        yield { act }
        await new Promise<void>(resolve => signal.addEventListener('abort', () => resolve()))
        return
      }
      const ended = act.ended ?? NOW()
      act = replace({ ...act, ended, ...(result && { result: create(ClusterStepEndedSchema, result) }) })
      if (act.result?.done) settle(state, act)
      yield { act }
    },
    listClusterActs: async ({ cluster, limit }) => ({
      acts: state.acts.filter(act => act.cluster === cluster).slice(0, limit || 50),
    }),
  }
}

/** What an act that was done changes of what is seen. */
function settle({ hosts }: SmallClusters, { act, cluster, host }: ClusterAct): void {
  const found = hosts.get(cluster)?.find(each => each.host === host)
  if (found && act === 'leave') found.joined = false
}

function checkOrder(
  request: StartClusterActRequest,
  trust: KnownTrust | undefined,
  hosts: readonly ClusterHost[],
): void {
  const act = SIGNED_ACTS.find(each => each === request.act)
  if (!act) return
  if (!trust) throw precondition('the coordinator has no trust set')
  const { cluster, host, dead, parameter, signedOrder } = request
  const node = host || 'olaf'
  const machine = hosts.find(each => each.host === node)?.machine
  const expected = { fleetId: trust.set.fleetId, cluster, act, node, machine, dead, parameter }
  const verified = verifyOperatorOrder(signedOrder, trust, expected, new Set(), new Date())
  if (verified.kind === 'refused') throw invalid(`signed_order: ${verified.class}: ${verified.reason}`)
}

/** An act from before, for what is on record. */
export function sampleAct(
  change: Partial<Omit<ClusterAct, 'result' | '$typeName'>> = {},
  result: ActAnswer = { done: true },
): ClusterAct {
  const act = create(ClusterActSchema, {
    id: operationId(new Date()),
    cluster: 'home',
    act: 'drain',
    host: 'olaf',
    executor: 'olaf',
    askedBy: 'ann',
    asked: NOW(),
    ended: NOW(),
    result: create(ClusterStepEndedSchema, result),
  })
  return { ...act, ...change }
}

/** One that is not over. */
export function openAct(change: Partial<Omit<ClusterAct, 'result' | '$typeName'>> = {}): ClusterAct {
  const { ended: _, result: __, ...act } = sampleAct(change)
  return act
}
