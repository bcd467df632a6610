import { expect, it } from 'vitest'
import { watchGates } from '../gates/watch-gates.ts'
import { ScriptedSystem } from '../operation/testing/scripted-system.ts'
import { systemdUnits } from './systemd-units.ts'

/** A machine whose systemd shows these services between two deaths. */
function machineOf(...dying: readonly string[]) {
  const system = new ScriptedSystem()
  system.scripts.set('systemctl', args => ({
    stdout: args.includes('list-units')
      ? dying.map(name => `${name} loaded activating auto-restart It dies`)
      : dying.flatMap(name => [`Id=${name}`, 'ExecMainStatus=1', '']),
  }))
  return { system, units: systemdUnits(system) }
}

async function proof(before: readonly string[], after: readonly string[]) {
  const { system, units } = machineOf(...after)
  const failedBefore = await machineOf(...before).units.failed()
  if (failedBefore === undefined) throw new Error('systemd answered nothing')
  const nowMs = () => performance.now()
  return await watchGates(
    { system, failedUnits: () => units.failed(), nowMs, say: () => {}, unwell: () => {} },
    {
      safety: {
        soakMs: 0,
        confirmWithinMs: 60_000,
        confirmLocally: false,
        reboot: 'never',
        trial: 'auto',
        toleratedUnits: [],
        gates: [],
      },
      treeDir: '',
      failedBefore,
      activatedAtMs: nowMs(),
      deadlineMs: nowMs() + 500,
    },
    new AbortController().signal,
  )
}

it('S2, A4: a service that dies again and again since the change speaks against it; one that did before does not', async () => {
  expect(await proof([], ['dies.service'])).toEqual({
    kind: 'unhealthy',
    gate: 'failed units',
    reason: 'failed since the activation: dies.service',
  })
  expect(await proof(['dies.service'], ['dies.service'])).toEqual({ kind: 'proved', degraded: [] })
})
