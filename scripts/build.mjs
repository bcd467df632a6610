// Bundles the programs, and what `npm start` runs, into dist/, so that nothing but Node is needed for them: one file each, but
// for the agent and the command, whose parts that are not always needed lie in dist/agent/ and dist/muster/.
// better-sqlite3 is native and stays outside: coordinator/store/sqlite.ts looks for it when it is loaded.
import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { sourceSeconds } from './source-time.mjs'

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
  const files = ['package.json', 'scripts/build.mjs', 'scripts/source-time.mjs']
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

/** What every bundle of ours is: modules that need Node and nothing else. */
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

/**
 * The agent and the command are split where they import what they need only now and then. A program that is never read costs an
 * idle agent no memory, and reading it in pieces leaves less of the reader's own behind; and of a command that lives for a moment
 * most of the time went into reading what it had no use for. Errors carry names of their own, so in the agent those of functions can go. The
 * others keep the names in the source, for profiles and traces: esbuild's keepNames writes one to each function whenever
 * it is made, which costs time and memory for every session.
 */
const SPLIT = {
  'agent.mjs': { splitting: true, chunkNames: 'agent/[hash]', minifyIdentifiers: true },
  'muster.mjs': { splitting: true, chunkNames: 'muster/[hash]' },
}

/** A part that nothing refers to any more may be one that a running program has yet to load: those of a day stay. */
const KEPT_MS = 24 * 60 * 60 * 1000
/** And those of the build before this one, however old: no build takes longer. */
const LONGEST_BUILD_MS = 10 * 60 * 1000

/**
 * Builds all programs into a folder. Each file is replaced whole, so that a program that starts meanwhile finds one or the
 * other.
 */
export async function build({ out = join(top, 'dist'), env = process.env } = {}) {
  const { build: bundle } = await import('esbuild')
  const stamp = await sourceStamp()
  const read = [...SOURCES, 'package.json', ':(exclude,glob)**/*.test.ts']
  const seconds = sourceSeconds(top, read, env, Date.now())
  const before = await stat(join(out, 'stamp')).then(
    ({ mtimeMs }) => mtimeMs,
    () => Number.POSITIVE_INFINITY,
  )
  const oldest = Math.min(before - LONGEST_BUILD_MS, Date.now() - KEPT_MS)
  for (const [name, entry] of Object.entries(programs)) {
    const { outputFiles } = await bundle({
      ...bundled,
      entryPoints: { [name.replace(/\.mjs$/, '')]: join(top, entry) },
      outdir: out,
      outExtension: { '.js': '.mjs' },
      write: false,
      minifySyntax: true,
      minifyWhitespace: true,
      legalComments: 'none',
      // Read by agent/build-time.ts.
      define: { MUSTER_SOURCE_SECONDS: String(seconds) },
      banner: { js: banner(name) },
      ...SPLIT[name],
    })
    const [program] = outputFiles.filter(({ path }) => path === join(out, name))
    const others = outputFiles.filter(file => file !== program)
    if (others.length > 0) await mkdir(join(out, name.replace(/\.mjs$/, '')), { recursive: true })
    // The program last: what it imports is there by then.
    for (const { path, contents } of [...others, program]) await replace(path, contents)
    if (others.length > 0)
      await removeFormerParts(
        dirname(others[0].path),
        new Set(others.map(({ path }) => basename(path))),
        oldest,
      )
  }
  await replace(join(out, 'stamp'), stamp)
}

async function replace(path, contents) {
  const partial = join(dirname(path), `.${process.pid}.${basename(path)}`)
  await writeFile(partial, contents)
  await rename(partial, path)
}

/** Removes what is no part any more and was written before `oldest` (milliseconds since 1970). */
async function removeFormerParts(folder, parts, oldest) {
  for (const name of await readdir(folder)) {
    if (parts.has(name)) continue
    const path = join(folder, name)
    const { mtimeMs } = await stat(path).catch(() => ({ mtimeMs: Date.now() }))
    if (mtimeMs < oldest) await rm(path, { force: true })
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await build()
