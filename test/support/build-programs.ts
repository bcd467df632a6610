import { spawnSync } from 'node:child_process'
import { build, isBuilt } from '../../scripts/build.mjs'

/** Builds the programs once before the tests that start them, and has Nix make its database where there is none yet. */
export async function setup(): Promise<void> {
  if (!(await isBuilt())) await build()
  // On a fresh machine two tests that call Nix at once would both make it, and one be told that it is busy.
  spawnSync('nix-store', ['--init'], { stdio: 'ignore' })
}
