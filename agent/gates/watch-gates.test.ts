import { getEventListeners } from 'node:events'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { freePort } from '../../scripts/start/ports.ts'
import type { Gate, Safety } from '../../shared/revision/safety.ts'
import { createRealSystem } from '../system/real-system.ts'
import type { GateAnswer } from './gate-answer.ts'
import { type WatchGatesInput, watchGates } from './watch-gates.ts'

// Real servers and real scripts; the failed units are what the test says.

const nowMs = () => performance.now()
const safety = (change: Partial<Safety> = {}): Safety => ({
  soakMs: 0,
  confirmWithinMs: 60_000,
  confirmLocally: false,
  reboot: 'never',
  trial: 'auto',
  toleratedUnits: [],
  gates: [],
  ...change,
})

function machine(failing: () => ReadonlySet<string> | undefined = () => new Set()) {
  const treeDir = mkdtempSync(join(tmpdir(), 'muster-watch-'))
  onTestFinished(() => rmSync(treeDir, { recursive: true, force: true }))
  const lines: string[] = []
  const unwell: string[] = []
  const deps = {
    system: createRealSystem({ root: '/', path: '/usr/bin:/bin' }),
    failedUnits: async () => failing(),
    nowMs,
    say: (line: string) => void lines.push(line),
    unwell: ({ gate, output }: GateAnswer) => void unwell.push(`${gate}: ${output}`),
  }
  const script = (name: string, text: string): Gate => {
    mkdirSync(join(treeDir, 'checks'), { recursive: true })
    writeFileSync(join(treeDir, 'checks', name), text)
    chmodSync(join(treeDir, 'checks', name), 0o755)
    return { name, deadlineMs: 5_000, probe: { kind: 'script', path: `checks/${name}`, arguments: [] } }
  }
  const watch = (
    change: Partial<WatchGatesInput> & { readonly lastsMs?: number },
    signal = new AbortController().signal,
  ) => {
    const { lastsMs = 30_000, ...input } = change
    const now = nowMs()
    return watchGates(
      deps,
      {
        safety: safety(),
        treeDir,
        activatedAtMs: now,
        deadlineMs: now + lastsMs,
        failedBefore: new Set(),
        ...input,
      },
      signal,
    )
  }
  return { treeDir, lines, unwell, script, watch }
}

describe('watchGates', () => {
  it('proves a change once its gates have held for the soak time, and says what it saw once', async () => {
    const { lines, script, watch } = machine()
    const gates = [script('own', '#!/bin/sh\nexit 0\n')]
    const started = nowMs()
    expect(await watch({ safety: safety({ soakMs: 1_500, gates }) })).toEqual({
      kind: 'proved',
      degraded: [],
    })
    expect(nowMs() - started).toBeGreaterThan(1_500)
    expect(lines.filter(line => line.startsWith('gate own: healthy'))).toHaveLength(1)
  })

  it('watches as many gates as a fleet file may have without a warning, and leaves no listener behind', async () => {
    const warnings: Error[] = []
    const onWarning = (warning: Error) => void warnings.push(warning)
    process.on('warning', onWarning)
    onTestFinished(() => void process.off('warning', onWarning))
    const { script, watch } = machine()
    const gates = Array.from({ length: 24 }, (_, at) => script(`own-${at}`, '#!/bin/sh\nexit 0\n'))
    const { signal } = new AbortController()
    expect(await watch({ safety: safety({ gates }) }, signal)).toMatchObject({ kind: 'proved' })
    expect(getEventListeners(signal, 'abort')).toEqual([])
    expect(warnings).toEqual([])
  })

  it('waits for a service that starts late', async () => {
    const { lines, watch } = machine()
    const server = createServer(socket => socket.end())
    const port = await freePort('127.0.0.1')
    const timer = setTimeout(() => server.listen(port, '127.0.0.1'), 2_500)
    onTestFinished(() => {
      clearTimeout(timer)
      server.close()
    })
    const gate: Gate = { name: 'late', deadlineMs: 1_000, probe: { kind: 'tcp', host: '127.0.0.1', port } }
    expect(await watch({ safety: safety({ gates: [gate] }) })).toMatchObject({ kind: 'proved' })
    expect(lines.some(line => line.startsWith('gate late: unhealthy'))).toBe(true)
    expect(lines.at(-1)).toBe(`gate late: healthy: 127.0.0.1:${port} takes connections`)
  })

  it('gives up soon on a gate that held and fell, and keeps what it printed', async () => {
    const { treeDir, lines, unwell, script, watch } = machine()
    const gates = [
      script(
        'own',
        `#!/bin/sh\nif [ -e ${treeDir}/fell ]; then echo it fell; exit 3; fi\ntouch ${treeDir}/fell\n`,
      ),
    ]
    const started = nowMs()
    expect(await watch({ safety: safety({ soakMs: 20_000, gates }) })).toEqual({
      kind: 'unhealthy',
      gate: 'own',
      reason: 'checks/own: exit code 3 (3 times in a row)',
    })
    expect(nowMs() - started).toBeLessThan(15_000)
    expect(lines).toContain('  it fell')
    expect(unwell).toEqual(['own: it fell\n'])
  })

  it('T67: what could not be asked until the time is over is neither proof nor illness', async () => {
    const { watch, script } = machine()
    const gates = [script('own', '#!/bin/sh\nexit 75\n')]
    expect(await watch({ safety: safety({ gates }), lastsMs: 1_500 })).toEqual({
      kind: 'not-proved',
      reason: 'gate own: could not be asked: checks/own could not ask (exit code 75)',
    })
  })

  it('blames a unit that failed since, and neither an old broken one nor a tolerated one', async () => {
    const blamed = machine(() => new Set(['old.service', 'web.service']))
    expect(await blamed.watch({ failedBefore: new Set(['old.service']) })).toEqual({
      kind: 'unhealthy',
      gate: 'failed units',
      reason: 'failed since the activation: web.service (3 times in a row)',
    })
    const tolerated = machine(() => new Set(['old.service', 'backup.service']))
    const outcome = tolerated.watch({
      failedBefore: new Set(['old.service']),
      safety: safety({ toleratedUnits: ['backup.service'] }),
    })
    expect(await outcome).toEqual({ kind: 'proved', degraded: ['backup.service'] })
  })

  it('proves nothing where the failed units cannot be asked for', async () => {
    const { watch } = machine(() => undefined)
    expect(await watch({ lastsMs: 1_000 })).toMatchObject({
      kind: 'not-proved',
      reason: 'gate failed units: could not be asked: systemd could not be asked',
    })
  })

  it('N30: ends without proof when its time is over before anything answered', async () => {
    const { watch } = machine()
    expect(await watch({ lastsMs: 0 })).toMatchObject({ kind: 'not-proved' })
  })

  it('stops with its signal, and takes what runs with it', async () => {
    const { script, watch } = machine()
    const stop = new AbortController()
    const started = nowMs()
    setTimeout(() => stop.abort(), 500)
    const gates = [{ ...script('own', '#!/bin/sh\nsleep 300\n'), deadlineMs: 300_000 }]
    expect(await watch({ safety: safety({ gates }) }, stop.signal)).toEqual({ kind: 'stopped' })
    expect(nowMs() - started).toBeLessThan(10_000)
  })
})
