import { walkCluster } from './walk-cluster.ts'

walkCluster('k3s')
