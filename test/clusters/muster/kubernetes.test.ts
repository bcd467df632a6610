import { walkCluster } from './walk-cluster.ts'

walkCluster('kubernetes')
