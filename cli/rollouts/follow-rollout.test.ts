import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { exitCodes } from '../exit-codes.ts'
import { runMuster } from '../testing/run-muster.ts'
import { type SmallCoordinator, startSmallCoordinator } from '../testing/small-coordinator.ts'
import { sampleRollout } from '../testing/small-rollouts.ts'
import { Terminal } from '../testing/terminal.ts'

const HOSTS = Array.from({ length: 50 }, (_, index) => `node${String(index + 1).padStart(2, '0')}`)

let coordinator: SmallCoordinator
beforeEach(async () => {
  coordinator = await startSmallCoordinator()
  coordinator.rollouts.rollouts.push(sampleRollout(HOSTS))
})
afterEach(async () => {
  await coordinator[Symbol.asyncDispose]()
})

const watch = (words: readonly string[], options: Parameters<typeof runMuster>[1] = {}) =>
  runMuster(['rollout', 'watch', ...words], {
    ...options,
    settings: { socket: coordinator.socket, noColour: true },
  })

/** Watches on a terminal that is given these sizes one after the other, and looks at every picture. */
async function watchOn(
  terminal: Terminal,
  look: (lines: readonly string[]) => void,
  sizes: readonly { readonly columns: number; readonly rows: number }[] = [],
) {
  let [pictures, resized] = [0, 0]
  let changed = () => {}
  return await watch([], {
    terminal: true,
    screen: () => terminal,
    onResize: listener => {
      changed = listener
    },
    onErr: text => {
      terminal.write(text)
      if (!terminal.isOnSecond) return
      look(terminal.lines)
      pictures += 1
      const size = sizes[resized]
      if (pictures % 20 !== 0 || !size) return
      resized += 1
      terminal.resize(size)
      changed()
    },
  })
}

const headings = (lines: readonly string[]) => lines.filter(line => line.startsWith('rollout 0k3xq2v1a'))

describe('rollout watch on a terminal', () => {
  it.each([
    [80, 24],
    [120, 50],
    [200, 60],
  ])('shows one picture with all hosts on %i columns and %i rows', async (columns, rows) => {
    const terminal = new Terminal({ columns, rows })
    terminal.write('$ muster rollout watch\n')
    let pictures = 0
    const { code } = await watchOn(terminal, lines => {
      pictures += 1
      expect(headings(lines)).toEqual([lines[0]])
      for (const host of HOSTS) expect(lines.join('\n')).toContain(host)
    })
    expect(code).toBe(0)
    expect(pictures).toBeGreaterThan(50)
    // What was there before is there again, with the last picture below it.
    expect(terminal.isOnSecond).toBe(false)
    const whole = [...terminal.scrolled, ...terminal.lines]
    expect(whole[0]).toBe('$ muster rollout watch')
    expect(headings(whole)).toEqual([expect.stringMatching(/succeeded$/)])
    expect(whole.join('\n')).toContain('50 done')
  })

  it('follows the window when it becomes smaller and larger, and leaves no copy', async () => {
    const terminal = new Terminal({ columns: 120, rows: 50 })
    const sizes = [
      ...[
        { columns: 80, rows: 24 },
        { columns: 60, rows: 14 },
      ],
      ...[
        { columns: 200, rows: 60 },
        { columns: 100, rows: 30 },
      ],
    ]
    const seen = new Set<string>()
    await watchOn(
      terminal,
      lines => {
        expect(headings(lines)).toEqual([lines[0]])
        seen.add(`${terminal.columns}x${terminal.rows}`)
      },
      sizes,
    )
    expect([...seen]).toEqual(['120x50', '80x24', '60x14', '200x60', '100x30'])
    expect(headings([...terminal.scrolled, ...terminal.lines])).toHaveLength(1)
  })

  it('gives the terminal back when it is stopped', async () => {
    const terminal = new Terminal({ columns: 80, rows: 24 })
    const stop = new AbortController()
    const { code, err } = await watch([], {
      terminal: true,
      screen: () => terminal,
      signal: stop.signal,
      onErr: text => {
        terminal.write(text)
        stop.abort()
      },
    })
    expect(code).toBe(exitCodes.interrupted.code)
    expect(err).toMatch(/stopped watching: rollout \S+ goes on/)
    expect(terminal.isOnSecond).toBe(false)
  })
})

describe('rollout watch elsewhere', () => {
  it('tells each change on a line of its own, on standard output', async () => {
    const { out, err } = await watch([])
    expect(out).toContain('node07: drain\nnode07: done\nnode08: drain\n')
    expect(out).not.toContain('\u001b')
    expect(err).toBe('')
  })

  it('does so into a file or a pipe also where errors go to a terminal', async () => {
    const { out, err } = await watch([], { errTerminal: true })
    expect(out).toContain('node07: drain\nnode07: done\nnode08: drain\n')
    expect(err).toBe('')
  })

  it('is JSON lines with -o json: the rollout whole, then with the hosts that changed', async () => {
    coordinator.rollouts.failures.set('node03', 'its node is not Ready')
    const { code, out, err } = await watch(['-o', 'json'], { terminal: true })
    const lines: { hosts: { host: string; state: string }[]; state: string; halted: string }[] = out
      .trimEnd()
      .split('\n')
      .map(line => JSON.parse(line))
    expect(lines[0]).toMatchObject({ id: expect.any(String), state: 'running', halted: '' })
    expect(lines[0]?.hosts.map(({ host }) => host)).toEqual(HOSTS)
    expect(lines.slice(1, 3).map(({ hosts }) => hosts)).toMatchObject([
      [{ host: 'node01', state: 'moving', step: 'drain' }],
      [{ host: 'node01', state: 'done' }],
    ])
    expect(lines.at(-1)).toMatchObject({ state: 'failed', counts: { done: 2, failed: 1 } })
    expect(lines.at(-1)?.hosts[2]).toMatchObject({ state: 'failed', reason: 'its node is not Ready' })
    expect(err).not.toContain('\u001b')
    expect(code).toBe(exitCodes.partial.code)
  })
})
