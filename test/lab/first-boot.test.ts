import { fromBinary } from '@bufbuild/protobuf'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { FactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import { MachineState } from '../../shared/gen/muster/v1/machine_pb.ts'
import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'
import { waitUntil } from '../support/wait-until.ts'
import { SLOW_MS, VirtualFleet } from './vm/virtual-fleet.ts'
import { whyNoVirtualMachine } from './vm/why-not.ts'
import { SET_UP_MS } from './why-not.ts'

const why = whyNoVirtualMachine()
const DISK = 'S4EVNX0M777001'

describe.skipIf(why !== undefined)(
  `the first boot of a machine${why === undefined ? '' : ` (${why})`}`,
  // Each goes on from the one before: what is tried again says less than what failed.
  { retry: 0 },
  () => {
    let fleet: VirtualFleet

    const entries = async () => (await fleet.vm.sh('ls /boot/loader/entries')).trim().split('\n')

    beforeAll(async () => {
      fleet = await VirtualFleet.install(async () => ({
        diskSerial: DISK,
        hardware: { serial: 'LAB0777', product: 'N100' },
      }))
      await fleet.vm.boot()
    }, SET_UP_MS)
    afterAll(async () => await fleet?.[Symbol.asyncDispose]())

    it('enrols by itself and is shown as pending, with the serials that its firmware and disk give', {
      timeout: SLOW_MS,
    }, async () => {
      const waiting = await fleet.untilShown('pending', ({ state }) => state === MachineState.PENDING)
      expect(waiting).toMatchObject({ serial: 'LAB0777', product: 'N100', host: '' })
      const facts = fromBinary(FactsSchema, waiting.facts)
      expect(facts.disks.map(({ serial }) => serial)).toEqual([DISK])
      const shown = await fleet.centre.fleet.ok('show', waiting.id.slice(0, 12))
      expect(shown).toContain(DISK)
      // Who stands before the machine reads what lets it in.
      await waitUntil(
        'the command on its console',
        async () => {
          return (await fleet.vm.console()).includes(`muster approve ${waiting.id.slice(0, 12)}`) || undefined
        },
        { timeoutMs: SLOW_MS, everyMs: 1_000 },
      )
    })

    it('once approved is the host that names its disk, and applies what is published for it', {
      timeout: SLOW_MS,
    }, async () => {
      await fleet.approve()
      const { outcome, system } = await fleet.apply({
        generation: '2',
        etc: { proof: 'the second generation\n' },
      })
      expect(outcome, outcome.reason).toMatchObject({ class: OutcomeClass.SUCCEEDED })
      expect(await fleet.vm.state()).toMatchObject({ current: system, profile: system, bootDefault: system })
      expect(await fleet.vm.readFile('/etc/proof')).toBe('the second generation\n')
      expect(await entries()).toEqual(['nixos-generation-1.conf', 'nixos-generation-2.conf'])
      expect(fleet.vm.boots).toBe(1)
    })

    it('reaches another kernel command line by a trial boot, which becomes the default once it is proved', {
      timeout: SLOW_MS,
    }, async () => {
      const { outcome, system } = await fleet.apply({ generation: '3', kernelParams: ['lab.trial=3'] })
      expect(outcome, outcome.reason).toMatchObject({ class: OutcomeClass.SUCCEEDED })
      expect(fleet.vm.boots).toBe(2)
      expect(await fleet.vm.state()).toEqual({
        booted: system,
        current: system,
        profile: system,
        bootDefault: system,
      })
      expect(await fleet.vm.readFile('/proc/cmdline')).toContain('lab.trial=3')
    })

    it('is back in what it ran before by itself when the kernel of a trial boot panics, and says so', {
      timeout: SLOW_MS,
    }, async () => {
      const before = await fleet.vm.state()
      const panicking = { generation: '4', kernelParams: ['rdinit=/nothing', 'root=/dev/nothing'] }
      const { outcome } = await fleet.apply(panicking)
      expect(outcome, outcome.reason).toMatchObject({ class: OutcomeClass.ROLLED_BACK })
      expect(await fleet.vm.console()).toContain('Kernel panic')
      expect(fleet.vm.boots).toBe(3)
      expect(await fleet.vm.state()).toEqual(before)
    })
  },
)
