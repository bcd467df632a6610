import type { Clusters } from '../clusters/clusters.ts'
import type { MessageSource } from './sender.ts'

/** What operations about clusters came to: each report once a session, and again when it is asked for again. */
export function clusterMessages(clusters: Pick<Clusters, 'reports'>): MessageSource {
  const told = new Map<string, number>()
  return {
    next() {
      const reports = clusters.reports()
      const owed = new Set(reports.map(({ digest }) => digest))
      for (const digest of told.keys()) if (!owed.has(digest)) told.delete(digest)
      const found = reports.find(({ digest, turn }) => told.get(digest) !== turn)
      if (!found) return undefined
      const { report, digest, turn } = found
      return {
        message: { message: { case: 'clusterReport', value: report } },
        sent: () => told.set(digest, turn),
      }
    },
  }
}
