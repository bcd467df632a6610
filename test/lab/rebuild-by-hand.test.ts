import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import { type LabFleet, startLabFleet } from './lab-fleet.ts'
import { allAt, atRest, inWords, untilPhase } from './safety/safe-fleet.ts'
import { service } from './toplevel/switching.ts'
import { SET_UP_MS, whyNoLab } from './why-not.ts'

// Whole rebuilds by hand, beside what the agent does: they set the profile before they switch.

const why = whyNoLab()
const TREE = '/root/by-hand'
let fleet: LabFleet

beforeAll(async () => {
  if (why !== undefined) return
  fleet = await startLabFleet({ machines: ['olaf'] })
}, SET_UP_MS)
afterAll(async () => await fleet?.[Symbol.asyncDispose]())

async function placesOf() {
  const { booted: _, ...places } = await fleet.machine('olaf').state()
  return places
}

async function apply(version: string): Promise<void> {
  await fleet.publish({ olaf: { units: { 'hand.service': service(version) } } })
  expect(inWords(await fleet.waitOutcome(await fleet.apply('olaf')))).toBe('succeeded')
  await atRest(fleet, 'olaf')
}

/** As a person types it; --fast, because the trees of a lab have no nixos-rebuild of their own to go on with. */
async function rebuildByHand() {
  return await fleet
    .machine('olaf')
    .exec(['nixos-rebuild', 'switch', '--flake', `path:${TREE}#olaf`, '--fast'], { timeoutMs: 90_000 })
}

describe.skipIf(why !== undefined)(`nixos-rebuild switch by hand ${why ?? ''}`, () => {
  let byHand = ''

  it('switches a machine that the agent built with the same program', async () => {
    const olaf = fleet.machine('olaf')
    await apply('1')
    byHand = await fleet.systemOf('olaf')
    const found = '$(dirname "$(ls -t /var/lib/muster-agent/trees/*/flake.nix | head -n 1)")'
    await olaf.ok(['sh', '-euc', `cp -r "${found}" ${TREE}`])
    await apply('2')
    const { code, stderr } = await rebuildByHand()
    expect({ code, stderr }).toMatchObject({ code: 0 })
    expect(await placesOf()).toEqual(allAt(byHand))
  })

  it('is kept out by a change that is at work, which sets the profile anew that this one had set', async () => {
    const olaf = fleet.machine('olaf')
    await apply('3')
    await fleet.publish({ olaf: { activationScript: 'sleep 15', units: { 'hand.service': service('4') } } })
    const id = await fleet.apply('olaf')
    await untilPhase(olaf, id, Phase.ACTIVATE)
    await olaf.ok(['sh', '-c', `until systemctl is-active -q muster-switch-${id}-1; do :; done; sleep 1`])
    const { code, stderr } = await rebuildByHand()
    expect(stderr).toContain('Could not acquire lock')
    expect(code).not.toBe(0)
    expect((await placesOf()).profile).toBe(byHand)
    const outcome = await fleet.waitOutcome(id)
    await atRest(fleet, 'olaf')
    expect(`${inWords(outcome)}: ${outcome.reason}`).toMatch(/^succeeded: /)
    expect(await placesOf()).toEqual(allAt(await fleet.systemOf('olaf')))
  })
})
