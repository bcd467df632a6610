import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Fleet, startFleet } from '../../support/fleet.ts'
import { makeToken, untilActive } from '../../support/shown.ts'
import { waitUntil } from '../../support/wait-until.ts'

let fleet: Fleet

beforeAll(async () => {
  fleet = await startFleet()
})
afterAll(async () => await fleet?.[Symbol.asyncDispose]())

describe('the invariants of a real fleet', () => {
  it('hold for a fleet in which nothing is wrong', async () => {
    await untilActive(fleet, await fleet.addAgent('steady', { token: await makeToken(fleet) }))
    const { code, stdout, stderr } = await fleet.muster('health')
    expect({ code, stdout }).toEqual({ code: 0, stdout: '' })
    expect(stderr).toContain('every invariant of the fleet holds')
  })

  it('name a machine whose agent comes and goes, in health and in status', async () => {
    const agent = await fleet.addAgent('flapper', { token: await makeToken(fleet) })
    const { id } = await untilActive(fleet, agent)
    for (let count = 0; count < 6; count++) {
      await agent.kill()
      agent.start()
      await waitUntil('its session', async () => {
        const { machines } = await fleet.api.listMachines({})
        return machines.find(machine => machine.id === id)?.online ? true : undefined
      })
    }
    const found = await waitUntil('flapping', async () => {
      const { code, stdout } = await fleet.muster('health', '-o', 'json')
      const [problem] = JSON.parse(stdout)
      return problem ? { code, problem } : undefined
    })
    expect(found.code).toBe(1)
    expect(found.problem).toMatchObject({ class: 'flapping', machine: id })
    expect(found.problem.reason).toMatch(/began [6-8] times within an hour/)
    expect(await fleet.ok('status')).toContain('flapping: its session began')
    const { health } = await fleet.json('status')
    expect(health).toHaveLength(1)
  })
})
