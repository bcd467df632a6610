import type { ConnectRuntime } from '../cri/runtime-client.ts'
import type { PodSandbox } from '../cri/wire.ts'
import { DONE, done, failed } from '../result.ts'

/** A container runtime that has pods in a list, each with one container of its name. Made up. */
export interface MadeUpRuntime {
  readonly connect: ConnectRuntime
  pods: PodSandbox[]
  readonly did: string[]
  /** Pods that stay whatever is asked. */
  readonly stuck: Set<string>
  graceSeconds: number | undefined
  /** Called at each listing. */
  onList: () => void
}

export function madeUpRuntime(...pods: PodSandbox[]): MadeUpRuntime {
  const runtime: MadeUpRuntime = {
    pods,
    did: [],
    stuck: new Set(),
    graceSeconds: undefined,
    onList: () => {},
    connect: endpoint => ({
      conditions: async () => done(new Map()),
      sandboxes: async () => {
        runtime.onList()
        runtime.did.push(`list ${endpoint}`)
        return done([...runtime.pods])
      },
      containers: async id => done([{ id: `of-${id}`, graceSeconds: runtime.graceSeconds }]),
      stopContainer: async (id, graceSeconds) => {
        runtime.did.push(`stop ${id} ${graceSeconds}`)
        return id === 'of-fails' ? failed('command', 'it does not stop') : DONE
      },
      removeSandbox: async id => {
        runtime.did.push(`remove ${id}`)
        if (!runtime.stuck.has(id)) runtime.pods = runtime.pods.filter(pod => pod.id !== id)
        return DONE
      },
    }),
  }
  return runtime
}

export const pod = (id: string, name: string, change: Partial<PodSandbox> = {}): PodSandbox => ({
  id,
  name,
  namespace: 'default',
  isStatic: false,
  ...change,
})
