// Measures what the product costs beside what the same cannot cost less: `npm run bench -- [--agents N] [--json FILE]`.
// Does all set-up itself; what is measured and how stands in docs/benchmarks.md.
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { ensureDependencies, top } from './set-up.mjs'

ensureDependencies()
const { build, bundled, isBuilt } = await import('./build.mjs')
if (!(await isBuilt())) await build()

const out = join(top, '.cache/bench')
const { build: bundle } = await import('esbuild')
await bundle({
  ...bundled,
  entryPoints: ['main', 'client', 'floor-server', 'hook'].map(name => join(top, `test/bench/${name}.ts`)),
  outdir: out,
  outExtension: { '.js': '.mjs' },
})
const { status } = spawnSync(process.execPath, [join(out, 'main.mjs'), ...process.argv.slice(2)], {
  cwd: top,
  stdio: 'inherit',
})
process.exitCode = status ?? 1
