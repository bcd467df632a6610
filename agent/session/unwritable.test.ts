import { mkdir, rm } from 'node:fs/promises'
import { create } from '@bufbuild/protobuf'
import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import { beforeAll, expect, it } from 'vitest'
import {
  AssignmentSchema,
  AuditHeadSchema,
  FactsAckSchema,
  HeartbeatAckSchema,
} from '../../shared/gen/muster/v1/agent_pb.ts'
import { AgentUnderTest } from './testing/agent-under-test.ts'
import { Hub, type HubKeys, makeHubKeys } from './testing/hub.ts'

let keys: HubKeys
beforeAll(async () => {
  keys = await makeHubKeys()
})

it('T60: keeps its session while what it is told cannot be written down, and keeps what comes once it can', async () => {
  await using hub = await Hub.start(keys)
  await using test = await AgentUnderTest.prepare({ coordinator: hub.coordinator, caPin: keys.authority.pin })
  await test.start()
  await expect.poll(() => hub.newest?.of('facts').length, { timeout: 10_000 }).toBe(1)
  // No file takes the place of a folder.
  await rm(test.file('state.json'))
  await mkdir(test.file('state.json'))
  const session = hub.newest
  const digest = 'a'.repeat(64)
  session?.send({ case: 'factsAck', value: create(FactsAckSchema, { digest }) })
  session?.send({ case: 'auditHead', value: create(AuditHeadSchema, { id: 1n, hash: digest }) })
  session?.send({ case: 'assignment', value: create(AssignmentSchema, { host: 'olaf' }) })
  const late = timestampFromDate(new Date(Date.now() + 3_600_000))
  session?.send({ case: 'heartbeatAck', value: create(HeartbeatAckSchema, { now: late }) })
  const said = () => test.lines.join('')
  for (const work of ['factsAck', 'auditHead', 'assignment', 'clock']) {
    await expect.poll(said, { timeout: 10_000 }).toContain(`"work":"${work}"`)
  }
  expect(said()).toContain('EISDIR')
  await rm(test.file('state.json'), { recursive: true })
  session?.send({ case: 'auditHead', value: create(AuditHeadSchema, { id: 2n, hash: digest }) })
  await expect
    .poll(() => test.state().catch(() => undefined), { timeout: 10_000 })
    .toMatchObject({ auditHeads: [{ id: 2 }] })
  expect(hub.newest).toBe(session)
  expect(session?.open).toBe(true)
})
