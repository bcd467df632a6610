import { Client, credentials, type ServiceError, status } from '@grpc/grpc-js'
import { reasonOf } from '../../../shared/errors.ts'
import { callOnce } from '../call-once.ts'
import { DONE, done, failed, type Result } from '../result.ts'
import {
  containersRequest,
  listSandboxesRequest,
  type PodSandbox,
  type RuntimeCondition,
  readConditions,
  readContainers,
  readSandboxes,
  type SandboxContainer,
  sandboxRequest,
  statusRequest,
  stopContainerRequest,
} from './wire.ts'

/** What runs containers on this machine, by the interface that a kubelet asks it by: containerd and cri-o alike. */
export interface RuntimeClient {
  /** What it says of itself, by the names of the conditions: RuntimeReady, NetworkReady. */
  conditions(signal?: AbortSignal): Promise<Result<ReadonlyMap<string, RuntimeCondition>>>
  sandboxes(signal?: AbortSignal): Promise<Result<readonly PodSandbox[]>>
  containers(sandbox: string, signal?: AbortSignal): Promise<Result<readonly SandboxContainer[]>>
  /** One that has ended, or is gone, is stopped. */
  stopContainer(id: string, graceSeconds: number, signal?: AbortSignal): Promise<Result<void>>
  /** Kills what still runs in it, gives its network back and takes it away; one that is gone is gone. */
  removeSandbox(id: string, signal?: AbortSignal): Promise<Result<void>>
}

/** `endpoint` is the kubelet's word for it, such as unix:///run/containerd/containerd.sock. */
export type ConnectRuntime = (endpoint: string) => RuntimeClient

const CALL_MS = 60_000
const STATUS_CALL_MS = 10_000
const MAX_ANSWER_BYTES = 16 * 1024 * 1024

/** One connection a call: calls are few, and the runtime may have been restarted. */
export const connectRuntime: ConnectRuntime = endpoint => {
  const call = async <T>(
    method: string,
    message: Uint8Array,
    read: (bytes: Buffer) => T,
    signal: AbortSignal | undefined,
    deadlineMs = CALL_MS,
  ): Promise<Result<T>> => {
    // Whoever may open the socket is root: there is nothing to prove.
    const channel = new Client(endpoint, credentials.createInsecure(), {
      'grpc.use_local_subchannel_pool': 1,
      'grpc.enable_http_proxy': 0,
      'grpc.max_receive_message_length': MAX_ANSWER_BYTES,
    })
    try {
      const path = `/runtime.v1.RuntimeService/${method}`
      return done(read(await callOnce(channel, { path, message, deadlineMs, signal })))
    } catch (error) {
      return failedCall(endpoint, method, error)
    } finally {
      channel.close()
    }
  }
  const tell = async (
    method: string,
    message: Uint8Array,
    signal: AbortSignal | undefined,
    deadlineMs = CALL_MS,
  ): Promise<Result<void>> => {
    const told = await call(method, message, () => undefined, signal, deadlineMs)
    return told.kind === 'done' || told.class === 'not-found' ? DONE : told
  }
  return {
    conditions: async signal => await call('Status', statusRequest(), readConditions, signal, STATUS_CALL_MS),
    sandboxes: async signal => await call('ListPodSandbox', listSandboxesRequest(), readSandboxes, signal),
    containers: async (sandbox, signal) =>
      await call('ListContainers', containersRequest(sandbox), readContainers, signal),
    stopContainer: async (id, graceSeconds, signal) =>
      await tell(
        'StopContainer',
        stopContainerRequest(id, graceSeconds),
        signal,
        graceSeconds * 1_000 + CALL_MS,
      ),
    removeSandbox: async (id, signal) => {
      const stopped = await tell('StopPodSandbox', sandboxRequest(id), signal)
      return stopped.kind === 'failed' ? stopped : await tell('RemovePodSandbox', sandboxRequest(id), signal)
    },
  }
}

function failedCall(endpoint: string, method: string, error: unknown): Result<never> {
  const code = error instanceof Error && 'code' in error ? (error as ServiceError).code : undefined
  const text = `the container runtime at ${endpoint}, ${method}: ${reasonOf(error).replace(/^\d+ [A-Z_]+: /, '')}`
  if (code === status.CANCELLED) return failed('cancelled', text)
  if (code === status.NOT_FOUND) return failed('not-found', text)
  if (code === status.UNAVAILABLE) return failed('precondition', text)
  if (code === status.DEADLINE_EXCEEDED) return failed('timed-out', text)
  return failed('command', text)
}
