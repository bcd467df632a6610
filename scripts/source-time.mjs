// When the sources were written, as far as that is the same wherever they are built.
import { spawnSync } from 'node:child_process'

/**
 * Seconds since 1970 that were over when the sources below `folder` were as they are: what SOURCE_DATE_EPOCH says, else
 * the newest commit that touched `paths`; undefined where neither is there. Nothing of the building machine is in it, so
 * that the same sources give the same programs. A commit from the future was made by a clock that was wrong, and says
 * nothing; a SOURCE_DATE_EPOCH that is none, or of the future, throws: whoever set it meant something else.
 */
export function sourceSeconds(folder, paths, { SOURCE_DATE_EPOCH: given = '' }, nowMs) {
  if (given !== '') {
    const seconds = Number(given)
    if (/^\d{1,12}$/.test(given) && seconds * 1_000 <= nowMs) return seconds
    throw new Error(`SOURCE_DATE_EPOCH: ${given} is no number of seconds from 1970 until now`)
  }
  const args = ['-C', folder, 'log', '-1', '--format=%ct', '--', ...paths]
  const { status, stdout } = spawnSync('git', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
  const seconds = /^\d{1,12}\n$/.test(stdout ?? '') ? Number(stdout) : undefined
  return status === 0 && seconds !== undefined && seconds * 1_000 <= nowMs ? seconds : undefined
}
