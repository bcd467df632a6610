/** In the fleet directory: one folder for each cluster, and below it files of YAML or JSON, in folders as one likes. */
export const manifestsFolder = (cluster: string): string => `manifests/${cluster}`

/** What is said of a link there. What it leads to may change without the cluster’s folder, or be no part of the tree at all. */
export const linkProblem = (path: string): string =>
  `${path}: is a link; put the file itself into the fleet directory`
