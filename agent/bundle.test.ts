import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { build, type Metafile } from 'esbuild'
import { afterAll, beforeAll, expect, it } from 'vitest'

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

let outdir: string
let outputs: Metafile['outputs']

beforeAll(async () => {
  outdir = await mkdtemp(join(tmpdir(), 'bundle-'))
  // Split at every dynamic import: what a piece needs statically is what whoever imports it holds.
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
  outputs = metafile.outputs
})

afterAll(async () => await rm(outdir, { recursive: true, force: true }))

/** The packages that a process holds that began these modules of the agent. */
function packagesOf(...modules: readonly string[]): ReadonlySet<string> {
  const held = new Set<string>()
  const visit = (name: string) => {
    if (held.has(name)) return
    held.add(name)
    for (const { path, kind } of outputs[name]?.imports ?? []) {
      if (kind === 'import-statement' && outputs[path]) visit(path)
    }
  }
  for (const module of modules) {
    const name = Object.keys(outputs).find(output => outputs[output]?.entryPoint?.endsWith(`agent/${module}`))
    expect(name, `a piece that begins with ${module}`).toBeDefined()
    visit(name ?? '')
  }
  const inputs = [...held].flatMap(name => Object.keys(outputs[name]?.inputs ?? {}))
  return new Set(inputs.flatMap(path => /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1] ?? []))
}

it('the idle agent loads no forge, zod, systeminformation, CEL, database, command line or YAML', () => {
  const packages = packagesOf('main.ts', 'start.ts', 'parts.ts')
  expect(packages).toContain('@grpc/grpc-js')
  expect([...packages].filter(name => KEPT_OUT.includes(name))).toEqual([])
  const all = Object.values(outputs).flatMap(({ inputs: used }) => Object.keys(used))
  expect(all.some(path => path.includes('systeminformation'))).toBe(true)
})

it('what units start for a moment loads no package, and what returns or reads facts no more than it speaks', () => {
  expect([...packagesOf('main.ts')]).toEqual([])
  expect([
    ...packagesOf('safety/marks.ts', 'safety/uptime.ts', 'system/rooted-files.ts', 'units/run-as-unit.ts'),
  ]).toEqual([])
  expect([...packagesOf('cluster-secrets/open-cluster-secrets.ts')]).toEqual([])
  expect([...packagesOf('safety/return-unit.ts', 'safety/rearm-at-boot.ts', 'facts/child.ts')]).toEqual([
    '@bufbuild/protobuf',
  ])
})
