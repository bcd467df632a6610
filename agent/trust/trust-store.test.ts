import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { generateSigningKey } from '../../shared/envelope/keys.ts'
import {
  makeFirstTrustSet,
  makeNextTrustSet,
  type SignedTrust,
  type TrustContent,
} from '../../shared/trust/make-trust-set.ts'
import { AgentStateFile } from '../state/agent-state.ts'
import { StateError } from '../state/state-error.ts'
import { TrustStore, trustedPins } from './trust-store.ts'

const key = generateSigningKey()
const first = makeFirstTrustSet({
  fleetId: '0123456789abcdef0123456789abcdef',
  created: new Date(),
  keys: [{ key, comment: '' }],
  threshold: 1,
  recoveryKeys: [],
  caPins: [],
  coordinators: [],
  signers: [key],
})
const after = (before: SignedTrust, change: Partial<TrustContent> = {}) =>
  makeNextTrustSet({ current: before.trust, change, created: new Date(), signers: [key] })
const second = after(first)
const third = after(second)

let folder: string
let state: AgentStateFile
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ma-'))
  state = await AgentStateFile.create(folder)
})
afterEach(() => rm(folder, { recursive: true, force: true }))

async function taken(...sets: readonly SignedTrust[]): Promise<TrustStore> {
  const store = await TrustStore.open(folder, state)
  const walk = store.consider(
    sets.map(set => set.envelope),
    undefined,
  )
  if (walk.kind === 'refused') throw new Error(walk.reason)
  await store.take(walk)
  return store
}

describe('the trust store', () => {
  it('holds over a restart what it took, and that nobody confirmed it', async () => {
    await taken(first)
    const again = await TrustStore.open(folder, state)
    expect(again.report()).toEqual({ number: 1n, digest: first.trust.digest, firstUse: true })
    expect(await again.confirm('0'.repeat(64))).toBe(false)
    expect(await again.confirm(first.trust.digest)).toBe(true)
    expect((await TrustStore.open(folder, state)).firstUse).toBe(false)
  })

  it('only goes up by itself, and stays unconfirmed on the way', async () => {
    const store = await taken(first)
    const up = store.consider([first.envelope, second.envelope, third.envelope], undefined)
    const stale = store.consider([first.envelope, second.envelope], undefined)
    if (up.kind === 'refused' || stale.kind === 'refused') throw new Error('refused')
    expect(await store.take(up)).toBe(true)
    expect(await store.take(stale)).toBe(false)
    expect(await store.adopt(second.trust)).toBe(false)
    expect(store.report()).toEqual({ number: 3n, digest: third.trust.digest, firstUse: true })
  })

  it('T11: refuses to start when the set that was held is missing, and when it cannot be read', async () => {
    await taken(first)
    const path = join(folder, 'trust.json')
    const good = await readFile(path, 'utf8')
    await rm(path)
    await expect(TrustStore.open(folder, state)).rejects.toThrow(
      'is missing, but this machine held a trust set',
    )
    const record = JSON.parse(good)
    for (const bad of [
      '',
      good.slice(0, -20),
      JSON.stringify({ ...record, digest: '0'.repeat(64) }),
      JSON.stringify({ ...record, payload: record.payload.slice(4) }),
      JSON.stringify({ ...record, firstUse: undefined }),
      JSON.stringify({ ...record, v: 2 }),
    ]) {
      await writeFile(path, bad)
      await expect(TrustStore.open(folder, state)).rejects.toThrow(StateError)
    }
    await writeFile(path, good)
    expect((await TrustStore.open(folder, state)).current?.digest).toBe(first.trust.digest)
  })

  it('is replaced by hand also by another fleet’s set, but only by one that is whole in itself', async () => {
    const store = await taken(first, second)
    expect(await store.replace([second.envelope])).toMatchObject({ kind: 'ok' })
    const stranger = generateSigningKey()
    const forged = { ...second.envelope, signatures: [] }
    expect(await store.replace([forged])).toMatchObject({ kind: 'refused', class: 'signature' })
    expect(store.current?.number).toBe(2)
    const other = makeFirstTrustSet({
      fleetId: 'f'.repeat(32),
      created: new Date(),
      keys: [{ key: stranger, comment: '' }],
      threshold: 1,
      recoveryKeys: [],
      caPins: [],
      coordinators: [],
      signers: [stranger],
    })
    expect(await store.replace([other.envelope])).toMatchObject({ kind: 'ok' })
    expect(store.report()).toEqual({ number: 1n, digest: other.trust.digest, firstUse: false })
  })
})

it('trusts the authorities that the set lists, and the one it was given only where none is listed', () => {
  const [given, listed] = ['a'.repeat(64), 'b'.repeat(64)]
  expect(trustedPins(undefined, given)).toEqual([given])
  expect(trustedPins(first.trust, given)).toEqual([given])
  expect(trustedPins(after(first, { caPins: [listed] }).trust, given)).toEqual([listed])
})
