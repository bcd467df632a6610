// `npm run lab -- up 5 | list | shell NAME | cut NAME | heal NAME | muster … | down`: real machines in containers to play with.
// Does all set-up itself; `npm run lab` tells more.
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { LAB_PROGRAMS } from './lab-programs.mjs'
import { ensureDependencies, ensurePrograms, top } from './set-up.mjs'

ensureDependencies()
if (process.argv[2] === 'up') {
  ensurePrograms(LAB_PROGRAMS)
  const { build, isBuilt } = await import('./build.mjs')
  if (!(await isBuilt())) await build()
}
const main = join(top, 'test/lab/play/main.ts')
const { status } = spawnSync(process.execPath, ['--import', 'tsx', main, ...process.argv.slice(2)], {
  cwd: top,
  stdio: 'inherit',
})
process.exitCode = status ?? 1
