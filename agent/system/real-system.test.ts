import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createRealSystem } from './real-system.ts'
import { describeEnding, type OutputLine, type RunningCommand, succeeded } from './system.ts'

const system = createRealSystem({ root: '/', path: '/usr/bin:/bin:/usr/sbin:/sbin' })
const node = process.execPath
let folder: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'muster-system-'))
})
afterAll(() => rm(folder, { recursive: true }))

async function collect(running: RunningCommand): Promise<OutputLine[]> {
  const lines: OutputLine[] = []
  for await (const line of running.lines) lines.push(line)
  return lines
}

/** Whether a process runs. One that is dead but not collected by its parent does not. */
async function isAlive(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  return stat !== '' && !/\) Z /.test(stat)
}
const pidIn = async (name: string) => Number(await readFile(join(folder, name), 'utf8').catch(() => '0'))

describe('run', () => {
  test('hands out both outputs and the exit code, with the C locale and no shell', async () => {
    const script =
      'process.stdout.write(process.argv[1] + process.env.LC_ALL); process.stderr.write("e"); process.exitCode = 4'
    const result = await system.run(node, ['-e', script, '$(id) `id` ;'], { deadlineMs: 20_000 })
    expect(result).toMatchObject({
      ending: { kind: 'exited', exitCode: 4 },
      stdout: '$(id) `id` ;C',
      stderr: 'e',
      truncated: false,
    })
    expect(succeeded(result.ending)).toBe(false)
  })

  test('a missing tool is a value that names the tool', async () => {
    const { ending } = await system.run('no-such-tool-here', [], { deadlineMs: 1_000 })
    expect(ending).toEqual({ kind: 'not-found', command: 'no-such-tool-here' })
    expect(describeEnding('x', ending)).toBe('no-such-tool-here: not found')
  })

  test('a missing working folder is no missing tool', async () => {
    const { ending } = await system.run('true', [], { deadlineMs: 1_000, cwd: join(folder, 'absent') })
    expect(ending.kind).toBe('not-started')
  })

  test('a script whose interpreter is missing was not started, and did not fail', async () => {
    const script = join(folder, 'script')
    await writeFile(script, '#!/absent/interpreter\n', { mode: 0o755 })
    expect((await system.run(script, [], { deadlineMs: 5_000 })).ending.kind).toBe('not-started')
  })

  test('what is fed to it arrives whole', async () => {
    const input = 'ä'.repeat(200_000)
    const result = await system.run('cat', [], { deadlineMs: 20_000, input })
    expect(result.stdout).toBe(input)
  })

  test('output beyond the bound loses its middle and says so, and the command still ends', async () => {
    const script = 'process.stdout.write("a".repeat(3e6) + "the end")'
    const result = await system.run(node, ['-e', script], { deadlineMs: 20_000, maxOutputBytes: 1_000 })
    expect(result.ending).toEqual({ kind: 'exited', exitCode: 0 })
    expect(result.truncated).toBe(true)
    expect(result.stdout.length).toBeLessThan(1_100)
    expect(result.stdout).toMatch(/^a+\n\[2999007 bytes left out\]\na+the end$/)
  })

  test('the deadline ends a command that ignores SIGTERM', async () => {
    const script = 'process.on("SIGTERM", () => {}); setInterval(() => {}, 1000)'
    const result = await system.run(node, ['-e', script], { deadlineMs: 500 })
    expect(result.ending).toEqual({ kind: 'timed-out', deadlineMs: 500 })
  })

  test('a grandchild that keeps the pipe does not keep the caller', async () => {
    const result = await system.run('sh', ['-c', 'echo said; setsid sleep 300 & exit 0'], {
      deadlineMs: 60_000,
    })
    expect(result).toMatchObject({
      ending: { kind: 'exited', exitCode: 0 },
      stdout: 'said\n',
      truncated: true,
    })
  })

  test('a signal that has fired already starts nothing', async () => {
    const result = await system.run('touch', [join(folder, 'touched')], {
      deadlineMs: 1_000,
      signal: AbortSignal.abort(),
    })
    expect(result.ending).toEqual({ kind: 'cancelled' })
    expect(await system.exists(join(folder, 'touched'))).toEqual({ kind: 'missing' })
  })
})

describe('process groups', () => {
  test('T31: cancel ends the command with all its children, and not ourselves', async () => {
    const controller = new AbortController()
    const script = `sleep 300 & echo $! > ${folder}/inner; echo $$ > ${folder}/outer; wait`
    const running = system.run('sh', ['-c', script], { deadlineMs: 60_000, signal: controller.signal })
    await expect.poll(() => pidIn('outer')).toBeGreaterThan(0)
    const inner = await pidIn('inner')
    expect(await isAlive(inner)).toBe(true)
    controller.abort()
    expect((await running).ending).toEqual({ kind: 'cancelled' })
    await expect.poll(() => isAlive(inner)).toBe(false)
    expect(await isAlive(await pidIn('outer'))).toBe(false)
  })

  test('T31: leaving the loop over the lines cancels the command', async () => {
    const running = system.stream('sh', ['-c', 'while :; do echo line; done'], { deadlineMs: 60_000 })
    for await (const line of running.lines) {
      expect(line.text).toBe('line')
      break
    }
    expect((await running.result).ending).toEqual({ kind: 'cancelled' })
  })

  test('T68: a command dies with the process that started it, where setpriv can ask for it', async () => {
    const parent = join(folder, 'parent.mts')
    const source = new URL('./real-system.ts', import.meta.url).pathname
    await writeFile(
      parent,
      `import { createRealSystem } from ${JSON.stringify(source)}
       const system = createRealSystem({ root: '/', path: '/usr/bin:/bin' })
       await system.run('sh', ['-c', 'echo $$ > ${folder}/orphan; exec sleep 300'], { deadlineMs: 60000 })`,
    )
    const controller = new AbortController()
    const running = createRealSystem({ root: '/', path: '/usr/bin:/bin' }).run(
      node,
      ['--import', 'tsx', parent],
      {
        deadlineMs: 60_000,
        signal: controller.signal,
        cwd: new URL('../..', import.meta.url).pathname,
      },
    )
    await expect.poll(() => pidIn('orphan'), { timeout: 20_000 }).toBeGreaterThan(0)
    controller.abort()
    await running
    const orphan = await pidIn('orphan')
    await expect.poll(() => isAlive(orphan)).toBe(false)
  })
})

describe('stream', () => {
  test('T32: the last line without a line break and both outputs arrive before the result', async () => {
    const script =
      'for (let i = 0; i < 5000; i++) { console.log("o" + i); console.error("e" + i) } process.stdout.write("last")'
    const running = system.stream(node, ['-e', script], { deadlineMs: 30_000 })
    const lines = await collect(running)
    const of = (source: string) => lines.filter(line => line.source === source).map(line => line.text)
    expect(of('stdout')).toEqual([...Array.from({ length: 5000 }, (_, i) => `o${i}`), 'last'])
    expect(of('stderr')).toEqual(Array.from({ length: 5000 }, (_, i) => `e${i}`))
    expect(await running.result).toEqual({ ending: { kind: 'exited', exitCode: 0 }, truncated: false })
  })

  test('T32: a line of 1 MiB is cut at 4 KiB, says so, and the next line is whole', async () => {
    const script = 'process.stdout.write("ä".repeat(524288) + "\\nnext\\n")'
    const [long, next, ...rest] = await collect(system.stream(node, ['-e', script], { deadlineMs: 30_000 }))
    expect(long).toMatchObject({ cut: true })
    expect(Buffer.byteLength(long?.text ?? '')).toBeLessThanOrEqual(4096)
    expect(long?.text).toMatch(/^ä+ \[cut: \d+ bytes more\]$/)
    expect(next).toEqual({ source: 'stdout', text: 'next', cut: false })
    expect(rest).toEqual([])
  })

  test('T32: a slow reader gets every line, and the command waits for it instead of filling the memory', async () => {
    const script = 'for (let i = 0; i < 40000; i++) console.log(String(i).padEnd(60, "x"))'
    const running = system.stream(node, ['-e', script], { deadlineMs: 60_000 })
    let count = 0
    for await (const line of running.lines) {
      expect(Number.parseInt(line.text, 10)).toBe(count)
      count += 1
      if (count % 100 === 0) await new Promise(resolve => setImmediate(resolve))
    }
    expect(count).toBe(40_000)
    expect(await running.result).toEqual({ ending: { kind: 'exited', exitCode: 0 }, truncated: false })
  })

  test('the deadline ends a command that nobody reads', async () => {
    const running = system.stream('sh', ['-c', 'while :; do echo line; done'], { deadlineMs: 400 })
    expect((await running.result).ending).toEqual({ kind: 'timed-out', deadlineMs: 400 })
  })

  test('a tool that is missing ends the stream without lines', async () => {
    const running = system.stream('no-such-tool-here', [], { deadlineMs: 1_000 })
    expect(await collect(running)).toEqual([])
    expect((await running.result).ending).toEqual({ kind: 'not-found', command: 'no-such-tool-here' })
  })
})
