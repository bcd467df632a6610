import { walkCluster } from './walk-cluster.ts'

walkCluster('k0s')
