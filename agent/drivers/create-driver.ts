import type { Clock } from '../../shared/clock.ts'
import type { System } from '../system/system.ts'
import { type ClusterFacts, readClusterFacts } from './cluster-facts.ts'
import { createComponentsDriver } from './components/components-driver.ts'
import type { ConnectRuntime } from './cri/runtime-client.ts'
import type { ClusterDriver } from './driver.ts'
import type { DriverDeps } from './driver-base.ts'
import type { ConnectEtcd } from './etcd/etcd-client.ts'
import { createK0sDriver } from './k0s/k0s-driver.ts'
import { createK3sDriver } from './k3s/k3s-driver.ts'
import type { PutToken } from './k3s/put-token.ts'
import type { TakesToken } from './k3s/takes-token.ts'
import type { AskApi } from './kubernetes/kubectl.ts'
import type { ClusterFiles } from './node/cluster-files.ts'

export type DriverReading =
  | { readonly kind: 'driver'; readonly driver: ClusterDriver }
  /** The machine is in no cluster. */
  | { readonly kind: 'none' }
  | { readonly kind: 'unreadable'; readonly reason: string }

export interface DriverParts {
  readonly system: System
  readonly files: ClusterFiles
  readonly connectEtcd: ConnectEtcd
  readonly connectRuntime: ConnectRuntime
  readonly askApi: AskApi
  readonly putToken: PutToken
  readonly takesToken: TakesToken
  readonly clock: Clock
  /** A folder whose programs are taken instead of the configuration's; absent: none. */
  readonly programs?: string | undefined
}

/** The driver for what the machine's configuration says that it is; read anew, since a change may make it another. */
export async function openDriver(parts: DriverParts): Promise<DriverReading> {
  const reading = await readClusterFacts(parts.system)
  if (reading.kind !== 'facts') return reading
  const { programs } = parts
  const facts = programs === undefined ? reading.facts : { ...reading.facts, programs: [programs] }
  const nodeName = facts.nodeName ?? (await hostName(parts.system))
  if (nodeName === undefined)
    return { kind: 'unreadable', reason: 'the host name of the machine cannot be read' }
  return { kind: 'driver', driver: createDriver({ ...parts, facts, nodeName }) }
}

export function createDriver(deps: DriverDeps): ClusterDriver {
  return DRIVERS[deps.facts.distribution](deps)
}

const DRIVERS: Readonly<Record<ClusterFacts['distribution'], (deps: DriverDeps) => ClusterDriver>> = {
  k3s: createK3sDriver,
  k0s: createK0sDriver,
  kubernetes: createComponentsDriver,
  components: createComponentsDriver,
}

async function hostName(system: System): Promise<string | undefined> {
  const reading = await system.readFile('/proc/sys/kernel/hostname', 256)
  const name = reading.kind === 'file' ? reading.bytes.toString('utf8').trim() : ''
  return name === '' ? undefined : name
}
