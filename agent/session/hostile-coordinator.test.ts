import { create } from '@bufbuild/protobuf'
import { beforeAll, describe, expect, it } from 'vitest'
import { AssignmentSchema, FactsAckSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { AgentUnderTest } from './testing/agent-under-test.ts'
import { Hub, type HubKeys, makeHubKeys } from './testing/hub.ts'

let keys: HubKeys
beforeAll(async () => {
  keys = await makeHubKeys()
})

const LONG = 'x'.repeat(1_000_000)

describe('what a coordinator says is written down within bounds', () => {
  it('a name of a megabyte ends the session, and a digest of one is passed over', async () => {
    await using hub = await Hub.start(keys)
    await using test = await AgentUnderTest.prepare({
      coordinator: hub.coordinator,
      caPin: keys.authority.pin,
    })
    await test.start()
    await expect.poll(() => test.phase, { timeout: 10_000 }).toBe('connected')
    const session = hub.newest
    session?.send({ case: 'factsAck', value: create(FactsAckSchema, { digest: LONG }) })
    session?.send({ case: 'assignment', value: create(AssignmentSchema, { host: LONG }) })
    const said = () => test.lines.join('')
    await expect.poll(said, { timeout: 10_000 }).toContain('what is no name of a host')
    await expect.poll(() => hub.newest !== session && test.phase, { timeout: 10_000 }).toBe('connected')
    expect(JSON.stringify(await test.state()).length).toBeLessThan(100_000)
  })

  it('a chain of certificates of a megabyte is not kept', async () => {
    await using hub = await Hub.start(keys, made => {
      made.answer = request => {
        const answer = made.admit(request.publicKey)
        if (answer.case !== 'certificate') return answer
        return {
          case: 'certificate',
          value: { ...answer.value, chainPem: `${answer.value.chainPem}${LONG}` },
        }
      }
    })
    await using test = await AgentUnderTest.prepare({
      coordinator: hub.coordinator,
      caPin: keys.authority.pin,
    })
    await test.start()
    await expect
      .poll(() => test.reason, { timeout: 10_000 })
      .toContain('holds more than a chain of certificates')
    expect(test.phase).not.toBe('connected')
  })
})
