import { mkdtemp, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { credentials, status } from '@grpc/grpc-js'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  Health,
  HealthCheckResponse_ServingStatus as Serving,
} from '../shared/gen/grpc/health/v1/health_pb.ts'
import { AgentService } from '../shared/gen/muster/v1/agent_pb.ts'
import { OperatorService } from '../shared/gen/muster/v1/operator_pb.ts'
import { untilAborted } from '../shared/lifecycle.ts'
import { createClient } from '../shared/rpc/client.ts'
import { createClientCredentials } from '../shared/x509/client-credentials.ts'
import { parseConfig } from './config.ts'
import { startCoordinator } from './start.ts'

const log = pino({ level: 'silent' })
const call = { deadlineMs: 10_000 }

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ms-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

const configOf = (more: object = {}) =>
  parseConfig(
    {
      stateDir: join(folder, 's'),
      enrolmentListen: '127.0.0.1:0',
      fleetListen: '127.0.0.1:0',
      names: ['127.0.0.1'],
      heartbeatSeconds: 1,
      ...more,
    },
    'test',
  )
const operators = () =>
  createClient(OperatorService, `unix:${configOf().socket}`, credentials.createInsecure())
const healthAt = (address: string, how = credentials.createInsecure()) => createClient(Health, address, how)

describe('a coordinator', () => {
  it('serves on all its listeners, to each caller what is his, and its state outlives it', async () => {
    const first = await startCoordinator(configOf(), log)
    let token: string | undefined
    try {
      using operator = operators()
      const fleet = await operator.getFleet({}, call)
      expect(fleet).toMatchObject({ caPin: first.caPin, problems: [expect.stringContaining('no trust set')] })
      expect(fleet.fleetAddress).toBe(`127.0.0.1:${first.fleetPort}`)
      const { authorityPem } = fleet
      const tls = createClientCredentials({ caPem: [authorityPem] })
      for (const client of [
        healthAt(`unix:${configOf().socket}`),
        healthAt(`127.0.0.1:${first.enrolmentPort}`, tls),
      ]) {
        using health = client
        expect((await health.check({}, call)).status).toBe(Serving.SERVING)
      }
      // Nobody gets through to the fleet without a certificate, and strangers find no operators' service.
      using uncertified = healthAt(`127.0.0.1:${first.fleetPort}`, tls)
      await expect(uncertified.check({}, { deadlineMs: 3_000 })).rejects.toMatchObject({
        code: expect.toSatisfy((code: status) =>
          [status.UNAVAILABLE, status.DEADLINE_EXCEEDED].includes(code),
        ),
      })
      const strangerTo = `127.0.0.1:${first.enrolmentPort}`
      using operatorOfStrangers = createClient(OperatorService, strangerTo, tls)
      await expect(operatorOfStrangers.getFleet({}, call)).rejects.toMatchObject({
        code: status.UNIMPLEMENTED,
      })
      using agentOfStrangers = createClient(AgentService, strangerTo, tls)
      await expect(agentOfStrangers.renew({}, call)).rejects.toMatchObject({ code: status.UNIMPLEMENTED })
      token = (await operator.createToken({ uses: 1, lifetime: { seconds: 600n } }, call)).info?.id
    } finally {
      await first[Symbol.asyncDispose]()
    }
    await expect(stat(configOf().socket)).rejects.toThrow('ENOENT')
    expect(await readFile(join(folder, 's/lock.1'), 'utf8')).toBe('released\n')
    await using second = await startCoordinator(configOf(), log)
    expect(second.caPin).toBe(first.caPin)
    using operator = operators()
    expect((await operator.listTokens({}, call)).tokens.map(({ id }) => id)).toEqual([token])
  })

  it('stops in a bounded time though a caller never comes to an end, and starts again on what it left', async () => {
    const coordinator = await startCoordinator(configOf(), log)
    using operator = operators()
    const silent = new AbortController()
    const endless = async function* () {
      await untilAborted(silent.signal)
      yield {}
    }
    const restoring = operator.restore(endless()).catch((error: unknown) => error)
    await operator.getFleet({}, call)
    const began = performance.now()
    await coordinator[Symbol.asyncDispose]()
    expect(performance.now() - began).toBeLessThan(15_000)
    expect(await restoring).toMatchObject({ name: 'RpcError', code: expect.any(Number) })
    silent.abort()
    await using again = await startCoordinator(configOf(), log)
    expect(again.caPin).toBe(coordinator.caPin)
  })

  it('refuses a second one on its state before that one touches anything, and goes on', async () => {
    await using first = await startCoordinator(configOf(), log)
    await expect(startCoordinator(configOf({ socket: join(folder, 'other.sock') }), log)).rejects.toThrow(
      `${join(folder, 's')}: is in use by process ${process.pid}; a state directory belongs to one coordinator at a time`,
    )
    using health = healthAt(`unix:${configOf().socket}`)
    expect((await health.check({}, call)).status).toBe(Serving.SERVING)
    expect(first.fleetPort).toBeGreaterThan(0)
  })

  it('lets go of all it holds when it cannot start, and says what it could not have', async () => {
    await using first = await startCoordinator(configOf(), log)
    const taken = `127.0.0.1:${first.fleetPort}`
    const other = { stateDir: join(folder, 'o'), socket: join(folder, 'o/c.sock') }
    await expect(startCoordinator(configOf({ ...other, fleetListen: taken }), log)).rejects.toThrow(
      `cannot listen on ${taken}: `,
    )
    await using _second = await startCoordinator(configOf(other), log)
  })
})
