// Runs the tests: `npm test`, or `node scripts/test.mjs PART…`. Does all set-up itself. Every part, and the whole, ends
// with one line "N passed, N failed".
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import { LAB_PROGRAMS, VIRTUAL_MACHINE_PROGRAMS } from './lab-programs.mjs'
import { hasNode24, node24Folder } from './node-24.mjs'
import { ensureDependencies, ensurePrograms, quietNpm, top } from './set-up.mjs'

/** Tests that may be skipped where CI=true: those of a part whose full name says this. */
const MAY_SKIP = [
  // It is no package of a registry.
  { part: 'nix', says: 'no library of nixpkgs' },
]

const CHECKS = [
  ['format and lint', ['npx', 'biome', 'check', '.']],
  ['types', ['npx', 'tsc', '-p', '.']],
  [
    'promises and switches',
    ['npx', 'oxlint', '--type-aware', 'shared', 'coordinator', 'agent', 'cli', 'test', 'scripts'],
  ],
  ['proto lint', ['npx', 'buf', 'lint']],
  ['proto format', ['npx', 'buf', 'format', '-d', '--exit-code', 'proto']],
  ['proto breaking changes', ['npx', 'buf', 'breaking', '--against', 'proto/baseline.binpb']],
  ['generated code is up to date', ['node', 'scripts/check-generated.mjs']],
  ['rules of the house', ['node', 'scripts/check-rules.mjs']],
]

const vitest = (...folders) => ({ kind: 'vitest', folders })
const UNITS = ['shared', 'coordinator', 'agent', 'cli']
/**
 * Tests wait for processes, deadlines and machines much of their time. With a worker more than there are processors a third of
 * the processors' time stood unused, which more of them use; with six on two, all that read the modules anew cost what they gain.
 */
const WORKERS = Math.max(5, 2 * availableParallelism() + 1)
/** A machine in software needs a processor for itself; those that wait for their units need next to none. */
const LAB_WORKERS = Math.max(3, availableParallelism() + 1)
/**
 * Unit tests share the process that has read the modules: to begin one and read them anew for each of 300 files took a third of the
 * time.
 */
const UNIT_ARGS = [`--maxWorkers=${WORKERS}`, '--no-isolate']
const E2E_ARGS = [`--maxWorkers=${WORKERS}`]
/** Machines boot and systems are built in these: nothing there is quick on a busy host. */
const LAB_TIMES = ['--testTimeout=240000', '--hookTimeout=1200000']
/** Three control planes share a machine: where that is slow, founding and joining alone take minutes. */
const CLUSTER_TIMES = ['--testTimeout=900000', '--hookTimeout=1200000']
const PARTS = {
  check: { kind: 'check' },
  unit: {
    ...vitest(...UNITS, 'scripts', 'test/docs', 'test/support'),
    args: UNIT_ARGS,
  },
  e2e: { ...vitest('test/e2e'), args: E2E_ARGS },
  builds: vitest('test/builds', 'test/standin'),
  nix: vitest('test/nix'),
  start: vitest('test/start'),
  // Of virtual machines, which boot in software for minutes, only the one that boots for the first time.
  lab: {
    ...vitest('test/lab'),
    args: [...LAB_TIMES, `--maxWorkers=${LAB_WORKERS}`, '--exclude=test/lab/vm/**'],
  },
  vm: { ...vitest('test/lab/vm'), args: LAB_TIMES },
  // One cluster at a time: each is several machines with a control plane. `components` is walked whole; the others are
  // founded and joined, and walked whole too with MUSTER_WALK=whole.
  clusters: { ...vitest('test/clusters/muster'), args: [...CLUSTER_TIMES, '--no-file-parallelism'] },
  // Rolling upgrades of one cluster with its systems, whose workload is asked all the while; prints what they took.
  rolling: {
    ...vitest('test/clusters/rolling'),
    // Five hosts one after the other, on a host that may be busy otherwise.
    args: ['--testTimeout=1200000', '--hookTimeout=1200000', '--no-file-parallelism'],
  },
  // The agent's drivers, and the stand-ins for k0s and k3s, without a coordinator.
  drivers: {
    ...vitest('test/clusters/drivers', 'test/clusters/standins'),
    args: [...LAB_TIMES, '--no-file-parallelism'],
  },
  node24: {
    kind: 'node24',
    runs: [
      { folders: UNITS, args: UNIT_ARGS },
      { folders: ['test/e2e'], args: E2E_ARGS },
    ],
  },
}
/** What `npm test` runs, in this order. */
const DEFAULT = ['check', 'unit', 'e2e', 'builds', 'nix', 'start', 'lab', 'clusters', 'node24']
/** The whole matrix, in which every distribution is walked whole. */
const ALL = [...DEFAULT, 'vm', 'drivers', 'rolling']
/**
 * A part that runs beside the one before it, where both are asked for: clusters wait for each other's leases and leave a third of the
 * processors to whoever waits for nothing but processes of its own. What it prints follows once the other is over.
 */
const BESIDE = { clusters: 'node24' }

/** So much of a failure is named once more at the end. */
const FAILURE_LINES = 20
const FAILURE_CHARACTERS = 2_000

const PROGRAMS = [
  {
    program: 'git',
    package: 'git',
    why: 'tests of publishing from a repository; they are skipped without it',
  },
  {
    program: 'nix',
    package: 'nix-bin',
    why: 'tests that build with Nix (test/builds, test/nix); they are skipped without it',
  },
]

/** Where a part prints: `fd` is what its programs are given. */
const HERE = { say: console.log, fd: 'inherit' }

/** Exit code of a program; 1 where a signal ended it. */
async function run(command, args, { out, ...options }) {
  const child = spawn(command, args, { cwd: top, stdio: ['ignore', out.fd, out.fd], ...options })
  const [code] = await once(child, 'close')
  return code ?? 1
}

function runChecks() {
  const counts = { passed: 0, failed: 0, skipped: 0 }
  for (const [name, [command, ...args]] of CHECKS) {
    const result = spawnSync(command, args, { cwd: top, encoding: 'utf8', env: quietNpm() })
    const good = result.status === 0
    counts[good ? 'passed' : 'failed'] += 1
    console.log(`  ${good ? 'ok  ' : 'FAIL'} ${name}`)
    if (!good) console.log(`${result.stdout}\n${result.stderr}`)
  }
  return counts
}

async function runVitest(part, folders, { node = process.execPath, extra = [], out = HERE } = {}) {
  const there = folders.filter(folder => existsSync(join(top, folder)))
  if (there.length === 0)
    return { passed: 0, failed: 1, skipped: 0, note: `no such folder: ${folders.join(' ')}` }
  const scratch = mkdtempSync(join(tmpdir(), 'muster-test-'))
  const report = join(scratch, 'report.json')
  try {
    // Whole, since vitest takes a word for any part of a path.
    const whole = there.map(folder => `${join(top, folder)}/`)
    const args = ['node_modules/vitest/vitest.mjs', 'run', ...whole, '--reporter=default', '--reporter=json']
    const status = await run(node, [...args, `--outputFile.json=${report}`, ...extra], {
      env: quietNpm(),
      out,
    })
    if (!existsSync(report)) return { passed: 0, failed: 1, skipped: 0, note: 'vitest wrote no report' }
    const result = JSON.parse(readFileSync(report, 'utf8'))
    const tests = result.testResults.flatMap(file => file.assertionResults)
    const counts = {
      passed: tests.filter(test => test.status === 'passed').length,
      failed: tests.filter(test => test.status === 'failed').length,
      skipped: tests.filter(test => !['passed', 'failed'].includes(test.status)).length,
    }
    // A file that could not be loaded has no tests to fail, and so has an error outside of any.
    counts.failed += result.testResults.filter(
      file => file.status === 'failed' && file.assertionResults.every(test => test.status !== 'failed'),
    ).length
    if (status !== 0 && counts.failed === 0) counts.failed = 1
    if (tests.length === 0) counts.failed += 1
    const failures = tests.filter(test => test.status === 'failed')
    counts.failures = failures.map(test => `${test.fullName}: ${whatFailed(test.failureMessages[0])}`)
    const mayBe = ({ fullName }) => MAY_SKIP.some(rule => rule.part === part && fullName.includes(rule.says))
    const skipped = tests.filter(test => !['passed', 'failed'].includes(test.status) && !mayBe(test))
    if (skipped.length > 0 && process.env.CI === 'true') {
      out.say(`${skipped.length} tests were skipped, which CI does not allow here:`)
      for (const test of skipped) out.say(`  ${test.fullName}`)
      counts.failed += skipped.length
    }
    return counts
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

/** What a failure says, without where: of a program that failed the reason stands in the lines after the first. */
function whatFailed(text = '') {
  const lines = stripVTControlCharacters(text).split('\n')
  const where = lines.findIndex(line => /^\s+at /.test(line))
  const said = lines.slice(0, where < 0 ? undefined : where).filter(line => line.trim() !== '')
  return said.slice(0, FAILURE_LINES).join('\n  ').slice(0, FAILURE_CHARACTERS)
}

/** The same tests on Node 24, which NixOS ships: an npm package brings the program. */
async function runNode24(runs, out) {
  if (!hasNode24) {
    return { passed: 0, failed: 0, skipped: 1, note: 'Node 24 comes as a package for Linux on x86_64 only' }
  }
  let node
  try {
    node = join(node24Folder(), 'bin/node')
  } catch (error) {
    return { passed: 0, failed: 1, skipped: 0, note: error.message }
  }
  const version = spawnSync(node, ['--version'], { encoding: 'utf8' }).stdout.trim()
  out.say(`  on Node ${version}`)
  const all = []
  for (const { folders, args } of runs)
    all.push(await runVitest('node24', folders, { node, extra: args, out }))
  return all.reduce((sum, counts) => ({
    passed: sum.passed + counts.passed,
    failed: sum.failed + counts.failed,
    skipped: sum.skipped + counts.skipped,
    failures: [...(sum.failures ?? []), ...(counts.failures ?? [])],
    note: counts.note ?? sum.note,
  }))
}

async function runKind(name, out) {
  const part = PARTS[name]
  switch (part.kind) {
    case 'check':
      return runChecks()
    case 'vitest':
      return await runVitest(name, part.folders, { extra: part.args, out })
    default:
      return await runNode24(part.runs, out)
  }
}

/** What a part counted, and how long it took. */
async function runPart(name, out) {
  out.say(`\n== ${name}`)
  const began = Date.now()
  const counts = await runKind(name, out)
  return { ...counts, name, minutes: ((Date.now() - began) / 60_000).toFixed(1) }
}

/** Runs two parts at once; the second one's output is shown when the first is over and it is, too. */
async function runBeside(name, other) {
  const folder = mkdtempSync(join(tmpdir(), 'muster-beside-'))
  const file = join(folder, 'output')
  const fd = openSync(file, 'a')
  try {
    const out = { fd, say: line => writeSync(fd, `${line}\n`) }
    const both = await Promise.all([runPart(name, HERE), runPart(other, out)])
    process.stdout.write(readFileSync(file))
    return both
  } finally {
    closeSync(fd)
    rmSync(folder, { recursive: true, force: true })
  }
}

const closing = ({ passed, failed, skipped }) =>
  `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`

if (process.argv.includes('all')) process.env.MUSTER_WALK = 'whole'
const asked = process.argv.slice(2).flatMap(name => (name === 'all' ? ALL : [name]))
const unknown = asked.filter(name => !(name in PARTS))
if (unknown.length > 0) {
  console.error(`no such part: ${unknown.join(', ')}; there are ${Object.keys(PARTS).join(', ')} and all`)
  process.exit(2)
}
const parts = asked.length > 0 ? asked : DEFAULT

ensureDependencies()
if (parts.some(part => part !== 'check')) ensurePrograms(PROGRAMS)
if (parts.some(part => ['lab', 'vm', 'clusters', 'rolling', 'drivers'].includes(part)))
  ensurePrograms(LAB_PROGRAMS)
if (parts.includes('lab') || parts.includes('vm')) ensurePrograms(VIRTUAL_MACHINE_PROGRAMS)

const total = { passed: 0, failed: 0, skipped: 0 }
const lines = []
// Named once more at the end: what came before is long, and the end is what people read first.
const failures = []
const done = new Set()
for (const name of parts) {
  if (done.has(name)) continue
  const other = parts.includes(BESIDE[name]) ? BESIDE[name] : undefined
  const results = other === undefined ? [await runPart(name, HERE)] : await runBeside(name, other)
  for (const counts of results) {
    done.add(counts.name)
    for (const key of Object.keys(total)) total[key] += counts[key]
    for (const failure of counts.failures ?? []) failures.push(`failed in ${counts.name}: ${failure}`)
    const note = counts.note ? ` ${counts.note}` : ''
    lines.push(`${counts.name}: ${closing(counts)} (${counts.minutes} min)${note}`)
  }
}
if (failures.length > 0) console.log(`\n${failures.join('\n')}`)
console.log(`\n${lines.join('\n')}`)
console.log(closing(total))
process.exitCode = total.failed > 0 ? 1 : 0
