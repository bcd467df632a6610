import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { VERSION } from '../../shared/version.ts'
import { hasNix, nixEnvironment } from '../nix/nix-library.ts'
import { checkout, filesOf, programFile } from '../support/program.ts'
import { removeAll, temporaryFolder } from './nix-machine.ts'

// What the packages put together out of a finished build, without nixpkgs: their own scripts, run by a shell.

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
      nodejs_22 = "${process.execPath}";
    }).${program}`
  const args = ['--eval', '--strict', '--json', '--expr', expression]
  const text = execFileSync('nix-instantiate', args, { env: nixEnvironment, encoding: 'utf8' })
  return String(JSON.parse(text))
}

/** Runs a builder's script in the checkout. A wrapper is one line of a shell here. */
function install(script: string, out: string): void {
  mkdirSync(out)
  const wrapper = `makeWrapper() {
    mkdir -p "$(dirname "$2")"
    printf '#!/bin/sh\\nexec %s %s "$@"\\n' "$1" "$4" > "$2"
    chmod 755 "$2"
  }`
  const { status, stderr } = spawnSync('bash', ['-euc', `${wrapper}\n${script}`], {
    cwd: checkout,
    env: { ...process.env, out },
    encoding: 'utf8',
  })
  if (status !== 0) throw new Error(stderr)
}

describe.skipIf(!hasNix)('the packages', () => {
  it('hold all that the programs import, and start', async () => {
    const folder = temporaryFolder()
    const built = join(folder, 'built')
    install(`. ${checkout}/nix/packages/install.sh`, built)
    for (const program of ['agent', 'coordinator', 'cli'] as const) {
      const out = join(folder, program)
      install(scriptOf(program, built), out)
      const name = program === 'cli' ? 'muster' : program
      for (const file of await filesOf(join(out, `lib/muster/${name}.mjs`))) {
        expect(existsSync(file), file).toBe(true)
      }
      const command = join(out, 'bin', program === 'cli' ? 'muster' : `muster-${program}`)
      expect(execFileSync(command, ['--version'], { encoding: 'utf8' })).toContain(VERSION)
    }
  })

  it('are looked into where agent and command have parts at all', async () => {
    for (const program of ['agent', 'muster'] as const)
      expect((await filesOf(programFile(program))).length, program).toBeGreaterThan(3)
  })
})
