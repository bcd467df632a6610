import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { k0sConfig, k0sUnit } from '../../lab/clusters/k0s-files.ts'
import { packageIn } from '../../lab/clusters/packages.ts'
import { whyNoClusters } from '../../lab/clusters/programs.ts'
import { type LabFleet, startLabFleet } from '../../lab/lab-fleet.ts'
import { machineAddress } from '../../lab/network.ts'
import { SET_UP_MS } from '../../lab/why-not.ts'
import { COMES, HandMade } from './cluster.ts'

const why = whyNoClusters()
const VERSION = '1.34.3'
let fleet: LabFleet

beforeAll(async () => {
  if (why !== undefined) return
  const address = machineAddress(0)
  const system = {
    units: { 'k0s.service': k0sUnit({ version: VERSION, role: 'controller' }) },
    etc: { 'k0s/k0s.yaml': k0sConfig(address, [address]) },
  }
  fleet = await startLabFleet({ machines: ['n1'], kubernetes: true, systems: { n1: system } })
}, SET_UP_MS)

afterAll(async () => await fleet?.[Symbol.asyncDispose](), 60_000)

describe.skipIf(why !== undefined)(`a fleet that can run Kubernetes ${why ?? ''}`, () => {
  it('runs it from units of its systems, also after a power cut', async () => {
    const n1 = fleet.machine('n1')
    const made = new HandMade(fleet.lab, `${packageIn('k0s', VERSION)}/bin/k0s`)
    await n1.ok(['systemctl', 'start', 'k0s'])
    await made.untilServing('n1')
    await made.ok('n1', 'kubectl', 'create', 'configmap', 'kept')
    await n1.powerCut()
    await n1.boot()
    await n1.ok(['systemctl', 'start', 'k0s'])
    await made.untilServing('n1')
    await expect
      .poll(async () => (await made.run('n1', 'kubectl', 'get', 'configmap', 'kept')).code, {
        timeout: COMES.timeoutMs,
      })
      .toBe(0)
    await fleet.untilOnline('n1')
  })
})
