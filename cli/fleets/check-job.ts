import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { readGateJob } from '../../shared/kubernetes/read-gate-job.ts'
import { checkFileIn } from './check-file.ts'

/** Says what is wrong with a Job that a gate of the fleet file names; undefined when nothing is. */
export function checkJobIn(dir: string): (path: string) => string | undefined {
  const checkFile = checkFileIn(dir)
  return path => {
    const problem = checkFile(path)
    if (problem !== undefined) return problem
    const reading = readGateJob(path, readFileSync(join(dir, path), 'utf8'))
    return reading.kind === 'refused' ? reading.reason : undefined
  }
}
