import { access, mkdir, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'
import { MachineState } from '../../../shared/gen/muster/v1/machine_pb.ts'
import { type Fleet, startFleet } from '../../support/fleet.ts'
import { RawMachine } from '../../support/raw-machine.ts'
import { idOf, makeToken, shownMachine, until, untilActive, untilConsole } from '../../support/shown.ts'

const exists = (path: string) =>
  access(path).then(
    () => true as const,
    () => undefined,
  )

async function tokenInfo(fleet: Fleet, token: string) {
  const { tokens } = await fleet.api.listTokens({})
  return tokens.find(({ id }) => token.startsWith(`${id}.`))
}

describe('kill -9 while machines enrol', { timeout: 120_000 }, () => {
  it('of the coordinator: every machine gets in once, no use of a token is lost or doubled', async () => {
    await using fleet = await startFleet()
    const machines = await Promise.all(Array.from({ length: 8 }, () => RawMachine.make(fleet)))
    const token = await makeToken(fleet, { uses: machines.length })
    const requests = await Promise.all(machines.map(machine => machine.request({ token })))
    // One answer is back, the others are anywhere between their first byte and their commit.
    const asked = machines.map((machine, i) => machine.send(requests[i]!))
    await Promise.any(asked)
    await fleet.coordinator?.kill('SIGKILL')
    const before = (await Promise.allSettled(asked)).filter(({ status }) => status === 'fulfilled').length
    expect(before).toBeGreaterThanOrEqual(1)

    await fleet.startCoordinator()
    const used = (await tokenInfo(fleet, token))?.used ?? 0
    expect(used).toBeGreaterThanOrEqual(before)
    for (const machine of machines) expect((await machine.enrol({ token })).case).toBe('certificate')
    const info = await tokenInfo(fleet, token)
    expect(info).toMatchObject({ used: machines.length })
    expect(info?.machines.toSorted()).toEqual(machines.map(({ id }) => id).toSorted())
    const { machines: shown } = await fleet.api.listMachines({})
    expect(shown).toHaveLength(machines.length)
    expect(new Set(shown.map(({ state }) => state))).toEqual(new Set([MachineState.ENROLLED]))
    const stranger = await RawMachine.make(fleet)
    expect(await stranger.enrol({ token })).toMatchObject({ value: { class: 'token-used-up' } })
  })

  it('of the agent, at each of its steps: it starts again as the same machine, with one use of its token', async () => {
    await using fleet = await startFleet()
    // When it is killed: as soon as this file is there, or so long after it began to ask.
    const moments = ['key.pem', 'certificate.pem', 0, 40, 90, 160]
    for (const [i, moment] of moments.entries()) {
      const token = await makeToken(fleet)
      const agent = await fleet.addAgent(`killed-${i}`, { token })
      if (typeof moment === 'string') {
        await vi.waitFor(() => access(join(agent.stateDir, moment)), { timeout: 20_000, interval: 2 })
      } else {
        const started = () => agent.logs().some(({ msg }) => msg === 'agent started')
        await vi.waitUntil(started, { timeout: 20_000, interval: 2 })
        await new Promise(resolve => setTimeout(resolve, moment))
      }
      await agent.kill('SIGKILL')
      const hadKey = await exists(join(agent.stateDir, 'key.pem'))
      const keyBefore = hadKey && (await readFile(join(agent.stateDir, 'key.pem'), 'utf8'))
      agent.start()
      const { id } = await untilActive(fleet, agent)
      if (hadKey) expect(await readFile(join(agent.stateDir, 'key.pem'), 'utf8')).toBe(keyBefore)
      expect(await tokenInfo(fleet, token)).toMatchObject({ used: 1, machines: [id] })
      await agent.kill('SIGTERM')
    }
    expect((await fleet.api.listMachines({})).machines).toHaveLength(moments.length)
  })

  it('of the agent with a key and no certificate yet: the same id asks again', async () => {
    await using fleet = await startFleet()
    const agent = await fleet.addAgent('half-way')
    await untilConsole(agent, /waits to be let into the fleet/)
    const id = await idOf(agent)
    expect(await exists(join(agent.stateDir, 'certificate.pem'))).toBeUndefined()
    await agent.kill('SIGKILL')
    await fleet.api.approveMachine({ ref: id })
    agent.start()
    expect((await untilActive(fleet, agent)).id).toBe(id)
  })

  it('N17: a certificate that was issued and never arrived is given again to the same key, at no further use', async () => {
    await using fleet = await startFleet()
    const token = await makeToken(fleet)
    const raw = await RawMachine.make(fleet)
    expect((await raw.enrol({ token })).case).toBe('certificate')
    raw.chainPem = ''
    expect((await raw.enrol({ token })).case).toBe('certificate')
    expect(await tokenInfo(fleet, token)).toMatchObject({ used: 1 })
    // By the key alone as well, once the token was deleted.
    expect((await raw.enrol()).case).toBe('certificate')
    await using session = await raw.session()
    await session.untilReceived('welcome')
  })

  it('N17: a state directory that cannot be written is found out before the token is spent', async () => {
    await using fleet = await startFleet()
    const token = await makeToken(fleet)
    const agent = await fleet.addAgent('read-only', { token, config: { stateDir: '/dev/null/muster' } })
    await until('the end', () => (agent.program?.running === false ? true : undefined))
    const { code, stderr, stdout } = await agent.program!.finished
    expect(code).not.toBe(0)
    expect(`${stderr}${stdout}`).toContain('/dev/null/muster')
    expect(await tokenInfo(fleet, token)).toMatchObject({ used: 0 })
  })

  it('T11: an agent that lost its state says so and stops; it never starts again from nothing', async () => {
    await using fleet = await startFleet()
    for (const [name, lost] of [
      ['lost-state', 'state.json'],
      ['lost-key', 'key.pem'],
    ] as const) {
      const agent = await fleet.addAgent(name, { token: await makeToken(fleet) })
      const { id } = await untilActive(fleet, agent)
      await agent.kill('SIGTERM')
      await rm(join(agent.stateDir, lost))
      const { code, stderr, stdout } = await agent.start().finished
      expect(code).not.toBe(0)
      expect(`${stderr}${stdout}`).toContain(lost)
      expect(`${stderr}${stdout}`).toMatch(/Put it back from a backup/)
      expect((await shownMachine(fleet, id))?.state).toBe(MachineState.ACTIVE)
    }
  })

  it('T18 N18: all an agent keeps lies in one directory that only it can read; with it alone it is itself again', async () => {
    await using fleet = await startFleet()
    const agent = await fleet.addAgent('impermanent', { token: await makeToken(fleet) })
    const { id } = await untilActive(fleet, agent)
    await agent.kill('SIGTERM')
    // The root is wiped: token, configuration and all else go, the one directory stays.
    await rename(agent.stateDir, `${agent.dir}-kept`)
    await rm(agent.dir, { recursive: true })
    await mkdir(agent.dir, { recursive: true })
    await rename(`${agent.dir}-kept`, agent.stateDir)
    await agent.prepare()
    await rm(join(agent.dir, 'token'), { force: true })
    agent.start()
    expect((await untilActive(fleet, agent)).id).toBe(id)
    expect((await stat(agent.stateDir)).mode & 0o077).toBe(0)
    for (const name of await readdir(agent.stateDir)) {
      const { mode } = await stat(join(agent.stateDir, name))
      if (/key|state|trust|certificate/.test(name)) expect([name, mode & 0o077]).toEqual([name, 0])
    }
    expect((await stat(join(fleet.coordinatorState, 'authority'))).mode & 0o077).toBe(0)
    expect((await stat(fleet.coordinatorState)).mode & 0o077).toBe(0)
  })
})
