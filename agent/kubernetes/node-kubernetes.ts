import type { DriverReading } from '../drivers/create-driver.ts'
import type { ConnectRuntime } from '../drivers/cri/runtime-client.ts'
import type { RuntimeCondition } from '../drivers/cri/wire.ts'
import type { ClusterDriver } from '../drivers/driver.ts'
import { nodePath, readNode } from '../drivers/kubernetes/node-reading.ts'
import type { DiskData } from '../drivers/node/disk-data.ts'
import { readUnit } from '../drivers/node/services.ts'
import { failed, type Result } from '../drivers/result.ts'
import type { System } from '../system/system.ts'
import { apiVersion, kubectlOfKubelet } from './api-version.ts'

/** What operations need of the Kubernetes on this machine. */
export interface NodeKubernetes {
  /** Whether what lies here was founded, joined or adopted: else whatever runs is not the agent's to restart. */
  isOurs(signal?: AbortSignal): Promise<boolean>
  /**
   * Whether a cluster's data lies here that was neither founded, joined nor adopted, or the machine is made up: nothing under it is the
   * agent's to restart.
   */
  isForeign(signal?: AbortSignal): Promise<boolean>
  /** As the system that runs now says that it is; with the programs of another folder where one is given. */
  open(programs?: string): Promise<DriverReading>
  /** Of the API server that this machine's kubelet speaks to; undefined: it cannot be asked. */
  apiVersion(signal: AbortSignal): Promise<string | undefined>
  /** What the container runtime behind a socket says of itself. */
  runtimeConditions(
    endpoint: string,
    signal?: AbortSignal,
  ): Promise<Result<ReadonlyMap<string, RuntimeCondition>>>
  /** Whether this machine's node is Ready, by the API server's word. */
  readNode(signal: AbortSignal): Promise<NodeWord>
}

export type NodeWord =
  /** No kubelet runs here now: it is held down, or never was. */
  | { readonly kind: 'no-kubelet' }
  | { readonly kind: 'ready' }
  | { readonly kind: 'not-ready'; readonly reason: string }
  /** The API server cannot be asked. */
  | { readonly kind: 'unknown'; readonly reason: string }

interface Door {
  readonly openDriver: (programs?: string) => Promise<DriverReading>
  readonly readDisk: () => Promise<DiskData>
  readonly connectRuntime: ConnectRuntime
  readonly isMadeUp?: boolean
}

export function nodeKubernetes(
  system: System,
  { openDriver, readDisk, connectRuntime, isMadeUp = false }: Door,
): NodeKubernetes {
  const isOurs = async (signal?: AbortSignal) => {
    const opened = await openDriver()
    if (opened.kind !== 'driver') return false
    const { data, adopted } = await opened.driver.readState(signal)
    return data.kind === 'cluster' && data.authority === adopted
  }
  return {
    isOurs,
    isForeign: async signal => isMadeUp || ((await readDisk()).kind !== 'none' && !(await isOurs(signal))),
    open: openDriver,
    apiVersion: async signal => await apiVersion(system, signal),
    runtimeConditions: async (endpoint, signal) => await connectRuntime(endpoint).conditions(signal),
    readNode: async signal => {
      const opened = await openDriver()
      return opened.kind === 'driver'
        ? await askForNode(system, opened.driver, signal)
        : { kind: 'no-kubelet' }
    },
  }
}

async function askForNode(system: System, driver: ClusterDriver, signal: AbortSignal): Promise<NodeWord> {
  const { facts, nodeName } = driver
  // Where it is no unit of its own, one program runs all of Kubernetes.
  const unit = facts.units.includes('kubelet.service') ? 'kubelet.service' : facts.units.at(-1)
  const state = unit === undefined ? undefined : await readUnit(system, unit, signal)
  if (state?.kind !== 'done' || state.value.active !== 'active') {
    const { held, data } = await driver.readState(signal)
    if (unit === undefined || held || data.kind === 'none') return { kind: 'no-kubelet' }
    return {
      kind: 'not-ready',
      reason: state?.kind === 'done' ? `${unit} is ${state.value.active}` : `${unit} cannot be asked for`,
    }
  }
  const kubectl = await kubectlOfKubelet(system)
  const object = await kubectl?.get(nodePath(nodeName), signal)
  if (object?.kind !== 'done')
    return { kind: 'unknown', reason: object?.reason ?? 'no cluster is configured' }
  const ready = readNode(object.value)?.ready
  if (ready?.status === 'True') return { kind: 'ready' }
  const why = [ready?.reason, ready?.message].filter(text => text !== undefined && text !== '').join(': ')
  return { kind: 'not-ready', reason: `node ${nodeName} is not Ready${why === '' ? '' : ` (${why})`}` }
}

/** A machine that is no node, or whose parts are made up. */
export const NO_KUBERNETES: NodeKubernetes = {
  isOurs: async () => false,
  isForeign: async () => true,
  open: async () => ({ kind: 'none' }),
  apiVersion: async () => undefined,
  runtimeConditions: async () => failed('precondition', 'no container runtime'),
  readNode: async () => ({ kind: 'no-kubelet' }),
}
