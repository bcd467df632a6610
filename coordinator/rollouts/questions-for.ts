import type { GateQuestion } from './gate-questions.ts'
import { jobsParameters } from './jobs-views.ts'
import { Servers } from './plan/allow-gate.ts'
import type { Decision } from './plan/decision.ts'
import { jobsAwaited, serverToAsk } from './plan/job-gates.ts'
import { gatesAwaited } from './plan/own-gates.ts'
import type { RolloutSnapshot } from './plan/rollout-snapshot.ts'

/** A script may take a while. */
const GATES_DEADLINE_MS = 60_000
const GATES_AGAIN_MS = 5_000
/** A tree is fetched first, and Jobs are taken away afterwards. */
const JOBS_MARGIN_MS = 45_000
/** Each asking makes pods. */
const JOBS_AGAIN_MS = 15_000

type Questions = ReadonlyMap<string, GateQuestion>

/** What hosts are to be asked, by machine, after this decision. */
export function hostQuestions(snapshot: RolloutSnapshot, decision: Decision): Questions {
  const questions = [...gatesAwaited(snapshot, decision)].map((machine): [string, GateQuestion] => [
    machine,
    {
      machine,
      kind: 'gates',
      parameters: '',
      what: 'its gates',
      deadlineMs: GATES_DEADLINE_MS,
      againMs: GATES_AGAIN_MS,
    },
  ])
  return new Map(questions)
}

/** What clusters are to be asked, by their names, after this decision. */
export function jobQuestions(snapshot: RolloutSnapshot, decision: Decision): Questions {
  const servers = new Servers(snapshot)
  const questions = new Map<string, GateQuestion>()
  for (const cluster of jobsAwaited(snapshot, decision)) {
    const jobs = snapshot.jobs.get(cluster)
    const machine = serverToAsk(servers.of(cluster), snapshot.clusters.get(cluster))?.machine
    if (!jobs || machine === undefined) continue
    questions.set(cluster, {
      machine,
      kind: 'jobs',
      parameters: jobsParameters(cluster, jobs),
      what: `the Jobs of cluster ${cluster}`,
      againMs: JOBS_AGAIN_MS,
      deadlineMs: jobs.deadlineMs + JOBS_MARGIN_MS,
    })
  }
  return questions
}
