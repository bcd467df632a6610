import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { checkout, runProgram } from '../../support/program.ts'
import { SET_UP_MS, whyNoLab } from '../why-not.ts'

const why = whyNoLab()
let folder = ''

/** `npm run lab -- …`, beside a lab that somebody may play with on this machine. */
const lab = (...args: readonly string[]) =>
  runProgram(process.execPath, [join(checkout, 'scripts/lab.mjs'), ...args], {
    env: { TMPDIR: folder },
    timeoutMs: SET_UP_MS,
  })

beforeAll(async () => {
  if (why === undefined) folder = await mkdtemp(join(tmpdir(), 'mlp-'))
})
afterAll(async () => {
  if (folder === '') return
  await lab('down')
  await rm(folder, { recursive: true, force: true })
})

describe.skipIf(why !== undefined)(`npm run lab ${why ?? ''}`, () => {
  it('says what it can do, and that no lab is up', async () => {
    expect((await lab('help')).stdout).toContain('pull its network cable')
    expect((await lab('fly')).code).toBe(64)
    const { code, stderr } = await lab('list')
    expect(code).toBe(1)
    expect(stderr).toContain('no lab is up: npm run lab -- up 3')
  })

  it(
    'starts a fleet that a person can enter, cut, change and take down',
    async () => {
      const up = await lab('up', '1')
      expect(`${up.code} ${up.stderr}`).toBe('0 ')
      expect(up.stdout).toMatch(/^olaf +10\.91\.0\.10 +online +\/nix\/store\/\S+-nixos-system-olaf-/m)
      expect((await lab('up', '1')).stderr).toContain('a lab is up already')
      expect((await lab('shell', 'olaf', 'hostname')).stdout).toBe('olaf\n')
      expect((await lab('cut', 'olof')).stderr).toContain('no machine olof')

      const directory = /fleet directory +(\S+)/.exec(up.stdout)?.[1] ?? ''
      const hosts = JSON.parse(await readFile(join(directory, 'hosts.json'), 'utf8'))
      hosts.olaf.etc = { changed: 'by hand\n' }
      await writeFile(join(directory, 'hosts.json'), JSON.stringify(hosts))
      const published = await lab('muster', 'publish', directory)
      expect(`${published.code} ${published.stdout}`).toContain('0 revision 2 is published')
      expect((await lab('muster', 'apply', 'olaf')).code).toBe(0)
      expect((await lab('shell', 'olaf', 'cat', '/etc/changed')).stdout).toBe('by hand\n')

      expect((await lab('cut', 'olaf')).code).toBe(0)
      expect((await lab('shell', 'olaf', 'ping', '-c', '1', '-W', '1', '10.91.0.1')).code).toBe(1)
      expect((await lab('heal', 'olaf')).code).toBe(0)
      expect((await lab('power-cut', 'olaf')).code).toBe(0)
      expect((await lab('shell', 'olaf')).stderr).toContain('olaf is off')
      expect((await lab('boot', 'olaf')).code).toBe(0)

      expect((await lab('down')).stdout).toBe('the lab is down\n')
      expect((await lab('list')).stderr).toContain('no lab is up')
    },
    SET_UP_MS,
  )
})
