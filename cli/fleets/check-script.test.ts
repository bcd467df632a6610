import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { checkScriptIn } from './check-script.ts'
import { checkDirectory } from './read-fleet-directory.ts'

const dir = mkdtempSync(join(tmpdir(), 'muster-scripts-'))
afterAll(() => rmSync(dir, { recursive: true }))
mkdirSync(join(dir, 'checks'))
for (const name of ['good.sh', 'plain.sh']) writeFileSync(join(dir, 'checks', name), '#!/bin/sh\n')
chmodSync(join(dir, 'checks/good.sh'), 0o755)
chmodSync(join(dir, 'checks/plain.sh'), 0o644)
symlinkSync('good.sh', join(dir, 'checks/link.sh'))
symlinkSync('checks', join(dir, 'linked'))
symlinkSync('/nowhere', join(dir, 'dangling.sh'))

describe('the check of a script', () => {
  it('takes an executable file within the directory', () => {
    expect(checkScriptIn(dir)('checks/good.sh')).toBeUndefined()
  })

  it.each([
    ['checks/missing.sh', 'checks/missing.sh is not there'],
    ['nothing/at.all', 'nothing is not there'],
    ['checks/plain.sh', 'checks/plain.sh is not executable: chmod +x'],
    ['checks', 'checks is no file'],
    ['checks/good.sh/x', 'checks/good.sh is no folder'],
    ['checks/link.sh', 'checks/link.sh is a link'],
    ['linked/good.sh', 'linked is a link'],
    ['dangling.sh', 'dangling.sh is a link'],
  ])('refuses %s', (path, problem) => {
    expect(checkScriptIn(dir)(path)).toContain(problem)
  })

  it('is part of the check of a directory, with the place in the fleet file', async () => {
    const text = (script: string) =>
      `[fleet]\nname = "home"\nid = "${'0a'.repeat(16)}"\n[gates.own]\nscript = "${script}"\n[hosts.olaf]\ngates = ["own"]\n`
    writeFileSync(join(dir, 'fleet.toml'), text('checks/good.sh'))
    expect(await checkDirectory(dir)).toMatchObject({ ok: true, problems: [] })
    writeFileSync(join(dir, 'fleet.toml'), text('checks/plain.sh'))
    expect(await checkDirectory(dir)).toMatchObject({
      ok: false,
      problems: [{ line: 5, column: 10, path: 'gates.own.script' }],
    })
  })
})
