// Bundles the programs, and what `npm start` runs, into dist/: one file each, so that nothing but Node is needed for them.
// better-sqlite3 is native and stays outside: coordinator/store/sqlite.ts looks for it when it is loaded.
import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const top = join(dirname(fileURLToPath(import.meta.url)), '..')
const SOURCES = ['shared', 'coordinator', 'agent', 'cli', 'scripts']

const programs = {
  'agent.mjs': 'agent/main.ts',
  'coordinator.mjs': 'coordinator/main.ts',
  'muster.mjs': 'cli/main.ts',
  'start.mjs': 'scripts/start/main.ts',
}

async function* sourceFiles(folder) {
  for (const entry of await readdir(join(top, folder), { withFileTypes: true })) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) yield* sourceFiles(path)
    else if (path.endsWith('.ts') && !path.endsWith('.test.ts')) yield path
  }
}

/** A digest over the names, sizes and times of all sources: cheap, and different after any edit. */
export async function sourceStamp() {
  const hash = createHash('sha256')
  const files = ['package.json', 'scripts/build.mjs']
  for (const folder of SOURCES) for await (const file of sourceFiles(folder)) files.push(file)
  for (const file of files.sort()) {
    const { size, mtimeMs } = await stat(join(top, file))
    hash.update(`${file} ${size} ${mtimeMs}\n`)
  }
  return hash.digest('hex')
}

/** Whether dist/ was built from the sources as they are. */
export async function isBuilt() {
  try {
    return (await readFile(join(top, 'dist/stamp'), 'utf8')) === (await sourceStamp())
  } catch {
    return false
  }
}

/** What every bundle of ours is: one file that needs Node and nothing else. */
export const bundled = {
  bundle: true,
  platform: 'node',
  target: 'node20.19',
  format: 'esm',
  logLevel: 'warning',
  // grpc-js, for one, is CommonJS and calls require.
  banner: {
    js: "import{createRequire as musterRequire}from'node:module';const require=musterRequire(import.meta.url);",
  },
}

/** What stands before a bundle: the agent asks V8 for memory before speed. */
function banner(name) {
  const needed = bundled.banner.js
  if (name !== 'agent.mjs') return needed
  return `import musterV8 from'node:v8';musterV8.setFlagsFromString('--optimize-for-size');${needed}`
}

/** Builds all programs. Each file is replaced whole, so that a program that starts meanwhile finds one or the other. */
export async function build() {
  const { build: bundle } = await import('esbuild')
  const stamp = await sourceStamp()
  const out = join(top, 'dist')
  await mkdir(out, { recursive: true })
  for (const [name, entry] of Object.entries(programs)) {
    const partial = join(out, `.${process.pid}.${name}`)
    await bundle({
      ...bundled,
      entryPoints: [join(top, entry)],
      outfile: partial,
      minifySyntax: true,
      minifyWhitespace: true,
      // The agent is kept small; its errors carry names of their own. The others keep the names in the source, for
      // profiles and traces: esbuild's keepNames writes one to each function whenever it is made, which costs time and
      // memory for every session.
      minifyIdentifiers: name === 'agent.mjs',
      legalComments: 'none',
      banner: { js: banner(name) },
    })
    await rename(partial, join(out, name))
  }
  const partial = join(out, `.${process.pid}.stamp`)
  await writeFile(partial, stamp)
  await rename(partial, join(out, 'stamp'))
  await rm(join(out, `.${process.pid}.stamp`), { force: true })
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await build()
