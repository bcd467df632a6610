import { mkdtemp, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fromBinary } from '@bufbuild/protobuf'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { FactsSchema } from '../../../shared/gen/muster/v1/facts_pb.ts'
import { type Outcome, OutcomeClass } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { type Machine, MachineState } from '../../../shared/gen/muster/v1/operator_pb.ts'
import { randomId } from '../../../shared/ids.ts'
import { waitUntil } from '../../support/wait-until.ts'
import { type AgentProgram, buildAgentProgram } from '../agent-program.ts'
import { type Lab, startLab } from '../lab.ts'
import { type Centre, PORTS, startCentre } from '../lab-fleet.ts'
import { COORDINATOR_ADDRESS } from '../network.ts'
import { buildSystems, type SystemOptions, writeSystemsFlake } from '../systems.ts'
import { SET_UP_MS } from '../why-not.ts'
import { VirtualMachine, virtualAddress } from './virtual-machine.ts'
import { virtualSystem } from './virtual-system.ts'
import { whyNoVirtualMachine } from './why-not.ts'

const why = whyNoVirtualMachine()
const DISK = 'S4EVNX0M777001'
/** Emulated processors evaluate, build and start a Node slowly, and more so on a busy host. */
const SLOW_MS = 20 * 60_000
const slowly = { timeoutMs: SLOW_MS, everyMs: 1_000 }

describe.skipIf(why !== undefined)(
  `the first boot of a machine${why === undefined ? '' : ` (${why})`}`,
  () => {
    let lab: Lab
    let centre: Centre
    let agent: AgentProgram
    let vm: VirtualMachine

    /** A system with network and agent; the agent knows an address and two pins, and has no token. */
    async function systemOf(change: SystemOptions = {}): Promise<SystemOptions> {
      const config = {
        coordinator: `${COORDINATOR_ADDRESS}:${PORTS.enrolment}`,
        caPin: await centre.fleet.caPin(),
        trustPin: centre.operator.trustPin,
        keyBits: 2048,
        allow: ['apply', 'reboot'],
        retry: { firstMs: 500, mostMs: 2_000 },
        sourceBuild: { enabled: true, leastMemoryBytes: 0 },
      }
      return await virtualSystem({
        hostName: 'olaf',
        network: { address: virtualAddress(0) },
        agent: { package: agent.path, config, deadMan: agent.deadMan },
        ...change,
      })
    }

    async function untilShown(what: string, accept: (machine: Machine) => boolean): Promise<Machine> {
      const look = async () => {
        const { machines } = await centre.fleet.api.listMachines({ where: '', withFacts: true })
        return machines.find(accept)
      }
      return await waitUntil(`machine that is ${what}`, look, slowly).catch(async (error: Error) => {
        throw new Error(
          `${error.message}; its agent says:\n${await vm.journal('muster-agent', '--lines=30')}`,
        )
      })
    }

    const entries = async () => (await vm.sh('ls /boot/loader/entries')).trim().split('\n')

    /** Publishes another system for the machine, orders it there, and waits for the end. */
    async function publishAndApply(change: SystemOptions): Promise<{ outcome: Outcome; system: string }> {
      const directory = await mkdtemp(join(lab.dir, 'fleet-'))
      const options = await systemOf(change)
      await writeSystemsFlake(directory, { olaf: options })
      const fleet = ['[fleet]', 'name = "lab"', `id = "${centre.operator.fleetId}"`, '']
      const host = [
        '[hosts.olaf]',
        'config = "nixosConfigurations.olaf"',
        `disk = { serial = "${DISK}" }`,
        'soak = "2s"',
        'confirm-within = "15m"',
        'reboot = "whenever-changed"',
      ]
      await writeFile(join(directory, 'fleet.toml'), [...fleet, ...host, ''].join('\n'))
      await centre.operator.publish({ directory })
      await untilShown('olaf', machine => machine.host === 'olaf')
      const { operations } = await centre.fleet.api.giveOrders({
        refs: ['olaf'],
        requestId: randomId(),
        action: { case: 'apply', value: { revision: 0n } },
      })
      const id = operations[0]?.operationId ?? ''
      const look = async () =>
        (await centre.fleet.api.listOperations({ operationIds: [id] })).operations[0]?.outcome
      const outcome = await waitUntil(`outcome of ${id}`, look, slowly).catch(async (error: Error) => {
        throw new Error(
          `${error.message}; its agent says:\n${await vm.journal('muster-agent', '--lines=40')}`,
        )
      })
      const { olaf: system } = await buildSystems({ olaf: options })
      return { outcome, system }
    }

    beforeAll(async () => {
      agent = await buildAgentProgram()
      lab = await startLab()
      centre = await startCentre(lab)
      const { olaf } = await buildSystems({ olaf: await systemOf() })
      const hardware = { serial: 'LAB0777', product: 'N100', diskSerial: DISK }
      vm = await VirtualMachine.install(lab, 'olaf', 0, {
        systems: [olaf],
        store: [agent.node, agent.path],
        hardware,
      })
      await vm.boot()
    }, SET_UP_MS)

    afterAll(async () => {
      await lab?.[Symbol.asyncDispose]()
    })

    it('enrols by itself and is shown as pending, with the serials that its firmware and disk give', {
      timeout: SLOW_MS,
    }, async () => {
      const waiting = await untilShown('pending', ({ state }) => state === MachineState.PENDING)
      expect(waiting).toMatchObject({ serial: 'LAB0777', product: 'N100', host: '' })
      const facts = fromBinary(FactsSchema, waiting.facts)
      expect(facts.disks.map(({ serial }) => serial)).toEqual([DISK])
      const shown = await centre.fleet.ok('show', waiting.id.slice(0, 12))
      expect(shown).toContain(DISK)
      // Who stands before the machine reads what lets it in.
      await waitUntil(
        'the command on its console',
        async () => {
          return (await vm.console()).includes(`muster approve ${waiting.id.slice(0, 12)}`) || undefined
        },
        slowly,
      )
    })

    it('once approved is the host that names its disk, and applies what is published for it', {
      timeout: SLOW_MS,
    }, async () => {
      const waiting = await untilShown('pending', ({ state }) => state === MachineState.PENDING)
      await centre.fleet.ok('approve', waiting.id.slice(0, 12))
      await untilShown('active', ({ state, online }) => state === MachineState.ACTIVE && online)

      const { outcome, system } = await publishAndApply({
        generation: '2',
        etc: { proof: 'the second generation\n' },
      })
      expect(outcome).toMatchObject({ class: OutcomeClass.SUCCEEDED })
      expect(await vm.state()).toMatchObject({ current: system, profile: system, bootDefault: system })
      expect(await vm.readFile('/etc/proof')).toBe('the second generation\n')
      expect(await entries()).toEqual(['nixos-generation-1.conf', 'nixos-generation-2.conf'])
      expect(vm.boots).toBe(1)
    })

    it('reaches another kernel command line by a trial boot, which becomes the default once it is proved', {
      timeout: SLOW_MS,
    }, async () => {
      const { outcome, system } = await publishAndApply({ generation: '3', kernelParams: ['lab.trial=3'] })
      expect(outcome).toMatchObject({ class: OutcomeClass.SUCCEEDED })
      expect(vm.boots).toBe(2)
      expect(await vm.state()).toEqual({
        booted: system,
        current: system,
        profile: system,
        bootDefault: system,
      })
      expect(await vm.readFile('/proc/cmdline')).toContain('lab.trial=3')
    })

    it('is back in what it ran before by itself when the kernel of a trial boot panics, and says so', {
      timeout: SLOW_MS,
    }, async () => {
      const before = await vm.state()
      const panicking = { generation: '4', kernelParams: ['rdinit=/nothing', 'root=/dev/nothing'] }
      const { outcome } = await publishAndApply(panicking)
      expect(outcome).toMatchObject({ class: OutcomeClass.ROLLED_BACK })
      expect(await vm.console()).toContain('Kernel panic')
      expect(vm.boots).toBe(3)
      expect(await vm.state()).toEqual(before)
    })
  },
)
