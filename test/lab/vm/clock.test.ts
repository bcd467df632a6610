import { mkdtemp, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Machine, MachineState } from '../../../shared/gen/muster/v1/operator_pb.ts'
import { randomId } from '../../../shared/ids.ts'
import { waitUntil } from '../../support/wait-until.ts'
import { type AgentProgram, buildAgentProgram } from '../agent-program.ts'
import { type Lab, startLab } from '../lab.ts'
import { type Centre, PORTS, startCentre } from '../lab-fleet.ts'
import { COORDINATOR_ADDRESS } from '../network.ts'
import { inWords } from '../safety/safe-fleet.ts'
import { buildSystems, type SystemOptions, writeSystemsFlake } from '../systems.ts'
import { SET_UP_MS } from '../why-not.ts'
import { VirtualMachine, virtualAddress } from './virtual-machine.ts'
import { virtualSystem } from './virtual-system.ts'
import { whyNoVirtualMachine } from './why-not.ts'

const why = whyNoVirtualMachine()
const DISK = 'S4EVNX0M777002'
const HOUR_MS = 3_600_000
const SLOW_MS = 10 * 60_000
const slowly = { timeoutMs: SLOW_MS, everyMs: 1_000 }

describe.skipIf(why !== undefined)(`a clock that is wrong${why === undefined ? '' : ` (${why})`}`, () => {
  let lab: Lab
  let centre: Centre
  let agent: AgentProgram
  let vm: VirtualMachine

  const systemOf = async (change: SystemOptions = {}) =>
    await virtualSystem({
      hostName: 'olaf',
      network: { address: virtualAddress(0) },
      agent: {
        package: agent.path,
        config: {
          coordinator: `${COORDINATOR_ADDRESS}:${PORTS.enrolment}`,
          caPin: await centre.fleet.caPin(),
          trustPin: centre.operator.trustPin,
          keyBits: 2048,
          retry: { firstMs: 500, mostMs: 2_000 },
          sourceBuild: { enabled: true, leastMemoryBytes: 0 },
        },
        deadMan: agent.deadMan,
      },
      ...change,
    })

  const untilShown = async (what: string, accept: (machine: Machine) => boolean) =>
    await waitUntil(
      `machine that is ${what}`,
      async () => (await centre.fleet.api.listMachines({ where: '' })).machines.find(accept),
      slowly,
    )

  beforeAll(async () => {
    if (why !== undefined) return
    agent = await buildAgentProgram()
    lab = await startLab()
    centre = await startCentre(lab)
    const { olaf } = await buildSystems({ olaf: await systemOf() })
    vm = await VirtualMachine.install(lab, 'olaf', 0, {
      systems: [olaf],
      store: [agent.node, agent.path],
      hardware: { serial: 'LAB0778', diskSerial: DISK },
    })
    await vm.boot({ clock: new Date(Date.now() + HOUR_MS) })
  }, SET_UP_MS)
  afterAll(async () => await lab?.[Symbol.asyncDispose]())

  it('by an hour lets the machine in, is shown, and refuses what is ordered before anything is touched', {
    timeout: SLOW_MS,
  }, async () => {
    const { id } = await untilShown('pending', ({ state }) => state === MachineState.PENDING)
    await centre.fleet.ok('approve', id.slice(0, 12))
    await untilShown('active', ({ state, online }) => state === MachineState.ACTIVE && online)
    const before = await vm.state()
    const directory = await mkdtemp(join(lab.dir, 'fleet-'))
    await writeSystemsFlake(directory, { olaf: await systemOf({ generation: '2' }) })
    const head = `[fleet]\nname = "lab"\nid = "${centre.operator.fleetId}"\n`
    const host = `[hosts.olaf]\nconfig = "nixosConfigurations.olaf"\ndisk = { serial = "${DISK}" }\n`
    await writeFile(join(directory, 'fleet.toml'), `${head}\n${host}`)
    await centre.operator.publish({ directory })
    await untilShown('olaf', machine => machine.host === 'olaf')
    const { operations } = await centre.fleet.api.giveOrders({
      refs: ['olaf'],
      requestId: randomId(),
      action: { case: 'apply', value: { revision: 0n } },
    })
    const operationIds = [operations[0]?.operationId ?? '']
    const outcome = await waitUntil(
      'outcome',
      async () => (await centre.fleet.api.listOperations({ operationIds })).operations[0]?.outcome,
      slowly,
    )
    expect(inWords(outcome)).toBe('refused clock')
    expect(outcome.reason).toMatch(/ahead of the coordinator's/)
    expect(await vm.state()).toEqual(before)
  })
})
