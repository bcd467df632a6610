import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Phase } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { waitUntil } from '../../support/wait-until.ts'
import { inWords } from '../safety/safe-fleet.ts'
import { SET_UP_MS } from '../why-not.ts'
import { SLOW_MS, VirtualFleet } from './virtual-fleet.ts'
import { whyNoVirtualMachine } from './why-not.ts'

const why = whyNoVirtualMachine()
const HOUR_MS = 3_600_000

describe.skipIf(why !== undefined)(`a clock that is wrong${why === undefined ? '' : ` (${why})`}`, () => {
  let fleet: VirtualFleet

  beforeAll(async () => {
    if (why !== undefined) return
    const diskSerial = 'S4EVNX0M777002'
    fleet = await VirtualFleet.install(async () => ({ diskSerial, hardware: { serial: 'LAB0778' } }))
    await fleet.vm.boot({ clock: new Date(Date.now() + HOUR_MS) })
  }, SET_UP_MS)
  afterAll(async () => await fleet?.[Symbol.asyncDispose]())

  it('by an hour lets the machine in, is shown, and refuses what is ordered before anything is touched', {
    timeout: SLOW_MS,
  }, async () => {
    await fleet.approve()
    const before = await fleet.vm.state()
    const { outcome } = await fleet.apply({ generation: '2' })
    expect(inWords(outcome)).toBe('refused clock')
    expect(outcome.reason).toMatch(/ahead of the coordinator's/)
    expect(await fleet.vm.state()).toEqual(before)
  })

  it('because it was lost with the power, in the middle of a change, is waited for; then the change goes on', {
    timeout: SLOW_MS,
  }, async () => {
    const { vm } = fleet
    await vm.powerCut()
    await vm.boot()
    const id = await fleet.order({ generation: '3' })
    const begun = async (phase: Phase) => {
      const lines = (await vm.readFile('/var/lib/muster-agent/journal.jsonl')).split('\n')
      const isStart = new RegExp(`"phase":${phase}\\b`)
      return lines.filter(line => line.includes(id) && line.includes('"started"') && isStart.test(line))
        .length
    }
    const untilBegun = async (phase: Phase, times: number) =>
      await waitUntil(
        `phase ${phase} was begun ${times} times`,
        async () => (await begun(phase)) >= times || undefined,
        { timeoutMs: SLOW_MS / 2, everyMs: 200 },
      )
    await untilBegun(Phase.BUILD, 1)
    await vm.powerCut()
    await vm.boot({ clock: new Date(0) })
    await untilBegun(Phase.VERIFY, 2)
    await new Promise(resolve => setTimeout(resolve, 10_000))
    expect([await begun(Phase.FETCH), await fleet.outcomeNow(id)]).toEqual([1, undefined])

    await vm.ok(['date', '--set', `@${Math.floor(Date.now() / 1_000)}`])
    expect(inWords(await fleet.outcomeOf(id))).toBe('succeeded')
    expect((await vm.readFile('/run/current-system/nixos-version')).trim()).toBe('26.05.lab.3')
  })
})
