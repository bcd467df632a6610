import { status } from '@grpc/grpc-js'
import { expect, it } from 'vitest'
import { OperatorService } from '../../../shared/gen/muster/v1/operator_pb.ts'
import { randomId } from '../../../shared/ids.ts'
import { createClient } from '../../../shared/rpc/client.ts'
import { millisOf } from '../../../shared/time.ts'
import { createClientCredentials } from '../../../shared/x509/client-credentials.ts'
import { generateMachineKey } from '../../../shared/x509/machine-key.ts'
import { startFleet } from '../../support/fleet.ts'
import { addOperator } from '../../support/operator.ts'
import { RawMachine } from '../../support/raw-machine.ts'
import { makeToken, until, untilActive, untilEvent } from '../../support/shown.ts'
import { downloadSlowly, LARGE_FILES } from '../../support/slow-download.ts'

it('the authority changes without visiting a machine, and each step that would lock one out is refused', async () => {
  await using fleet = await startFleet({ machineCertificateDays: 15 / 86_400 })
  const oldPin = await fleet.caPin()
  await using operator = await addOperator(fleet, { trust: { caPins: [oldPin] } })
  const [on, off] = await Promise.all(
    ['rotates-on', 'rotates-off'].map(async name => fleet.addAgent(name, { token: await makeToken(fleet) })),
  )
  const { id } = await untilActive(fleet, on!)
  const { id: away } = await untilActive(fleet, off!)
  await untilEvent(fleet, id, 'active')

  await expect(fleet.api.rotateAuthority({ step: 'switch' })).rejects.toThrow(/`add` one first/)
  await expect(fleet.api.rotateAuthority({ step: 'drop' })).rejects.toThrow(
    /no authority that could be dropped/,
  )
  await expect(fleet.api.rotateAuthority({ step: 'sideways' })).rejects.toThrow(/one of add, switch, drop/)
  const { authorities } = await fleet.api.rotateAuthority({ step: 'add' })
  const newPin = authorities.find(({ pin }) => pin !== oldPin)?.pin ?? ''
  expect(newPin).toMatch(/^[0-9a-f]{64}$/)
  // The old one is still shown and still issues.
  expect(await fleet.caPin()).toBe(oldPin)
  await expect(fleet.api.rotateAuthority({ step: 'switch' })).rejects.toThrow(/does not list .* yet/)

  operator.nextTrust({ caPins: [oldPin, newPin] })
  await operator.giveTrust()
  // One machine is off from here on: it knows both, since it follows the set before it goes.
  await until('both follow', async () => {
    const { machines } = await fleet.api.listMachines({})
    return machines.every(({ trust }) => trust?.number === 2n) ? true : undefined
  })
  await off!.kill('SIGTERM')
  await fleet.api.rotateAuthority({ step: 'switch' })
  expect((await fleet.api.getFleetTrust({})).authorities.find(({ current }) => current)?.pin).toBe(newPin)
  await untilActive(fleet, on!)

  // A machine whose certificate hangs on the old authority keeps it alive until it renewed.
  const drop = async () => {
    try {
      await fleet.api.rotateAuthority({ step: 'drop' })
      return true
    } catch (error) {
      expect(String(error)).toMatch(/hang on certificates/)
      return undefined
    }
  }
  await until('everybody renewed or expired', drop)
  const { authorities: left } = await fleet.api.getFleetTrust({})
  expect(left.map(({ pin }) => pin)).toEqual([newPin])
  await untilActive(fleet, on!)
  expect(on!.programs).toHaveLength(1)

  // The set without the old authority follows; and the machine that was off comes back, its certificate long expired.
  operator.nextTrust({ caPins: [newPin] })
  await operator.giveTrust()
  off!.start()
  expect((await untilActive(fleet, off!)).id).toBe(away)
  const fresh = await fleet.addAgent('after-rotation', { token: await makeToken(fleet) })
  await untilActive(fleet, fresh)
  // A set that leaves out the authority in use would lock everybody out.
  operator.nextTrust({ caPins: [oldPin] })
  await expect(operator.giveTrust()).rejects.toThrow(
    /does not list the authority that this coordinator shows/,
  )
}, 120_000)

it('an operator’s certificate of a dropped authority opens nothing, and a forced drop ends what it and machines are being answered', async () => {
  await using fleet = await startFleet()
  const oldPin = await fleet.caPin()
  await using operator = await addOperator(fleet, { trust: { caPins: [oldPin] } })
  const key = await generateMachineKey(2048)
  const { chainPem, authorityPem } = await fleet.api.addOperator({ name: 'ada', publicKey: key.publicKeyDer })
  const identity = { chainPem, privateKeyPem: key.privateKeyPem }
  const credentials = createClientCredentials({ caPem: [authorityPem], identity })
  using remote = createClient(OperatorService, `127.0.0.1:${fleet.fleetPort}`, credentials)
  expect((await remote.getFleet({})).caPin).toBe(oldPin)
  const { manifest } = await operator.publish({ toml: '[hosts.slow]\n', files: LARGE_FILES })
  const raw = await RawMachine.make(fleet)
  await raw.enrol({ token: await makeToken(fleet, { host: 'slow' }) })
  // Only a machine that was seen is given orders.
  await using session = await raw.session()
  await session.untilReceived('welcome')
  using download = await downloadSlowly(raw)
  const { operations } = await fleet.api.giveOrders({
    refs: ['slow'],
    requestId: randomId(),
    action: { case: 'apply', value: {} },
  })
  const operationIds = operations.map(({ operationId }) => operationId)
  const watched = remote.watchOperations({ operationIds })[Symbol.asyncIterator]()
  expect((await watched.next()).done).toBe(false)
  const { authorities } = await fleet.api.rotateAuthority({ step: 'add' })
  operator.nextTrust({ caPins: authorities.map(({ pin }) => pin) })
  await operator.giveTrust()
  await fleet.api.rotateAuthority({ step: 'switch' })
  await expect(fleet.api.rotateAuthority({ step: 'drop' })).rejects.toMatchObject({
    code: status.FAILED_PRECONDITION,
  })
  const gone = async () =>
    (await fleet.api.getHealth({})).problems.filter(problem => problem.class === 'authority-gone')
  expect(await gone()).toEqual([])
  const before = Date.now()
  await fleet.api.rotateAuthority({ step: 'drop', force: true })
  const dropped = { code: status.UNAUTHENTICATED, message: expect.stringContaining('was dropped') }
  await expect(watched.next()).rejects.toMatchObject(dropped)
  const { bytes, end } = await download.rest()
  expect(end).toMatchObject(dropped)
  expect(bytes).toBeLessThan(Number(manifest.manifest.treeLength) / 2)
  // Cut off here: the set that follows is not given yet.
  const [told, more] = await gone()
  expect(told).toMatchObject({
    reason: expect.stringContaining(oldPin),
    remedy: 'muster trust rotate ca drop',
  })
  expect(millisOf(told?.since)).toBeGreaterThanOrEqual(before)
  expect(more).toBeUndefined()
  operator.nextTrust({ caPins: authorities.map(({ pin }) => pin).filter(pin => pin !== oldPin) })
  await operator.giveTrust()
  expect(await gone()).toEqual([])
  await expect(remote.getFleet({}, { deadlineMs: 5_000 })).rejects.toThrow()
  await untilEvent(fleet, '', 'authority', /drop \(forced\)/)
})
