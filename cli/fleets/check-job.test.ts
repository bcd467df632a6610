import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { checkJobIn } from './check-job.ts'
import { checkDirectory } from './read-fleet-directory.ts'

const dir = mkdtempSync(join(tmpdir(), 'muster-jobs-'))
afterAll(() => rmSync(dir, { recursive: true }))
mkdirSync(join(dir, 'gates'))
const JOB = `apiVersion: batch/v1
kind: Job
metadata: { name: smoke }
spec: { template: { spec: { restartPolicy: Never, containers: [{ name: main, image: "lab/web:1" }] } } }
`
for (const [name, text] of Object.entries({
  'good.yaml': JOB,
  'two.yaml': `${JOB}---\n${JOB}`,
  'pod.yaml': JOB.replace('batch/v1', 'v1').replace('Job', 'Pod'),
  'broken.yaml': 'kind: [',
})) {
  writeFileSync(join(dir, 'gates', name), text)
}
symlinkSync('good.yaml', join(dir, 'gates/link.yaml'))

describe('the check of a Job', () => {
  it('takes a file with one Job within the directory', () => {
    expect(checkJobIn(dir)('gates/good.yaml')).toBeUndefined()
  })

  it.each([
    ['gates/missing.yaml', 'gates/missing.yaml is not there'],
    ['gates/link.yaml', 'gates/link.yaml is a link'],
    ['gates/two.yaml', 'write exactly one Job'],
    ['gates/pod.yaml', 'apiVersion and kind must be batch/v1 and Job'],
    ['gates/broken.yaml', 'gates/broken.yaml: '],
  ])('refuses %s', (path, problem) => {
    expect(checkJobIn(dir)(path)).toContain(problem)
  })

  it('is part of the check of a directory, with the place in the fleet file', async () => {
    const text = (job: string) =>
      `[fleet]\nname = "home"\nid = "${'0a'.repeat(16)}"\n[gates.smoke]\njob = "${job}"\n[clusters.home]\ndistribution = "k3s"\ngates = ["smoke"]\n[hosts.olaf]\nrole = "server"\ncluster = "home"\n`
    writeFileSync(join(dir, 'fleet.toml'), text('gates/good.yaml'))
    expect(await checkDirectory(dir)).toMatchObject({ ok: true, problems: [] })
    writeFileSync(join(dir, 'fleet.toml'), text('gates/two.yaml'))
    expect(await checkDirectory(dir)).toMatchObject({
      ok: false,
      problems: [{ line: 5, column: 7, path: 'gates.smoke.job' }],
    })
  })
})
