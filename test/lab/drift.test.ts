import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { waitUntil } from '../support/wait-until.ts'
import { type LabFleet, startLabFleet } from './lab-fleet.ts'
import { atRest, inWords } from './safety/safe-fleet.ts'
import { service } from './toplevel/switching.ts'
import { SET_UP_MS, whyNoLab } from './why-not.ts'

const why = whyNoLab()
const PROFILE = '/nix/var/nix/profiles/system'
let fleet: LabFleet

beforeAll(async () => {
  if (why !== undefined) return
  // Of what is done by hand an agent knows by its facts alone.
  fleet = await startLabFleet({ machines: ['olaf'], agentConfig: { factsEveryMs: 1_000 } })
}, SET_UP_MS)
afterAll(async () => await fleet?.[Symbol.asyncDispose]())

async function apply(version: string): Promise<string> {
  await fleet.publish({ olaf: { units: { 'drift.service': service(version) } } })
  expect(inWords(await fleet.waitOutcome(await fleet.apply('olaf')))).toBe('succeeded')
  await atRest(fleet, 'olaf')
  return await fleet.systemOf('olaf')
}

/**
 * What the command says of the machine, once it says this. A change by hand takes moments, and what is reported in between is
 * true too: with `current` that is waited for.
 */
async function untilDrift(state: string, changedBy: string, current?: string) {
  return await waitUntil(`drift ${state} by ${changedBy}`, async () => {
    const [found] = await fleet.fleet.json('drift', 'olaf')
    if (found?.state !== state || found.changedBy !== changedBy) return undefined
    return current === undefined || found.current === current ? found : undefined
  })
}

/** What `nixos-rebuild switch` does to a machine when somebody runs it there. */
async function byHand(...steps: string[]): Promise<void> {
  await fleet.machine('olaf').ok(['sh', '-euc', steps.join('\n')], { timeoutMs: 60_000 })
}

describe.skipIf(why !== undefined)(`drift of a real machine ${why ?? ''}`, () => {
  it('is told by who made it: a rebuild, a test and a rollback by hand, a boot, and ours', async () => {
    const { current: first } = await fleet.machine('olaf').state()
    const ours = await apply('1')
    expect(await untilDrift('in-sync', 'operation')).toMatchObject({
      current: ours,
      profile: ours,
      remedy: '',
    })
    expect(await fleet.fleet.ok('drift')).toBe('')

    await byHand(`${first}/bin/switch-to-configuration test`)
    expect(await untilDrift('drifted', 'test-by-hand', first)).toMatchObject({ profile: ours })

    await byHand(`nix-env -p ${PROFILE} --rollback`, `${first}/bin/switch-to-configuration switch`)
    expect(await untilDrift('drifted', 'rollback-by-hand', first)).toMatchObject({
      profile: first,
      remedy: 'muster apply olaf',
    })

    const second = await apply('2')
    await untilDrift('in-sync', 'operation')
    // As a generation of its own, which is what a rebuild makes even of an old system.
    await byHand(`nix-env -p ${PROFILE} --set ${ours}`, `${ours}/bin/switch-to-configuration switch`)
    expect(await untilDrift('drifted', 'rebuild-by-hand', ours)).toMatchObject({ profile: ours })

    const third = await apply('3')
    expect(third).not.toBe(second)
    await untilDrift('in-sync', 'operation')
    const oldest = (await fleet.machine('olaf').ok(['ls', '/boot/loader/entries'])).split('\n')[0] ?? ''
    await byHand(`bootctl set-oneshot ${oldest}`)
    await fleet.machine('olaf').reboot()
    expect(await untilDrift('drifted', 'reboot')).toMatchObject({
      profile: third,
      remedy: 'muster reboot olaf',
    })
  }, 240_000)
})
