import { lstatSync, type Stats } from 'node:fs'
import { join } from 'node:path'
import { hasCode } from '../../shared/errors.ts'

/**
 * Says what is wrong with a file that a gate of the fleet file names; undefined when nothing is. Links are refused, even
 * good ones: what a gate runs shall be the file that is named.
 */
export function checkFileIn(
  dir: string,
  checkStats: (shown: string, stats: Stats) => string | undefined = () => undefined,
): (path: string) => string | undefined {
  return path => {
    const parts = path.split('/')
    for (const [index, part] of parts.entries()) {
      const shown = parts.slice(0, index + 1).join('/')
      const stats = look(join(dir, ...parts.slice(0, index), part))
      if (stats === undefined) return `${shown} is not there; write a path within this directory`
      if (stats.isSymbolicLink()) return `${shown} is a link; name the file itself`
      const isLast = index === parts.length - 1
      if (!isLast && !stats.isDirectory()) return `${shown} is no folder`
      if (!isLast) continue
      return stats.isFile() ? checkStats(shown, stats) : `${shown} is no file`
    }
    return undefined
  }
}

function look(path: string): Stats | undefined {
  try {
    return lstatSync(path)
  } catch (error) {
    if (hasCode(error, 'ENOENT') || hasCode(error, 'ENOTDIR')) return undefined
    throw error
  }
}
