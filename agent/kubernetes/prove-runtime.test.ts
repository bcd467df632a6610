import { expect, it } from 'vitest'
import type { RuntimeCondition } from '../drivers/cri/wire.ts'
import { done, failed, type Result } from '../drivers/result.ts'
import type { NodeWord } from './node-kubernetes.ts'
import { proveRuntime } from './prove-runtime.ts'

const SOCKET = 'unix:///run/containerd/containerd.sock'
const NO_PLUGIN = { holds: false, reason: 'NetworkPluginNotReady', message: 'cni plugin not initialized' }
const well = { holds: true, reason: '', message: '' }

const says = (network: RuntimeCondition = well): Result<ReadonlyMap<string, RuntimeCondition>> =>
  done(
    new Map([
      ['RuntimeReady', well],
      ['NetworkReady', network],
    ]),
  )

interface Seen {
  readonly runtime?: readonly ReturnType<typeof says>[]
  readonly node?: readonly NodeWord[]
  readonly network?: boolean
  readonly wasReady?: boolean
  readonly endpoint?: string | undefined
}

/** What comes of it; what a list says last it goes on saying. */
async function proved({ runtime = [says()], node = [{ kind: 'ready' }], ...rest }: Seen) {
  const looks = { runtime: 0, node: 0 }
  const at = <T>(all: readonly T[], look: number): T => all[Math.min(look, all.length - 1)] as T
  const { network = true, wasReady = true, endpoint = SOCKET } = rest
  const result = await proveRuntime(
    {
      runtimeConditions: async () => at(runtime, looks.runtime++),
      readNode: async () => at(node, looks.node++),
    },
    { units: ['containerd.service'], network, node: wasReady, ...('endpoint' in rest ? {} : { endpoint }) },
    { deadlineMs: 2_000, everyMs: 5, unheardMs: 100, signal: new AbortController().signal },
  )
  return result.kind === 'done' ? result.value : `${result.class}: ${result.reason}`
}

it.each<[string, Seen, string]>([
  ['both are ready', {}, 'the container runtime is ready, and so is the node'],
  [
    'the runtime answers only after a while, and the node is Ready then',
    { runtime: [failed('precondition', 'nobody listens'), says(NO_PLUGIN), says()] },
    'the container runtime is ready, and so is the node',
  ],
  [
    'no kubelet runs that could tell',
    { node: [{ kind: 'no-kubelet' }] },
    'the container runtime is ready; no kubelet runs here now',
  ],
  [
    'the API server cannot be asked',
    { node: [{ kind: 'unknown', reason: 'refused' }] },
    'the container runtime is ready; whether the node is, nobody says (refused)',
  ],
  [
    'its node was not Ready before either',
    { wasReady: false, node: [{ kind: 'not-ready', reason: 'node n4 is not Ready' }] },
    'the container runtime is ready; node n4 is not Ready, nor was it before',
  ],
  [
    'its network was not ready before either',
    { network: false, runtime: [says(NO_PLUGIN)] },
    'the container runtime is ready, and so is the node',
  ],
  [
    'nobody tells where it listens',
    { endpoint: undefined },
    'the container runtime is ready, and so is the node',
  ],
])('a container runtime is proved where %s', async (_, seen, expected) => {
  expect(await proved(seen)).toBe(expected)
})

it.each<[string, Seen, RegExp]>([
  [
    'its network is not ready any more',
    { runtime: [says(NO_PLUGIN)] },
    /^timed-out: the container runtime at unix:\S+ does not say NetworkReady \(NetworkPluginNotReady: cni plugin not initialized\), after 2 s$/,
  ],
  [
    'it does not answer',
    { runtime: [failed('precondition', 'nobody listens')] },
    /^timed-out: nobody listens/,
  ],
  [
    'its node is not Ready',
    { node: [{ kind: 'not-ready', reason: 'node n4 is not Ready' }] },
    /^timed-out: node n4 is not Ready/,
  ],
])('it is not where %s', async (_, seen, expected) => {
  expect(await proved(seen)).toMatch(expected)
})
