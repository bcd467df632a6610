import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create } from '@bufbuild/protobuf'
import { expect, it } from 'vitest'
import { CreateTokenRequestSchema } from '../../shared/gen/muster/v1/token_pb.ts'
import { durationFromMs } from '../../shared/time.ts'
import { generateMachineKey } from '../../shared/x509/machine-key.ts'
import { createToken } from '../api/create-token.ts'
import { MachineDirectory } from '../machines/directory.ts'
import { idOf, openTestAuthorities, openTestFleet } from '../machines/testing/test-fleet.ts'
import { indexTargets } from '../revisions/fleet-targets.ts'
import { openStore } from '../store/store.ts'
import { findToken } from '../store/tokens.ts'

it('a kill between the commit of an enrolment and its signature costs the machine a second question and nothing else', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'muster-unsigned-'))
  await using made = await openTestAuthorities()
  await using fleet = await openTestFleet(made.authorities)
  const key = await generateMachineKey(2048)
  const request = create(CreateTokenRequestSchema, { lifetime: durationFromMs(3_600_000), uses: 1 })
  const { token = '' } = await createToken(fleet.deps)(request, { kind: 'local' })
  let left: string | undefined
  // The very real authority; at the moment it would sign, what is on the disk is what a kill leaves.
  const prepareMachine: typeof made.authorities.prepareMachine = publicKey => {
    const prepared = made.authorities.prepareMachine(publicKey)
    if (!prepared.ok) return prepared
    const sign = async () => {
      left = join(folder, 'store.sqlite')
      await fleet.deps.store.copyTo(left)
      return await prepared.certificate.sign()
    }
    return { ...prepared, certificate: { ...prepared.certificate, sign } }
  }
  const authorities = {
    get shownPin() {
      return made.authorities.shownPin
    },
    list: () => made.authorities.list(),
    prepareMachine,
  }
  Object.assign(fleet.deps, { authorities })
  expect((await fleet.ask({ key, token })).case).toBe('certificate')
  if (left === undefined) throw new Error('nothing was signed')

  const store = await openStore(left, new Date())
  try {
    const directory = await MachineDirectory.load(store.db, indexTargets(0, '', []))
    expect(directory.get(idOf(key))?.state).toBe('enrolled')
    // After the restart the token is used up, and the machine is known all the same.
    expect(await findToken(store.db, token.split('.')[0] ?? '')).toMatchObject({ uses: 1, used: 1 })
    Object.assign(fleet.deps, { store, directory, authorities: made.authorities })
    expect((await fleet.ask({ key, token })).case).toBe('certificate')
    expect((await fleet.ask({ key })).case).toBe('certificate')
    expect(await findToken(store.db, token.split('.')[0] ?? '')).toMatchObject({ uses: 1, used: 1 })
    expect([...directory.ids()]).toEqual([idOf(key)])
  } finally {
    await store[Symbol.asyncDispose]()
    await rm(folder, { recursive: true, force: true })
  }
})
