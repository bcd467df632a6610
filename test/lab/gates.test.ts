import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { runGate } from '../../agent/gates/run-gate.ts'
import { type ProofResult, watchGates } from '../../agent/gates/watch-gates.ts'
import { createRealSystem } from '../../agent/system/real-system.ts'
import type { System } from '../../agent/system/system.ts'
import type { Gate, GateProbe, Safety } from '../../shared/revision/safety.ts'
import { type Lab, startLab } from './lab.ts'
import type { LabMachine } from './machine.ts'
import { SET_UP_MS, whyNoLab } from './why-not.ts'

/** What systemd and ping really answer: health gates asked in a machine, from outside through its door. */
const why = whyNoLab()
const signal = new AbortController().signal
const nowMs = () => performance.now()
let lab: Lab
let machine: LabMachine

/** The machine's commands behind the door that the agent uses; files are asked for by no gate here. */
function systemOf(of: LabMachine): System {
  return {
    ...createRealSystem({ root: '/', path: '' }),
    run: async (command, args, { deadlineMs }) => {
      const {
        code,
        signal: killed,
        stdout,
        stderr,
      } = await of.exec([command, ...args], { timeoutMs: deadlineMs })
      const ending =
        code === null
          ? ({ kind: 'signalled', signal: killed ?? 'unknown' } as const)
          : ({ kind: 'exited', exitCode: code } as const)
      return { ending, stdout, stdoutBytes: Buffer.from(stdout), stderr, truncated: false }
    },
  }
}

const ask = (probe: GateProbe) =>
  runGate(
    { system: systemOf(machine), treeDir: '/', nowMs },
    { name: 'web', deadlineMs: 3_000, probe },
    signal,
  )
const units = (...names: readonly string[]): GateProbe => ({ kind: 'units', units: names })

const files: Readonly<Record<string, string>> = {
  'good.service': '[Service]\nExecStart=/usr/bin/sleep infinity\n',
  'done.service': '[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/bin/true\n',
  'bad.service': '[Service]\nType=oneshot\nExecStart=/usr/bin/false\n',
  'again.service': '[Service]\nExecStart=/usr/bin/false\nRestart=always\nRestartSec=1h\n',
  'old.service': '[Service]\nType=oneshot\nExecStart=/usr/bin/false\n',
}

beforeAll(async () => {
  if (why !== undefined) return
  lab = await startLab()
  machine = await lab.startMachine('olaf')
  for (const [name, text] of Object.entries(files))
    await machine.writeFile(`/etc/systemd/system/${name}`, text)
  await machine.ok(['systemctl', 'daemon-reload'])
  await machine.ok(['systemctl', 'start', 'good.service', 'done.service', 'again.service'])
  await machine.ok(['systemctl', 'mask', '--quiet', 'masked.service'])
  for (const name of ['bad.service', 'old.service']) await machine.exec(['systemctl', 'start', name])
}, SET_UP_MS)
afterAll(async () => await lab?.[Symbol.asyncDispose]())

describe.skipIf(why !== undefined)(`health gates in a machine ${why ?? ''}`, () => {
  it('find units active that are, and say of each other one how it is', async () => {
    expect(await ask(units('good.service', 'done.service', 'multi-user.target'))).toMatchObject({
      verdict: 'healthy',
    })
    expect(
      await ask(units('good.service', 'bad.service', 'again.service', 'none.service', 'masked.service')),
    ).toMatchObject({
      verdict: 'unhealthy',
      reason:
        'bad.service is failed (failed, result exit-code); again.service is activating (auto-restart, result exit-code); none.service does not exist; masked.service is masked',
    })
  })

  it('reach what answers, and tell silence and a pulled cable from a name that nobody knows', async () => {
    const reach = (...hosts: readonly string[]): GateProbe => ({ kind: 'reach', hosts })
    expect(await ask(reach('10.91.0.1', '127.0.0.1'))).toMatchObject({ verdict: 'healthy' })
    expect(await ask(reach('10.91.0.1', '10.91.0.250'))).toMatchObject({
      verdict: 'unhealthy',
      reason: '10.91.0.250 does not answer',
    })
    expect(await ask(reach('nobody.home.invalid'))).toMatchObject({ verdict: 'unavailable' })
    await machine.cutNetwork()
    expect(await ask(reach('10.91.0.1'))).toMatchObject({ verdict: 'unhealthy' })
    await machine.healNetwork()
  })

  it('blame a unit that fails after the activation, and not the one that had failed before', async () => {
    const failedUnits = async () => new Set(await machine.failedUnits())
    const failedBefore = await failedUnits()
    expect([...failedBefore]).toContain('old.service')
    await machine.writeFile('/etc/systemd/system/new.service', files['bad.service'] ?? '')
    await machine.ok(['systemctl', 'daemon-reload'])
    const gate: Gate = { name: 'web', deadlineMs: 3_000, probe: units('good.service') }
    const proof = (toleratedUnits: readonly string[]): Promise<ProofResult> => {
      const safety: Safety = {
        soakMs: 500,
        confirmWithinMs: 60_000,
        confirmLocally: false,
        reboot: 'never',
        trial: 'auto',
        toleratedUnits,
        gates: [gate],
      }
      const now = nowMs()
      return watchGates(
        { system: systemOf(machine), failedUnits, nowMs, say: () => {}, unwell: () => {} },
        { safety, treeDir: '/', activatedAtMs: now, deadlineMs: now + 30_000, failedBefore },
        signal,
      )
    }
    expect(await proof([])).toEqual({ kind: 'proved', degraded: [] })
    await machine.exec(['systemctl', 'start', 'new.service'])
    expect(await proof([])).toMatchObject({
      kind: 'unhealthy',
      reason: expect.stringContaining('failed since the activation: new.service'),
    })
    expect(await proof(['new.service'])).toEqual({ kind: 'proved', degraded: ['new.service'] })
  })
})
