import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { checkout, Program, runProgram } from '../support/program.ts'
import { temporaryFolder } from './places.ts'
import { untilGone } from './running-start.ts'

const page = readFileSync(join(checkout, 'docs/quick-start.md'), 'utf8')
const blocks = [...page.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)].map(([, language = '', text = '']) => ({
  language,
  text: text.trim(),
}))

test('every command of the quick start works as it stands there', { timeout: 300_000 }, async () => {
  await using home = await temporaryFolder()
  // A person of whom nothing is known yet.
  const env = {
    HOME: home.path,
    XDG_STATE_HOME: '',
    XDG_CONFIG_HOME: '',
    MUSTER_CONFIG_HOME: '',
    MUSTER_SOCKET: '',
  }
  expect(blocks.map(({ language }) => language)).toEqual(blocks.map(() => 'sh'))
  const [demo, start, ...typed] = blocks.map(({ text }) => text)
  expect([demo, start]).toEqual(['npm start -- --demo --exit', 'npm start'])

  // The demo runs beside a start, too.
  await using running = new Program('sh', ['-euc', `exec ${start}`], { env })
  await expect.poll(() => running.stdout, { timeout: 60_000 }).toContain('Stop with Ctrl-C')
  const walked = await runProgram('sh', ['-euc', demo ?? ''], { env })
  expect(walked.stdout.trimEnd().split('\n').at(-1), walked.stdout).toMatch(/^demo: (\d+) of \1 steps$/)
  expect(page).toContain(`\`${walked.stdout.trimEnd().split('\n').at(-1)}\``)
  expect(walked.code).toBe(0)
  expect(running.running).toBe(true)

  // One shell, as a person has it: what is exported counts in the blocks after it.
  const shell = await runProgram('bash', ['-euxo', 'pipefail', '-c', typed.join('\n')], { env })
  expect(shell, shell.stderr).toMatchObject({ code: 0 })
  expect(shell.stdout).toContain('revision 1 is published')
  expect(shell.stdout).toMatch(/^first-[0-9a-f]{8} +[0-9a-f]{12} +active/m)
  await running.kill('SIGTERM')
  await untilGone(home.path)
})
