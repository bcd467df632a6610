import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { OutcomeClass, Phase } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { type LabFleet, startLabFleet } from '../lab-fleet.ts'
import { service } from '../toplevel/switching.ts'
import { SET_UP_MS, whyNoLab } from '../why-not.ts'
import { allAt, atRest, CHANGING_PHASES, inWords, journalOf, killAgent, untilPhase } from './safe-fleet.ts'

const why = whyNoLab()
let fleet: LabFleet

beforeAll(async () => {
  if (why !== undefined) return
  fleet = await startLabFleet({ machines: ['olaf', 'nils'] })
}, SET_UP_MS)
afterAll(async () => await fleet?.[Symbol.asyncDispose]())

/** A change that takes long enough in each phase to be met in it. */
const change = (word: string) => ({
  units: { 'met.service': service(word) },
  activationScript: 'sleep 1',
})

describe.skipIf(why !== undefined)(`an operation ${why ?? ''}`, () => {
  it.each(CHANGING_PHASES)(
    'whose agent is killed with -9 in %s goes on where it was, once (T21, N3, N12)',
    async (name, phase) => {
      const olaf = fleet.machine('olaf')
      await fleet.publish({ olaf: change(`killed in ${name}`) })
      const id = await fleet.apply('olaf')
      await untilPhase(olaf, id, phase)
      await killAgent(olaf)
      const outcome = await fleet.waitOutcome(id)
      expect(inWords(outcome)).toBe('succeeded')
      await atRest(fleet, 'olaf')
      expect(await olaf.state()).toMatchObject(allAt(await fleet.systemOf('olaf')))
      const lines = (await journalOf(olaf)).filter(line => line.op === id)
      expect(lines.filter(line => line.kind === 'outcome')).toHaveLength(1)
      expect(lines.filter(line => line.kind === 'armed')).toHaveLength(1)
    },
  )

  it('whose agent is stopped by systemd in the middle of the switch ends all the same: the agent at once, the switch in its time (N41)', async () => {
    const olaf = fleet.machine('olaf')
    await fleet.publish({ olaf: { ...change('stopped'), activationScript: 'sleep 5' } })
    const id = await fleet.apply('olaf')
    const unit = `muster-switch-${id}-1.service`
    await untilPhase(olaf, id, Phase.ACTIVATE)
    await olaf.ok(['sh', '-c', `until systemctl is-active -q ${unit}; do :; done`])
    const stopped = performance.now()
    await olaf.ok(['systemctl', 'stop', 'muster-agent.service'])
    expect(performance.now() - stopped).toBeLessThan(20_000)
    expect(await olaf.ok(['systemctl', 'show', '--property=Result,ExecMainStatus', 'muster-agent'])).toBe(
      'Result=success\nExecMainStatus=0\n',
    )
    const { stdout } = await olaf.exec(['systemctl', 'is-active', unit])
    expect(stdout.trim()).toMatch(/^(active|activating)$/)
    await olaf.ok(['systemctl', 'start', 'muster-agent.service'])
    expect(inWords(await fleet.waitOutcome(id))).toBe('succeeded')
    await atRest(fleet, 'olaf')
    expect(await olaf.state()).toMatchObject(allAt(await fleet.systemOf('olaf')))
  })

  it('whose agent is killed with -9 on the way back goes on with it', async () => {
    const olaf = fleet.machine('olaf')
    const { current: before } = await olaf.state()
    await fleet.publish({ olaf: { activationScript: 'sleep 1; exit 3', generation: 'killed-in-return' } })
    const id = await fleet.apply('olaf')
    await untilPhase(olaf, id, Phase.RETURN)
    await killAgent(olaf)
    expect(inWords(await fleet.waitOutcome(id))).toBe('rolled back (activation failed)')
    await atRest(fleet, 'olaf')
    expect(await olaf.state()).toMatchObject(allAt(before))
  })

  it.each(['agent is killed with -9', 'machine loses its power'])(
    'whose %s when it asks for a reboot ends in a known state (T52)',
    async what => {
      const olaf = fleet.machine('olaf')
      const { current: before } = await olaf.state()
      const toml = [
        ...['[defaults]', 'soak = "1s"', 'confirm-within = "20s"', 'reboot = "required"', 'trial = "none"'],
        '',
      ].join('\n')
      await fleet.publish({ olaf: { initInterface: `other ${what}` } }, { toml })
      const target = await fleet.systemOf('olaf')
      const id = await fleet.apply('olaf')
      await untilPhase(olaf, id, Phase.REBOOT)
      if (what.startsWith('agent')) await killAgent(olaf)
      else {
        await olaf.powerCut()
        await olaf.boot()
      }
      const outcome = await fleet.waitOutcome(id)
      await atRest(fleet, 'olaf')
      const there = outcome.class === OutcomeClass.SUCCEEDED
      const runs = there ? target : before
      expect(await olaf.state()).toEqual({ booted: runs, ...allAt(runs) })
      if (what.startsWith('agent')) expect(there).toBe(true)
      else if (!there) expect(inWords(outcome)).toMatch(/^rolled back/)
    },
  )

  it.each([...CHANGING_PHASES, ['return', Phase.RETURN] as const])(
    'whose machine loses its power in %s ends in a known state, and the machine is back (T23, T30, T35)',
    async (name, phase) => {
      const nils = fleet.machine('nils')
      const { current: before } = await nils.state()
      const bad = phase === Phase.RETURN ? { activationScript: 'sleep 1; exit 3' } : {}
      await fleet.publish({ nils: { ...change(`cut in ${name}`), ...bad } })
      const target = await fleet.systemOf('nils')
      const id = await fleet.apply('nils')
      await untilPhase(nils, id, phase)
      await nils.powerCut()
      await nils.boot()
      const outcome = await fleet.waitOutcome(id)
      await atRest(fleet, 'nils')
      const there = outcome.class === OutcomeClass.SUCCEEDED
      expect(await nils.state()).toMatchObject(allAt(there ? target : before))
      expect(outcome.runs).toBe(there ? target : before)
      if (!there) expect(inWords(outcome)).toMatch(/^rolled back \((unknown|activation failed)\)$/)
      if (phase < Phase.ACTIVATE) expect(there).toBe(true)
      if (phase === Phase.ACTIVATE || phase === Phase.PROVE || phase === Phase.RETURN)
        expect(there).toBe(false)
    },
  )
})
