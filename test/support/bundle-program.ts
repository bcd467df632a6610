import { build } from 'esbuild'

/** Bundles a program of the tests into one file, for machines that have Node and nothing else. */
export async function bundleProgram(entryPoint: string, outfile: string): Promise<void> {
  await build({
    entryPoints: [entryPoint],
    outfile,
    bundle: true,
    platform: 'node',
    target: 'node20.19',
    format: 'esm',
    logLevel: 'warning',
    // Some dependencies are CommonJS and call require.
    banner: {
      js: "import{createRequire as musterRequire}from'node:module';const require=musterRequire(import.meta.url);",
    },
  })
}
