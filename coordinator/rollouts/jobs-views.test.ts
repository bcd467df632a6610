import { expect, it } from 'vitest'
import type { JobGate, KnownCluster } from '../../shared/revision/clusters.ts'
import { jobsParameters, jobsViews } from './jobs-views.ts'

const clusterOf = (cluster: string, ...gates: readonly JobGate[]): KnownCluster => ({
  cluster,
  members: [],
  admitsWorkers: false,
  distribution: 'k3s',
  version: undefined,
  endpoint: undefined,
  gates,
})
const gate = (name: string, deadlineMs: number): JobGate => ({ name, deadlineMs, path: `gates/${name}.yaml` })
const revision = (number: number) => ({
  number,
  digest: String(number).repeat(64),
  clusters: new Map([
    ['home', clusterOf('home', gate('smoke', 5_000), gate('volumes', 9_000))],
    ['bare', clusterOf('bare')],
  ]),
})
const answerAbout = (number: number) => {
  const parameters = jobsParameters('home', { revision: number, manifestDigest: String(number).repeat(64) })
  return { askedMs: 1_000, problem: undefined, parameters }
}

it('has the Jobs of clusters that have any, with the longest of their deadlines and what they said', () => {
  expect(jobsViews(undefined, new Map())).toEqual(new Map())
  const answer = answerAbout(7)
  expect(jobsViews(revision(7), new Map([['home', answer]]))).toEqual(
    new Map([['home', { revision: 7, manifestDigest: '7'.repeat(64), deadlineMs: 9_000, answer }]]),
  )
})

it('lets no answer about an older revision count for a newer one, which may ask something else', () => {
  const views = jobsViews(revision(8), new Map([['home', answerAbout(7)]]))
  expect(views.get('home')).toMatchObject({ revision: 8, answer: undefined })
})
