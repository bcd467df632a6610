import { join } from 'node:path'
import type { Clock } from '../../shared/clock.ts'
import { CLUSTER_RUN_DIR } from '../cluster-secrets/open-cluster-secrets.ts'
import { sealFile } from '../cluster-secrets/sealed-file.ts'
import { type DriverReading, openDriver } from '../drivers/create-driver.ts'
import { type ConnectRuntime, connectRuntime } from '../drivers/cri/runtime-client.ts'
import { connectEtcd } from '../drivers/etcd/etcd-client.ts'
import { putToken } from '../drivers/k3s/put-token.ts'
import { takesToken } from '../drivers/k3s/takes-token.ts'
import { askApi } from '../drivers/kubernetes/ask-api.ts'
import { createClusterFiles } from '../drivers/node/cluster-files.ts'
import { type DiskData, readDiskData } from '../drivers/node/disk-data.ts'
import type { System } from '../system/system.ts'

/** The agent's way to its machine's Kubernetes. */
export type ClusterDoor = (agent: {
  readonly stateDir: string
  /** SubjectPublicKeyInfo (DER) of the machine's key: what units need over a boot is sealed to it. */
  readonly publicKeyDer: Uint8Array
  readonly clock: Clock
}) => {
  /**
   * Read anew each time: a change of the system may make the machine another. With a folder its programs are taken instead
   * of the configuration's.
   */
  readonly openDriver: (programs?: string) => Promise<DriverReading>
  readonly readDisk: () => Promise<DiskData>
  readonly connectRuntime: ConnectRuntime
  /** The machine is made up: what runs on the one that stands for it is nobody's of ours. */
  readonly isMadeUp?: boolean
}

export const createClusterDoor =
  (system: System): ClusterDoor =>
  ({ stateDir, publicKeyDer, clock }) => {
    const files = createClusterFiles({
      stateDir: join(stateDir, 'cluster'),
      runDir: CLUSTER_RUN_DIR,
      seal: async (name, bytes) => sealFile(publicKeyDer, name, bytes),
    })
    const parts = { system, files, connectEtcd, connectRuntime, askApi, putToken, takesToken, clock }
    return {
      openDriver: async programs => await openDriver({ ...parts, programs }),
      readDisk: async () => await readDiskData(system),
      connectRuntime,
    }
  }

/** Of a machine that has no Kubernetes. */
export const noClusterDoor: ClusterDoor = () => ({
  openDriver: async () => ({ kind: 'none' }),
  readDisk: async () => ({ kind: 'none' }),
  connectRuntime,
  isMadeUp: true,
})
