import { checkFileIn } from './check-file.ts'

/** Says what is wrong with a script that a gate of the fleet file names; undefined when nothing is. */
export function checkScriptIn(dir: string): (path: string) => string | undefined {
  return checkFileIn(dir, (shown, { mode }) =>
    (mode & 0o100) === 0 ? `${shown} is not executable: chmod +x` : undefined,
  )
}
