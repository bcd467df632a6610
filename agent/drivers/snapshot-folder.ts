import type { ClusterFiles } from './node/cluster-files.ts'

/**
 * Snapshots lie below the agent's state, each in a folder for root alone: the datastore's copy and what is needed to use it.
 * A folder gets its name when it is whole.
 */
export const snapshotsIn = (files: ClusterFiles): string => `${files.stateDir}/snapshots`
