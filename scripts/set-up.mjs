// What the scripts need before they run: packages of npm, and on Debian as root packages of the system.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const top = join(dirname(fileURLToPath(import.meta.url)), '..')

/** npx complains of settings that are no business of the tests. */
export function quietNpm() {
  return { ...process.env, npm_config_loglevel: 'error', npm_config_update_notifier: 'false' }
}

/** Whether a program stands in PATH; by an absolute path: whether that file is there. */
export function hasProgram(name) {
  if (name.startsWith('/')) return existsSync(name)
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
  const isSetUp = () => existsSync(mark) && readFileSync(mark, 'utf8') === want && sqliteLoads()
  if (isSetUp()) return
  const release = lockSetUp()
  try {
    // Another process may have done it while this one waited.
    if (isSetUp()) return
    // What somebody installed by hand from this very lock file is as good.
    if (!(existsSync(join(top, 'node_modules/.package-lock.json')) && sameLock() && sqliteLoads())) install()
    mkdirSync(join(top, 'node_modules'), { recursive: true })
    writeFileSync(mark, want)
  } finally {
    release()
  }
}

function install() {
  if (!hasProgram('npm')) throw new Error('npm is not in PATH: install it with Node, then run this again')
  console.error('installing the packages of package-lock.json …')
  const first = npmCi()
  if (first.good) return
  // Most likely there is no prebuilt native module to download, and nothing to compile it with.
  const missing = ensurePrograms(COMPILERS)
  const second = missing.length === 0 ? npmCi() : first
  if (second.good) return
  const cure =
    missing.length > 0 ? `install ${missing.map(tool => tool.package).join(', ')}, then run this again` : ''
  throw new Error(
    `npm ci did not give working packages${cure === '' ? '' : `; ${cure}`}. It said:\n${second.said}`,
  )
}

function npmCi() {
  // Whatever NODE_ENV says: what builds and tests is needed, too.
  const args = ['ci', '--no-audit', '--no-fund', '--include=dev']
  const { status, stderr, error } = spawnSync('npm', args, {
    cwd: top,
    stdio: ['ignore', 'ignore', 'pipe'],
    encoding: 'utf8',
  })
  const good = status === 0 && sqliteLoads()
  return { good, said: `${stderr ?? ''}${error?.message ?? ''}`.trim().split('\n').slice(-40).join('\n') }
}

/** One set-up at a time: two at once would take each other's node_modules/ away. Gives back what ends the lock. */
function lockSetUp() {
  const path = join(top, '.cache/set-up.lock')
  mkdirSync(dirname(path), { recursive: true })
  for (let told = false; ; ) {
    try {
      writeFileSync(path, `${process.pid}\n`, { flag: 'wx' })
      return () => rmSync(path, { force: true })
    } catch (error) {
      if (error.code !== 'EEXIST') throw error
    }
    const holder = lockHolder(path)
    if (holder === undefined) {
      rmSync(path, { force: true })
      continue
    }
    if (!told) console.error(`waiting for process ${holder}, which installs the packages …`)
    told = true
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500)
  }
}

const LONGEST_SET_UP_MS = 15 * 60_000

/** The process that holds the lock; undefined: nobody does any more. */
function lockHolder(path) {
  try {
    const age = Date.now() - statSync(path).mtimeMs
    const pid = Number(readFileSync(path, 'utf8'))
    // A file without a number was cut off in the writing; a very old one names a process that is another by now.
    if (pid === 0) return age > 2_000 ? undefined : 0
    return age < LONGEST_SET_UP_MS && isAlive(pid) ? pid : undefined
  } catch {
    return undefined // just given back
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error.code === 'EPERM'
  }
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
  // The same choice as coordinator/store/sqlite.ts makes.
  const name = Number(process.versions.node.split('.')[0]) >= 22 ? 'better-sqlite3-node24' : 'better-sqlite3'
  const test = `new (require('${name}'))(':memory:').prepare('select 1').get()`
  return spawnSync(process.execPath, ['-e', test], { cwd: top, stdio: 'ignore' }).status === 0
}
