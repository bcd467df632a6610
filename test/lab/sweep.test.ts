import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { checkout } from '../support/program.ts'
import { sweepLabs } from './lab.ts'
import { identityOf, isRunning } from './process-identity.ts'
import { ensureLabRoot } from './root.ts'
import { SET_UP_MS, whyNoLab } from './why-not.ts'

const why = whyNoLab()

describe.skipIf(why !== undefined)(`labs whose process was killed ${why ?? ''}`, () => {
  it(
    'end with it, and leave nothing once the next lab begins',
    async () => {
      await ensureLabRoot()
      const script = join(tmpdir(), `ml-sweep-${process.pid}.mts`)
      await writeFile(
        script,
        `import { startLab } from ${JSON.stringify(join(checkout, 'test/lab/lab.ts'))}
         const lab = await startLab()
         const machine = await lab.startMachine('olaf')
         console.log(JSON.stringify({ dir: lab.dir, leader: machine.enter()[2] }))
         await new Promise(resolve => setTimeout(resolve, 60_000))`,
      )
      const child = spawn(process.execPath, ['--import', 'tsx', script], {
        cwd: checkout,
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      try {
        const [line] = await once(child.stdout, 'data')
        const { dir, leader }: { dir: string; leader: string } = JSON.parse(String(line))
        const machine = identityOf(Number(leader))
        expect(machine && isRunning(machine)).toBe(true)
        await sweepLabs()
        expect(existsSync(dir)).toBe(true) // its owner lives

        child.kill('SIGKILL')
        await once(child, 'exit')
        await expect.poll(() => machine && isRunning(machine)).toBe(false)
        await sweepLabs()
        expect(existsSync(dir)).toBe(false)
        expect(existsSync(`/run/netns/${basename(dir)}`)).toBe(false)
        expect(existsSync(`/sys/fs/cgroup/systemd/${basename(dir)}-olaf`)).toBe(false)
      } finally {
        child.kill('SIGKILL')
        await rm(script, { force: true })
      }
    },
    SET_UP_MS,
  )
})
