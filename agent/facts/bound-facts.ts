import { toBinary } from '@bufbuild/protobuf'
import { type Facts, FactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'

/** What an enrolment request may carry. */
export const MAX_FACTS_BYTES = 64 * 1024

/** What is left out, step by step, of facts that are too long: first what decides least. */
const STEPS: readonly { readonly what: string; apply(facts: Facts): void }[] = [
  {
    what: 'descriptions of PCI devices',
    apply: facts => {
      for (const device of facts.pci) delete device.description
    },
  },
  {
    what: 'PCI devices that are no GPU',
    apply: facts => {
      facts.pci = facts.pci.filter(device => device.gpu).slice(0, 64)
    },
  },
  {
    what: 'interfaces without hardware and all but 4 addresses of each',
    apply: facts => {
      facts.interfaces = facts.interfaces.filter(one => one.physical)
      for (const one of facts.interfaces) one.addresses = one.addresses.slice(0, 4)
    },
  },
  {
    what: 'all but 32 memory modules, 64 interfaces and 64 disks',
    apply: facts => {
      if (facts.memory) facts.memory.modules = facts.memory.modules.slice(0, 32)
      facts.interfaces = facts.interfaces.slice(0, 64)
      facts.disks = facts.disks.slice(0, 64)
    },
  },
  {
    what: 'all but 16 of everything',
    apply: facts => {
      if (facts.memory) facts.memory.modules = facts.memory.modules.slice(0, 16)
      facts.pci = facts.pci.slice(0, 16)
      facts.interfaces = facts.interfaces.slice(0, 16)
      facts.disks = facts.disks.slice(0, 16)
      facts.warnings = facts.warnings.slice(0, 16)
    },
  },
]

/** Shortens facts until they fit, and says in a warning what was left out. */
export function boundFacts(facts: Facts, maxBytes = MAX_FACTS_BYTES): Facts {
  for (const { what, apply } of STEPS) {
    if (toBinary(FactsSchema, facts).length <= maxBytes) break
    apply(facts)
    facts.warnings = [`facts: longer than ${maxBytes} bytes: left out ${what}`, ...facts.warnings].slice(
      0,
      64,
    )
  }
  return facts
}
