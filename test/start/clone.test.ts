import { cp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { VERSION } from '../../shared/version.ts'
import { checkout, runProgram } from '../support/program.ts'
import { pathWithout, temporaryFolder } from './places.ts'
import { RunningStart } from './running-start.ts'

const fresh = process.env.MUSTER_TEST_FRESH === '1'

test(`in a fresh clone ${fresh ? 'npm ci' : 'a copy of node_modules'} is enough for npx muster, and nothing is written into it`, {
  timeout: 300_000,
}, async () => {
  await using folder = await temporaryFolder()
  const clone = join(folder.path, 'clone')
  const env = { HOME: folder.path, XDG_STATE_HOME: '', MUSTER_SOCKET: '', MUSTER_CONFIG_HOME: '' }
  const run = (command: string, ...args: string[]) =>
    runProgram(command, args, { cwd: clone, env: fresh ? { MUSTER_SOCKET: '' } : env, timeoutMs: 280_000 })
  const cloned = await runProgram('git', ['clone', '--quiet', checkout, clone])
  expect(cloned, cloned.stderr).toMatchObject({ code: 0 })

  if (fresh) expect(await run('npm', 'ci', '--no-audit', '--no-fund')).toMatchObject({ code: 0 })
  else
    await cp(join(checkout, 'node_modules'), join(clone, 'node_modules'), {
      recursive: true,
      verbatimSymlinks: true,
    })
  const help = await run('npx', 'muster', '--help')
  expect(help, help.stderr).toMatchObject({ code: 0 })
  expect(help.stdout).toContain('Usage: muster [options] [command]')
  for (const program of ['muster-agent', 'muster-coordinator']) {
    expect(await run('npx', program, '--version')).toMatchObject({
      code: 0,
      stdout: `${program} ${VERSION}\n`,
    })
  }
  // init and check need neither coordinator, git nor Nix.
  const fleet = join(folder.path, 'fleet')
  const bare = { ...env, PATH: await pathWithout(folder.path, /^(git|nix)/) }
  for (const verb of ['init', 'check']) {
    const args = ['bin/muster', verb, fleet]
    const { code, stderr } = await runProgram('node', args, { cwd: clone, env: bare })
    expect({ code, stderr }, verb).toEqual({ code: 0, stderr: '' })
  }

  {
    await using start = new RunningStart(join(folder.path, 'state'), [], { cwd: clone })
    await start.up()
  }
  const changed = await run('git', 'status', '--porcelain')
  expect({ code: changed.code, stdout: changed.stdout }).toEqual({ code: 0, stdout: '' })

  // Without its packages the launcher says what to type.
  await rm(join(clone, 'node_modules'), { recursive: true })
  const emptied = await run('node', 'bin/muster', '--help')
  expect(emptied).toMatchObject({ code: 1, stderr: expect.stringContaining('run `npm ci`') })
})
