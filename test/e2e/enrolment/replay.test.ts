import { toBinary } from '@bufbuild/protobuf'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { FactsSchema } from '../../../shared/gen/muster/v1/facts_pb.ts'
import { enrolmentProofText, signProof } from '../../../shared/x509/proof.ts'
import { type Fleet, startFleet } from '../../support/fleet.ts'
import { factsOf, RawMachine } from '../../support/raw-machine.ts'
import { makeToken, shownMachine, untilEvent } from '../../support/shown.ts'

let fleet: Fleet
let victim: RawMachine
let thief: RawMachine

beforeAll(async () => {
  fleet = await startFleet({ strangersPerSecond: 5_000 })
  victim = await RawMachine.make(fleet)
  thief = await RawMachine.make(fleet)
})

afterAll(() => fleet?.[Symbol.asyncDispose]())

/** What the refusal says, "class: reason". */
async function refusal(
  raw: RawMachine,
  request: Awaited<ReturnType<RawMachine['request']>>,
): Promise<string> {
  const answer = await raw.send(request)
  return answer.case === 'refusal' ? answer.value.class : `${answer.case}`
}

describe('T2: a recorded enrolment is worth nothing', () => {
  it('the very same request a second time is refused and shown, also after it succeeded', async () => {
    const request = await victim.request({ token: await makeToken(fleet) })
    expect((await victim.send(request)).case).toBe('certificate')
    expect(await refusal(thief, request)).toBe('replay')
    expect(await refusal(victim, request)).toBe('replay')
    await untilEvent(fleet, victim.id, 'refused', /^replay: the nonce served before.* \(from 127\.0\.0\.1/)
    expect((await fleet.api.listTokens({})).tokens[0]).toMatchObject({ used: 1 })
  })

  it('a recorded proof under a fresh nonce is refused', async () => {
    const recorded = await victim.request()
    expect(await refusal(thief, { ...recorded, nonce: await thief.nonce() })).toBe('proof')
  })

  it('a nonce that the coordinator never gave is refused', async () => {
    expect(await refusal(thief, await thief.request({ nonce: Buffer.alloc(32, 7) }))).toBe('nonce')
    expect(await refusal(thief, await thief.request({ nonce: new Uint8Array() }))).toBe('nonce')
  })

  it('altered facts, key or token under a good proof are refused, and shown', async () => {
    const token = await makeToken(fleet, { uses: 3 })
    const [tokenId = '', tokenSecret = ''] = token.split('.')
    const facts = toBinary(FactsSchema, factsOf({ system: { serial: 'OTHER' } }))
    const changes = [
      { facts },
      { publicKey: thief.key.publicKeyDer },
      { tokenId, tokenSecret },
      { proof: Buffer.alloc(256, 1) },
      { proof: new Uint8Array() },
    ]
    for (const change of changes) {
      expect(
        await refusal(thief, await victim.request({ change })),
        JSON.stringify(Object.keys(change)),
      ).toBe('proof')
    }
    await untilEvent(fleet, victim.id, 'refused', /^proof: the proof is no signature of this very request/)
    await untilEvent(fleet, thief.id, 'refused', /^proof/)
    expect(await shownMachine(fleet, thief.id)).toBeUndefined()
    const { tokens } = await fleet.api.listTokens({})
    expect(tokens.find(({ id }) => id === tokenId)).toMatchObject({ used: 0 })
  })

  it('a proof that was made for another coordinator is refused here', async () => {
    const nonce = await victim.nonce()
    const facts = toBinary(FactsSchema, factsOf())
    const publicKey = victim.key.publicKeyDer
    const text = enrolmentProofText({ nonce, caId: 'ab'.repeat(32), publicKey, facts, tokenId: '' })
    const proof = signProof(victim.key.privateKeyPem, text)
    expect(await refusal(thief, { nonce, publicKey, facts, tokenId: '', tokenSecret: '', proof })).toBe(
      'proof',
    )
  })

  it('nonces do not outlive the coordinator that gave them', async () => {
    const request = await victim.request()
    await fleet.coordinator?.kill('SIGTERM')
    await fleet.startCoordinator()
    expect(await refusal(victim, request)).toBe('nonce')
    expect((await victim.enrol()).case).toBe('certificate')
  })

  it('T6: who asks again for a machine that exists gets nothing without its key', async () => {
    const known = await shownMachine(fleet, victim.id)
    const facts = { system: { serial: known?.serial ?? '' } }
    const answer = await thief.enrol({ facts })
    expect(answer.case).toBe('waiting')
    expect(thief.id).not.toBe(victim.id)
    // Its own public key is no secret, and asking under it without the private one gives nothing.
    const forged = await thief.request({ change: { publicKey: victim.key.publicKeyDer } })
    expect(await refusal(thief, forged)).toBe('proof')
  })

  it('a key that is no RSA key of at least 2048 bits is refused', async () => {
    const request = await thief.request({ change: { publicKey: Buffer.from('no key at all') } })
    expect(await refusal(thief, request)).toBe('malformed')
  })
})
