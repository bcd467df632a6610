import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readdirSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { hasNode24, node24Folder } from '../../scripts/node-24.mjs'
import { VERSION } from '../../shared/version.ts'
import { hasNix, nixEnvironment } from '../nix/nix-library.ts'
import { checkout, filesOf, Program, programFile } from '../support/program.ts'
import { until } from '../support/shown.ts'
import { removeAll, temporaryFolder } from './nix-machine.ts'

// What the packages are made of, without nixpkgs: their own scripts, run by a shell, on the Node that they take.

const why = !hasNix
  ? 'skipped: the command nix is missing'
  : hasNode24
    ? undefined
    : 'skipped: Node 24 comes as a package for Linux on x86_64 only'
const SQLITE = 'node_modules/better-sqlite3-node24'
/** To compile SQLite takes minutes on a busy machine. */
const LONG_MS = 1_200_000

let node24: string
beforeAll(() => {
  if (why === undefined) node24 = node24Folder()
})
afterAll(removeAll)

/** The script by which nixpkgs' runCommand would make one of the packages. */
function scriptOf(program: 'agent' | 'coordinator' | 'cli', built: string): string {
  const expression = `
    (import ${checkout}/nix/packages {
      lib = {
        getExe = path: path;
        optionalString = wanted: text: if wanted then text else "";
        licenses.asl20 = { };
        platforms.linux = [ ];
      };
      runCommand = name: arguments: script: script;
      makeWrapper = null;
      callPackage = _: _: { outPath = "${built}"; version = "${VERSION}"; };
      nodejs_24 = "${join(node24, 'bin/node')}";
    }).${program}`
  const args = ['--eval', '--strict', '--json', '--expr', expression]
  const text = execFileSync('nix-instantiate', args, { env: nixEnvironment, encoding: 'utf8' })
  return String(JSON.parse(text))
}

/** Runs a builder's script in a folder, with the Node of the packages first in PATH. */
function runScript(script: string, cwd: string, env: Readonly<Record<string, string>>): void {
  const path = [join(node24, 'bin'), process.env.PATH].join(delimiter)
  const { status, stderr } = spawnSync('bash', ['-euc', script], {
    cwd,
    env: { ...process.env, PATH: path, ...env },
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  })
  if (status !== 0) throw new Error(stderr)
}

/** A wrapper is one line of a shell here. */
function install(script: string, cwd: string, out: string): void {
  mkdirSync(out)
  const wrapper = `makeWrapper() {
    mkdir -p "$(dirname "$2")"
    printf '#!/bin/sh\\nexec %s %s "$@"\\n' "$1" "$4" > "$2"
    chmod 755 "$2"
  }`
  runScript(`${wrapper}\n${script}`, cwd, { out })
}

/** What a build has made when it is done: the programs of this checkout, and for the module that it compiles the one that comes compiled. */
function finishedBuild(folder: string): string {
  const build = join(folder, 'build')
  cpSync(join(checkout, 'dist'), join(build, 'dist'), { recursive: true })
  const sqlite = join(checkout, SQLITE)
  for (const name of ['package.json', 'lib'])
    cpSync(join(sqlite, name), join(build, SQLITE, name), { recursive: true })
  cpSync(join(sqlite, 'prebuilds/linux-x64.node'), join(build, SQLITE, 'build/Release/better_sqlite3.node'))
  return build
}

/** A whole build by the packages' own steps, from the source. */
function wholeBuild(folder: string): string {
  const build = join(folder, 'build')
  mkdirSync(build)
  for (const name of ['agent', 'cli', 'coordinator', 'package.json', 'scripts', 'shared'])
    cpSync(join(checkout, name), join(build, name), { recursive: true })
  const modules = join(folder, 'modules/node_modules')
  mkdirSync(modules, { recursive: true })
  const compiled = [SQLITE, 'node_modules/node-addon-api'].map(path => path.replace('node_modules/', ''))
  for (const name of readdirSync(join(checkout, 'node_modules'))) {
    const from = join(checkout, 'node_modules', name)
    if (compiled.includes(name)) cpSync(from, join(modules, name), { recursive: true, dereference: true })
    else symlinkSync(from, join(modules, name))
  }
  const npm = execFileSync('npm', ['root', '--global'], { encoding: 'utf8' }).trim()
  runScript(`. ${checkout}/nix/packages/build.sh`, build, {
    TMPDIR: folder,
    nodeModules: dirname(modules),
    nodeGyp: join(npm, 'npm/node_modules/node-gyp/bin/node-gyp.js'),
    nodeSource: node24,
  })
  return build
}

describe.skipIf(why !== undefined)(`the packages ${why ?? ''}`, () => {
  // Else with the module that comes compiled: to compile it is minutes of work.
  const whole = process.env.MUSTER_WALK === 'whole'
  it(
    `hold all that the programs import, and start${whole ? ', built from the source' : ''}`,
    async () => {
      const folder = realpathSync(temporaryFolder())
      const build = whole ? wholeBuild(folder) : finishedBuild(folder)
      const built = join(folder, 'built')
      install(`. ${checkout}/nix/packages/install.sh`, build, built)
      for (const program of ['agent', 'coordinator', 'cli'] as const) {
        const out = join(folder, program)
        install(scriptOf(program, built), build, out)
        const name = program === 'cli' ? 'muster' : program
        for (const file of await filesOf(join(out, `lib/muster/${name}.mjs`))) {
          expect(existsSync(file), file).toBe(true)
        }
        const command = join(out, 'bin', program === 'cli' ? 'muster' : `muster-${program}`)
        expect(execFileSync(command, ['--version'], { encoding: 'utf8' })).toContain(VERSION)
      }
      // The native module is read with the program, and a store is made by it.
      const config = {
        stateDir: join(folder, 'state'),
        enrolmentListen: '127.0.0.1:0',
        fleetListen: '127.0.0.1:0',
      }
      const file = join(folder, 'coordinator.json')
      writeFileSync(file, JSON.stringify(config))
      await using coordinator = new Program(join(folder, 'coordinator/bin/muster-coordinator'), [
        '--config',
        file,
      ])
      await until('a coordinator that runs', () =>
        existsSync(join(config.stateDir, 'coordinator.sock')) ? true : undefined,
      )
      expect((await coordinator.kill('SIGTERM')).code).toBe(0)
    },
    LONG_MS,
  )

  it('are looked into where agent and command have parts at all', async () => {
    for (const program of ['agent', 'muster'] as const)
      expect((await filesOf(programFile(program))).length, program).toBeGreaterThan(3)
  })
})
