// What the scripts need before they run: packages of npm, and on Debian as root packages of the system.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { accessSync, constants, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const top = join(dirname(fileURLToPath(import.meta.url)), '..')

/** Whether a program stands in PATH. */
export function hasProgram(name) {
  return (process.env.PATH ?? '').split(delimiter).some(folder => {
    try {
      accessSync(join(folder, name), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

const isDebianRoot = () =>
  process.getuid?.() === 0 && existsSync('/etc/debian_version') && hasProgram('apt-get')

/**
 * Makes sure of programs, given as { program, package, why }. On Debian as root what is missing is installed, elsewhere
 * it is named. Returns what is still missing.
 */
export function ensurePrograms(wanted) {
  const missing = wanted.filter(({ program }) => !hasProgram(program))
  if (missing.length === 0) return []
  const packages = [...new Set(missing.map(item => item.package))]
  if (isDebianRoot()) {
    console.error(`installing ${packages.join(', ')} …`)
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
    spawnSync('apt-get', ['update', '-q'], { stdio: ['ignore', 'ignore', 'inherit'], env })
    spawnSync('apt-get', ['install', '-y', '-q', '--no-install-recommends', ...packages], {
      stdio: ['ignore', 'ignore', 'inherit'],
      env,
    })
  }
  const still = wanted.filter(({ program }) => !hasProgram(program))
  for (const { program, package: name, why } of still) {
    console.error(`missing: ${program} (Debian package ${name}): ${why}`)
  }
  return still
}

/** The tools a native module is compiled with, where no prebuilt one can be had. */
const COMPILERS = [
  { program: 'python3', package: 'python3', why: 'node-gyp runs on it' },
  { program: 'make', package: 'make', why: 'compiles better-sqlite3' },
  { program: 'g++', package: 'g++', why: 'compiles better-sqlite3' },
]

/** Runs `npm ci` unless node_modules/ is what the lock file says; then proves that the native module loads. */
export function ensureDependencies() {
  const lock = createHash('sha256')
    .update(readFileSync(join(top, 'package-lock.json')))
    .digest('hex')
  const mark = join(top, 'node_modules/.muster-set-up')
  const want = `${lock} ${process.versions.modules}\n`
  if (existsSync(mark) && readFileSync(mark, 'utf8') === want && sqliteLoads()) return
  // What somebody installed by hand from this very lock file is as good.
  if (!(existsSync(join(top, 'node_modules/.package-lock.json')) && sameLock() && sqliteLoads())) {
    console.error('installing the packages of package-lock.json …')
    if (npm(['ci', '--no-audit', '--no-fund']) !== 0 || !sqliteLoads()) {
      const missing = ensurePrograms(COMPILERS)
      if (missing.length > 0 || npm(['ci', '--no-audit', '--no-fund']) !== 0 || !sqliteLoads()) {
        throw new Error('npm ci did not give working packages; what it printed stands above')
      }
    }
  }
  mkdirSync(join(top, 'node_modules'), { recursive: true })
  writeFileSync(mark, want)
}

function npm(args) {
  return spawnSync('npm', args, { cwd: top, stdio: ['ignore', 'ignore', 'inherit'] }).status
}

/** Whether node_modules/ holds the versions of the lock file. */
function sameLock() {
  const read = path => JSON.parse(readFileSync(join(top, path), 'utf8')).packages
  const wanted = read('package-lock.json')
  const have = read('node_modules/.package-lock.json')
  return Object.entries(wanted).every(
    ([path, { version, optional }]) => path === '' || optional || have[path]?.version === version,
  )
}

function sqliteLoads() {
  const test = "new (require('better-sqlite3'))(':memory:').prepare('select 1').get()"
  return spawnSync(process.execPath, ['-e', test], { cwd: top, stdio: 'ignore' }).status === 0
}
