import { existsSync } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { expect, test, vi } from 'vitest'
import { freePort } from '../support/free-port.ts'
import { checkout, runProgram } from '../support/program.ts'
import { temporaryFolder } from './places.ts'
import { processesOf, RunningStart, untilGone } from './running-start.ts'

// Each starts whole programs, some of them twice.
vi.setConfig({ testTimeout: 180_000 })

const ports = async () => {
  const [enrolment, fleet] = [await freePort(), await freePort()]
  return ['--enrolment-port', String(enrolment), '--fleet-port', String(fleet)]
}

test('npm start enrols this machine and says where to look; what it says to type works; a second one says so', async () => {
  await using folder = await temporaryFolder()
  const state = join(folder.path, 'state')
  const args = await ports()
  await using start = await new RunningStart(state, args).up()
  const { stdout } = start.program
  expect(stdout).toContain(`127.0.0.1:${args[1]}`)
  expect(stdout).toContain(`127.0.0.1:${args[3]}`)
  expect(stdout).toMatch(new RegExp(`State +${state}\n`))
  expect(stdout).toMatch(/CA pin +[0-9a-f]{64}\n/)
  expect(stdout).toContain((await start.machine()).slice(0, 12))

  // The very lines, in a shell whose home is a folder of the test.
  expect(start.commands.length).toBeGreaterThan(5)
  const typed = await runProgram('sh', ['-euxc', start.commands.join('\n')], {
    cwd: '/',
    env: { HOME: folder.path, MUSTER_CONFIG_HOME: '', XDG_CONFIG_HOME: '' },
  })
  expect(typed, typed.stderr).toMatchObject({ code: 0 })
  expect(typed.stdout).toMatch(/Machines +1 active; 1 online/)
  expect(existsSync(join(folder.path, 'fleet/fleet.toml'))).toBe(true)

  const agent: unknown = JSON.parse(await readFile(join(state, 'agent/agent.json'), 'utf8'))
  expect(agent).toMatchObject({ activation: 'never' })
  expect((await stat(state)).mode & 0o077).toBe(0)

  const second = await runProgram('npm', ['--silent', 'start', '--', '--state', state])
  expect(second).toMatchObject({ code: 0, stderr: '' })
  expect(second.stdout).toContain(`runs here already (process ${start.pid}); nothing was started`)
  expect(second.stdout).toContain(`export MUSTER_SOCKET=${state}/coordinator.sock`)
  expect(start.program.running).toBe(true)
})

test('SIGTERM ends all of it and leaves neither process, socket nor token; the next start is the same machine', async () => {
  await using folder = await temporaryFolder()
  const args = await ports()
  let machine = ''
  for (const _ of ['first', 'again']) {
    await using start = await new RunningStart(folder.path, args).up()
    machine ||= await start.machine()
    expect(await start.machine()).toBe(machine)
    process.kill(start.pid, 'SIGTERM')
    expect(await start.program.finished).toMatchObject({ code: 0 })
    expect(await processesOf(folder.path)).toEqual([])
    for (const name of ['coordinator.sock', 'agent.sock', 'running.json', 'agent/token']) {
      expect(existsSync(join(folder.path, name)), name).toBe(false)
    }
  }
})

test('a signal to npm, which does not wait, ends all of it, too', async () => {
  await using folder = await temporaryFolder()
  await using start = await new RunningStart(folder.path, await ports()).up()
  await start.program.kill('SIGTERM')
  await untilGone(folder.path)
  expect(existsSync(join(folder.path, 'coordinator.sock'))).toBe(false)
})

test('kill -9 takes the children along, and the next start finds nothing in its way', async () => {
  await using folder = await temporaryFolder()
  const args = await ports()
  let machine = ''
  {
    await using start = await new RunningStart(folder.path, args).up()
    machine = await start.machine()
    process.kill(start.pid, 'SIGKILL')
    await start.program.finished
  }
  await using next = await new RunningStart(folder.path, args).up()
  expect(await next.machine()).toBe(machine)
})

test('a port that was asked for and is taken is an error with its cure; one that was used before is replaced aloud', async () => {
  await using folder = await temporaryFolder()
  const args = await ports()
  let machine = ''
  {
    await using start = await new RunningStart(folder.path, args).up()
    machine = await start.machine()
  }
  const servers = [args[1], args[3]].map(port =>
    createServer(socket => socket.destroy()).listen(Number(port), '127.0.0.1'),
  )
  try {
    const refused = await runProgram('npm', ['--silent', 'start', '--', '--state', folder.path, ...args])
    expect(refused.code).toBe(1)
    expect(refused.stderr).toMatch(
      /^npm start: --enrolment-port \d+: is taken .* such as --enrolment-port \d+$/m,
    )
    await using start = await new RunningStart(folder.path).up()
    expect(start.program.stdout).toMatch(
      new RegExp(`Port ${args[1]} is taken by another program, so \\d+ is used`),
    )
    expect(start.program.stdout).toMatch(
      new RegExp(`Port ${args[3]} is taken by another program, so \\d+ is used`),
    )
    // The machine finds the coordinator at its new ports.
    expect(await start.machine()).toBe(machine)
  } finally {
    for (const server of servers) server.close()
  }
})

test('a folder whose sockets would have names too long is refused before anything is written', async () => {
  await using folder = await temporaryFolder()
  const state = join(folder.path, 'x'.repeat(100))
  const { code, stderr } = await runProgram('node', ['scripts/start.mjs', '--state', state], {
    cwd: checkout,
  })
  expect({ code, stderr }).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('choose a shorter folder'),
  })
  expect(existsSync(state)).toBe(false)
})

test.runIf(process.platform === 'linux')(
  'a place where no folder can be made is refused, and nothing hangs',
  async () => {
    for (const state of ['/proc/muster', '/proc/muster/state', '/proc', '/dev/null/state']) {
      const { code, stderr } = await runProgram('node', ['scripts/start.mjs', '--state', state], {
        cwd: checkout,
      })
      expect({ code, stderr }).toMatchObject({
        code: 1,
        stderr: expect.stringContaining(`--state ${state}: `),
      })
    }
  },
  60_000,
)

test('an option that does not exist is named, with exit code 2', async () => {
  const { code, stderr } = await runProgram('node', ['scripts/start.mjs', '--port', '5'], { cwd: checkout })
  expect({ code, stderr }).toMatchObject({ code: 2, stderr: expect.stringContaining('--port') })
})
