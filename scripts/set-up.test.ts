import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

const top = join(import.meta.dirname, '..')
/** Where the script installs by itself: Debian, as root. `apt-get` of these tests is a program of theirs. */
const installs = process.getuid?.() === 0 && existsSync('/etc/debian_version')

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'muster-set-up-'))
  mkdirSync(join(folder, 'scripts'))
  mkdirSync(join(folder, 'bin'))
  for (const name of ['scripts/set-up.mjs', 'package.json', 'package-lock.json']) {
    cpSync(join(top, name), join(folder, name))
  }
  for (const name of ['sh', 'mkdir', 'cp', 'chmod']) {
    const found = ['/usr/bin', '/bin', '/run/current-system/sw/bin'].map(place => join(place, name))
    symlinkSync(found.find(path => existsSync(path)) ?? name, join(folder, 'bin', name))
  }
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

/** Puts a program into the only folder of PATH. */
function addProgram(name: string, script: string): void {
  writeFileSync(join(folder, 'bin', name), `#!/bin/sh\n${script}\n`)
  chmodSync(join(folder, 'bin', name), 0o755)
}

/** Runs what the script exports, in a checkout without packages. */
function setUp(call: string) {
  const code = `import * as setUp from ${JSON.stringify(join(folder, 'scripts/set-up.mjs'))}\n${call}`
  const { status, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', code], {
    encoding: 'utf8',
    env: { PATH: join(folder, 'bin') },
  })
  return { status, stderr }
}

const FAILING_NPM = 'echo "npm error gyp ERR! find Python" >&2; exit 1'
/** As npm does once there are tools: leaves a native module that loads. */
const NPM_THAT_COMPILES = `
[ -e ${'$'}{0%/*}/g++ ] || { ${FAILING_NPM}; }
for name in better-sqlite3 better-sqlite3-node24; do
  mkdir -p node_modules/${'$'}name
  echo 'module.exports = function () { this.prepare = () => ({ get: () => 1 }) }' > node_modules/${'$'}name/index.js
done`

describe('packages that cannot be installed', () => {
  it('without a compiler: names each tool with its package, and what npm said', () => {
    addProgram('npm', FAILING_NPM)
    const { status, stderr } = setUp('setUp.ensureDependencies()')
    expect(status).toBe(1)
    for (const name of ['python3', 'make', 'g++']) {
      expect(stderr).toContain(`missing: ${name} (Debian package ${name}): `)
    }
    expect(stderr).toContain('install python3, make, g++, then run this again')
    expect(stderr).toContain('gyp ERR! find Python')
    // Nothing says that all is well, so the next run tries again.
    expect(existsSync(join(folder, 'node_modules/.muster-set-up'))).toBe(false)
    expect(existsSync(join(folder, '.cache/set-up.lock'))).toBe(false)
  })

  it('with all tools: ends with what npm said', () => {
    for (const name of ['python3', 'make', 'g++']) addProgram(name, 'exit 0')
    addProgram('npm', FAILING_NPM)
    const { status, stderr } = setUp('setUp.ensureDependencies()')
    expect(status).toBe(1)
    expect(stderr).toContain('npm ci did not give working packages. It said:')
    expect(stderr).not.toContain('missing:')
  })

  it('without npm says so', () => {
    expect(setUp('setUp.ensureDependencies()').stderr).toContain('npm is not in PATH')
  })
})

describe('a missing program', () => {
  const wanted = `[{ program: 'nix', package: 'nix-bin', why: 'tests that build with Nix; they are skipped without it' }]`

  it('is installed by Debian’s root and nobody else', () => {
    addProgram(
      'apt-get',
      `echo "$@" >> ${folder}/asked; [ "$1" != install ] || cp ${folder}/bin/apt-get ${folder}/bin/nix`,
    )
    const { status, stderr } = setUp(
      `process.exitCode = setUp.ensurePrograms(${wanted}).length + (setUp.hasProgram('nix') ? 0 : 10)`,
    )
    expect(status).toBe(installs ? 0 : 11)
    if (installs) {
      expect(readFileSync(join(folder, 'asked'), 'utf8')).toMatch(/^update.*\ninstall -y .*nix-bin\n$/)
      expect(stderr).not.toContain('missing:')
    } else {
      expect(existsSync(join(folder, 'asked'))).toBe(false)
    }
  })

  it('that cannot be installed is named, with the tests that are skipped without it', () => {
    const { status, stderr } = setUp(`process.exitCode = setUp.ensurePrograms(${wanted}).length`)
    expect(status).toBe(1)
    expect(stderr).toBe(
      'missing: nix (Debian package nix-bin): tests that build with Nix; they are skipped without it\n',
    )
  })
})

it('tools that Debian’s root is missing are installed, and the packages are then', () => {
  addProgram('npm', NPM_THAT_COMPILES)
  addProgram(
    'apt-get',
    `[ "$1" != install ] || for name in python3 make g++; do cp ${folder}/bin/apt-get ${folder}/bin/$name; done`,
  )
  const { status, stderr } = setUp('setUp.ensureDependencies()')
  expect(status, stderr).toBe(installs ? 0 : 1)
  expect(existsSync(join(folder, 'node_modules/.muster-set-up'))).toBe(installs)
  // Set up once, it asks npm for nothing more.
  if (installs) {
    addProgram('npm', 'exit 7')
    expect(setUp('setUp.ensureDependencies()')).toEqual({ status: 0, stderr: '' })
  }
})
