import { readdirSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { hasNix } from '../nix/nix-library.ts'
import { type Finished, Program, runProgram } from '../support/program.ts'
import { pathWithout, temporaryFolder } from './places.ts'
import { untilGone } from './running-start.ts'

const runDemo = (args: readonly string[], env: Readonly<Record<string, string>>) =>
  runProgram('npm', ['--silent', 'start', '--', '--demo', '--exit', ...args], { env, timeoutMs: 280_000 })

const lastLine = ({ stdout }: Finished) => stdout.trimEnd().split('\n').at(-1)
const folderOf = ({ stdout }: Finished) => /^Muster's demo, in (\S+)/m.exec(stdout)?.[1] ?? ''

/** The lines of commands that show a machine that is made up, and do not say so. */
function silentLines({ stdout }: Finished): string[] {
  const ids = [...stdout.matchAll(/^ {4}(?:\S+ +)?([0-9a-f]{12}) .*simulated/gm)].map(([, id]) => id ?? '')
  expect(new Set(ids).size).toBeGreaterThanOrEqual(5)
  const shown = stdout.split('\n').filter(line => /^ {4}/.test(line) && ids.some(id => line.includes(id)))
  const switched = stdout
    .split('\n')
    .filter(line => /^ {4}.*nixos-system-/.test(line) && !/-here-/.test(line))
  return [...shown, ...switched].filter(line => !/simulated|stand-?in/i.test(line))
}

describe('the demo', { timeout: 300_000 }, () => {
  test('ends well beside another one, with simulated builds where there is no Nix, and says so in every line', async () => {
    await using folder = await temporaryFolder()
    const path = await pathWithout(folder.path, /^nix/)
    const [first, second] = await Promise.all([
      runDemo([], { PATH: path, TMPDIR: folder.path }),
      runDemo(['--keep'], { PATH: path, TMPDIR: folder.path }),
    ])
    for (const demo of [first, second]) {
      expect(lastLine(demo), demo.stdout).toMatch(/^demo: (\d+) of \1 steps$/)
      expect(demo.code).toBe(0)
      expect(demo.stdout).toContain('Builds and switches are simulated')
      expect(silentLines(demo)).toEqual([])
    }
    expect(folderOf(first)).not.toBe(folderOf(second))
    expect(readdirSync(folder.path).filter(name => name.startsWith('muster-demo-'))).toEqual([
      folderOf(second).slice(folder.path.length + 1),
    ])
    await untilGone(folder.path)
  })

  test.skipIf(!hasNix)(
    `builds with real Nix where it is ${hasNix ? '' : 'skipped: the command nix is missing'}`,
    async () => {
      await using folder = await temporaryFolder()
      const demo = await runDemo([], { TMPDIR: folder.path })
      expect(lastLine(demo), demo.stdout).toMatch(/^demo: (\d+) of \1 steps$/)
      expect(demo.code).toBe(0)
      expect(demo.stdout).toContain('The builds are real: nix (Nix)')
      expect(demo.stdout).toMatch(/refused \(not-allowed\).*activation is switched off/)
      expect(silentLines(demo)).toEqual([])
      expect(readdirSync(folder.path)).toEqual([])
    },
  )

  test('ends with 1 at the first step that does not do what it claims, counts none after it, and keeps what is to be looked at', async () => {
    await using folder = await temporaryFolder()
    const path = await pathWithout(folder.path, /^(nix.*|sha256sum)$/)
    const demo = await runDemo([], { PATH: path, TMPDIR: folder.path })
    expect(demo.stdout).toContain('FAILED')
    expect(lastLine(demo)).toMatch(/^demo: 2 of \d\d steps$/)
    expect(demo.code).toBe(1)
    expect(demo.stdout).toContain(`The demo's folder stays: ${folderOf(demo)}`)
    await untilGone(folderOf(demo))
  })

  test('a signal ends it, with all its processes and its folder', async () => {
    await using folder = await temporaryFolder()
    await using demo = new Program('npm', ['--silent', 'start', '--', '--demo'], {
      env: { TMPDIR: folder.path },
    })
    await expect.poll(() => demo.stdout, { timeout: 60_000 }).toContain('[3/')
    await demo.kill('SIGTERM')
    await untilGone(folder.path)
    await expect.poll(() => readdirSync(folder.path)).toEqual([])
  })
})
