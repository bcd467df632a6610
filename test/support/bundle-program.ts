import { build } from 'esbuild'
import { bundled } from '../../scripts/build.mjs'

/** Bundles a program of the tests into one file, for machines that have Node and nothing else. */
export async function bundleProgram(entryPoint: string, outfile: string): Promise<void> {
  await build({ ...bundled, entryPoints: [entryPoint], outfile })
}
