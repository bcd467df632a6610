import { create, toJsonString } from '@bufbuild/protobuf'
import { JobsProbeSchema } from '../../shared/gen/muster/v1/probe_pb.ts'
import type { KnownManifest } from '../../shared/revision/read-manifest.ts'
import type { GateAnswer } from './gate-questions.ts'
import type { JobsView, RolloutSnapshot } from './plan/rollout-snapshot.ts'

/**
 * Jobs are those of the newest revision, whatever hosts are moved to: what a cluster must pass is not for an older one to say. An
 * answer about another revision, as there is until the clusters are asked anew, is none.
 */
export function jobsViews(
  newest: Pick<KnownManifest, 'clusters' | 'number' | 'digest'> | undefined,
  answers: ReadonlyMap<string, GateAnswer>,
): RolloutSnapshot['jobs'] {
  const jobs = new Map<string, JobsView>()
  for (const [name, { gates }] of newest?.clusters ?? []) {
    if (!newest || gates.length === 0) continue
    const deadlineMs = Math.max(...gates.map(gate => gate.deadlineMs))
    const asked = { revision: newest.number, manifestDigest: newest.digest }
    const answer = answers.get(name)
    const isAbout = answer?.parameters === jobsParameters(name, asked)
    jobs.set(name, { ...asked, deadlineMs, answer: isAbout ? answer : undefined })
  }
  return jobs
}

/** What a server is asked with. */
export function jobsParameters(
  cluster: string,
  { revision, manifestDigest }: Pick<JobsView, 'revision' | 'manifestDigest'>,
): string {
  const probe = create(JobsProbeSchema, { cluster, revision: BigInt(revision), manifestDigest })
  return toJsonString(JobsProbeSchema, probe)
}
