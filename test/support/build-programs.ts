import { build, isBuilt } from '../../scripts/build.mjs'

/** Builds the programs once before the tests that start them. */
export async function setup(): Promise<void> {
  if (!(await isBuilt())) await build()
}
