import { createProcessGroups } from './process-groups.ts'
import { createRootedFiles } from './rooted-files.ts'
import { runInGroup } from './run-command.ts'
import { streamFromGroup } from './stream-command.ts'
import type { System } from './system.ts'

export interface RealSystemConfig {
  /** `/`, or a folder in which all files are looked up. Commands are the real machine's either way. */
  readonly root: string
  /** Where commands are searched, as in PATH. */
  readonly path: string
  /** What every command finds in its environment beside PATH and LC_ALL=C. */
  readonly env?: Readonly<Record<string, string>>
}

/** The door to the machine this process runs on. */
export function createRealSystem({ root, path, env = {} }: RealSystemConfig): System {
  const groups = createProcessGroups({ path, env })
  return {
    ...createRootedFiles(root),
    run: (command, args, options) => runInGroup(groups, command, args, options),
    stream: (command, args, options) => streamFromGroup(groups, command, args, options),
  }
}
