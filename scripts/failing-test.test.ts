import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'

const top = join(import.meta.dirname, '..')

/** Runs the test script over a checkout that has these tests alone. */
function runOver(tests: Readonly<Record<string, string>>, ci = 'true') {
  const dir = mkdtempSync(join(tmpdir(), 'muster-run-'))
  try {
    const scripts = ['test.mjs', 'set-up.mjs', 'lab-programs.mjs', 'node-24.mjs'].map(
      name => `scripts/${name}`,
    )
    for (const name of [...scripts, 'package.json', 'package-lock.json']) {
      cpSync(join(top, name), join(dir, name))
    }
    symlinkSync(join(top, 'node_modules'), join(dir, 'node_modules'))
    mkdirSync(join(dir, 'test/nix'), { recursive: true })
    for (const [name, text] of Object.entries(tests)) writeFileSync(join(dir, 'test/nix', name), text)
    const env = { ...process.env, CI: ci, VITEST: '' }
    return spawnSync(process.execPath, ['scripts/test.mjs', 'nix'], { cwd: dir, encoding: 'utf8', env })
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

const test = (name: string, body: string) => `import { it } from 'vitest'\nit('${name}', () => { ${body} })\n`

it('T65: one failing test among good ones fails the run, wherever it stands, and so does a file that cannot load', () => {
  const good = test('good', '')
  const bad = test('bad', "throw new Error('no')")
  const failing = runOver({ 'a.test.ts': bad, 'z.test.ts': good })
  expect(failing.status, failing.stdout).toBe(1)
  expect(failing.stdout.trim().split('\n').at(-1)).toBe('1 passed, 1 failed')
  const broken = runOver({ 'a.test.ts': "import './not-there.ts'\n", 'z.test.ts': good })
  expect(broken.status, broken.stdout).toBe(1)
  expect(broken.stdout.trim().split('\n').at(-1)).toBe('1 passed, 1 failed')
  const fine = runOver({ 'a.test.ts': good, 'z.test.ts': good })
  expect(fine.status, fine.stdout + fine.stderr).toBe(0)
  expect(fine.stdout.trim().split('\n').at(-1)).toBe('2 passed, 0 failed')
})

it('a test that CI skips and no issue names fails the run; the line of each part tells its minutes', () => {
  const files = {
    'a.test.ts': test('good', ''),
    'z.test.ts': test('left out', '').replace('it(', 'it.skip('),
  }
  const skipping = runOver(files)
  expect(skipping.status, skipping.stdout).toBe(1)
  expect(skipping.stdout).toContain('1 tests were skipped, which CI does not allow here:\n  left out\n')
  expect(skipping.stdout).toMatch(/^nix: 1 passed, 1 failed, 1 skipped \(\d+\.\d min\)$/m)
  // A person's machine may lack what a test needs: told, and no failure.
  const person = runOver(files, 'false')
  expect(person.status, person.stdout).toBe(0)
  expect(person.stdout.trim().split('\n').at(-1)).toBe('1 passed, 0 failed, 1 skipped')
})

it('the end of a run says of each failure what it was, with the lines that follow the first, and not where', () => {
  const bad = test('bad', "throw new Error('exit 6\\n\\nn5: its reason\\nand more')")
  const failing = runOver({ 'a.test.ts': bad })
  expect(failing.stdout).toContain('failed in nix: bad: Error: exit 6\n  n5: its reason\n  and more\n\nnix: ')
})
