import { describe, expect, it } from 'vitest'
import { MAX_GATE_JOB_BYTES } from '../revision/safety-bounds.ts'
import { readGateJob } from './read-gate-job.ts'

const JOB = `apiVersion: batch/v1
kind: Job
metadata: {name: smoke, namespace: checks}
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{name: ask, image: registry.example/ask:1, args: [22:30]}]
`
const changed = (from: string, to: string) => JOB.replace(from, to)
const asJson =
  '{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"smoke"},"spec":{"template":{"spec":{}}}}'

describe('the file of a gate that is a Job', () => {
  it('is read as Kubernetes reads it, in YAML or JSON, with separators and comments around it', () => {
    const containers = [{ name: 'ask', image: 'registry.example/ask:1', args: ['22:30'] }]
    const wanted = {
      kind: 'ok',
      job: {
        apiVersion: 'batch/v1',
        kind: 'Job',
        metadata: { name: 'smoke', namespace: 'checks' },
        spec: { template: { spec: { restartPolicy: 'Never', containers } } },
      },
    }
    expect(readGateJob('gates/smoke.yaml', JOB)).toEqual(wanted)
    expect(readGateJob('gates/smoke.yaml', `# asks\n---\n${JOB}---\n# nothing\n`)).toEqual(wanted)
    expect(readGateJob('gates/smoke.json', asJson)).toMatchObject({
      kind: 'ok',
      job: { metadata: { name: 'smoke' } },
    })
  })

  it.each([
    ['nothing', '# nothing\n', /^gates\/smoke\.yaml: holds no object; write exactly one Job/],
    ['an empty text', '', /holds no object/],
    ['two objects', `${JOB}---\n${JOB}`, /^gates\/smoke\.yaml: holds 2 objects; write exactly one Job/],
    ['a list', '- 1\n', /^gates\/smoke\.yaml, line 1: apiVersion and kind must be batch\/v1 and Job/],
    ['another kind', changed('kind: Job', 'kind: CronJob'), /must be batch\/v1 and Job, not .* "CronJob"/],
    [
      'an old version',
      changed('batch/v1', 'batch/v1beta1'),
      /must be batch\/v1 and Job, not "batch\/v1beta1"/,
    ],
    ['no name', changed('name: smoke', 'generateName: smoke-'), /line 1: metadata\.name is missing/],
    ['a name that is none', changed('name: smoke', 'name: Smoke.Test'), /metadata\.name: write 1 to 63/],
    ['a name that is too long', changed('smoke', 's'.repeat(64)), /metadata\.name: write 1 to 63/],
    ['a namespace that is a path', changed('checks', '../x'), /metadata\.namespace: write 1 to 63/],
    ['a namespace that is a number', changed('checks', '12'), /metadata\.namespace/],
    ['no pod', changed('template:', 'templates:'), /spec\.template is missing; write the pod/],
    [
      'a pod that is none',
      'apiVersion: batch/v1\nkind: Job\nmetadata: {name: a}\nspec: {template: 5}\n',
      /spec\.template/,
    ],
    ['what is no YAML', 'a: [\n', /^gates\/smoke\.yaml: /],
    ['a key that stands there twice', `${JOB}kind: Job\n`, /unique/],
    [
      'a bomb of aliases',
      `${Array.from(
        { length: 9 },
        (_, at) =>
          `a${at}: &a${at} [${
            at === 0
              ? 'x'
              : Array(9)
                  .fill(`*a${at - 1}`)
                  .join(', ')
          }]`,
      ).join('\n')}\n`,
      /^gates\/smoke\.yaml: .*alias/,
    ],
    ['what is too long', `${JOB}#${'x'.repeat(MAX_GATE_JOB_BYTES)}`, /longer than 262144 bytes/],
  ])('is refused with its name and the cure: %s', (_, text, reason) => {
    expect(readGateJob('gates/smoke.yaml', text)).toEqual({
      kind: 'refused',
      reason: expect.stringMatching(reason),
    })
  })

  it('may be as long as the bound says', () => {
    const text = `${JOB}#${'x'.repeat(MAX_GATE_JOB_BYTES - JOB.length - 1)}`
    expect(readGateJob('gates/smoke.yaml', text).kind).toBe('ok')
  })
})
