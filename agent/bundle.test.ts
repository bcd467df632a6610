import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { build } from 'esbuild'
import { expect, it } from 'vitest'

/** What only short-lived children, the coordinator or the command may load. */
const KEPT_OUT = [
  'node-forge',
  'zod',
  'systeminformation',
  '@bufbuild/cel',
  'kysely',
  'better-sqlite3',
  'pino',
  'commander',
  'yaml',
]

it('the idle agent loads no forge, zod, systeminformation, CEL, database, command line or YAML', async () => {
  const outdir = await mkdtemp(join(tmpdir(), 'bundle-'))
  try {
    // Split at every dynamic import: what the first piece needs statically is what the idle agent holds.
    const { metafile } = await build({
      entryPoints: [join(import.meta.dirname, 'main.ts')],
      outdir,
      bundle: true,
      splitting: true,
      platform: 'node',
      format: 'esm',
      metafile: true,
      logLevel: 'silent',
    })
    const outputs = metafile.outputs
    const entry = Object.keys(outputs).find(name => outputs[name]?.entryPoint?.endsWith('agent/main.ts'))
    const held = new Set<string>()
    const visit = (name: string) => {
      if (held.has(name)) return
      held.add(name)
      for (const { path, kind } of outputs[name]?.imports ?? []) {
        if (kind === 'import-statement' && outputs[path]) visit(path)
      }
    }
    expect(entry).toBeDefined()
    visit(entry ?? '')
    const inputs = [...held].flatMap(name => Object.keys(outputs[name]?.inputs ?? {}))
    const packages = new Set(
      inputs.flatMap(path => /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1] ?? []),
    )
    expect(packages).toContain('@grpc/grpc-js')
    expect([...packages].filter(name => KEPT_OUT.includes(name))).toEqual([])
    const all = Object.values(outputs).flatMap(({ inputs: used }) => Object.keys(used))
    expect(all.some(path => path.includes('systeminformation'))).toBe(true)
  } finally {
    await rm(outdir, { recursive: true, force: true })
  }
})
