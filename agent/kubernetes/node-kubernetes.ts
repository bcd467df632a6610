import type { DriverReading } from '../drivers/create-driver.ts'
import type { System } from '../system/system.ts'
import { apiVersion } from './api-version.ts'

/** What operations need of the Kubernetes on this machine. */
export interface NodeKubernetes {
  /** Whether what lies here was founded, joined or adopted: else whatever runs is not the agent's to restart. */
  isOurs(signal?: AbortSignal): Promise<boolean>
  /** As the system that runs now says that it is; with the programs of another folder where one is given. */
  open(programs?: string): Promise<DriverReading>
  /** Of the API server that this machine's kubelet speaks to; undefined: it cannot be asked. */
  apiVersion(signal: AbortSignal): Promise<string | undefined>
}

export function nodeKubernetes(
  system: System,
  openDriver: (programs?: string) => Promise<DriverReading>,
): NodeKubernetes {
  return {
    isOurs: async signal => {
      const opened = await openDriver()
      if (opened.kind !== 'driver') return false
      const { data, adopted } = await opened.driver.readState(signal)
      return data.kind === 'cluster' && data.authority === adopted
    },
    open: openDriver,
    apiVersion: async signal => await apiVersion(system, signal),
  }
}

/** A machine that is no node, or whose parts are made up. */
export const NO_KUBERNETES: NodeKubernetes = {
  isOurs: async () => false,
  open: async () => ({ kind: 'none' }),
  apiVersion: async () => undefined,
}
