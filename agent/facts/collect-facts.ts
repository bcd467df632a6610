import { create } from '@bufbuild/protobuf'
import { type Facts, FactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import type { System } from '../system/system.ts'
import { boundFacts } from './bound-facts.ts'
import { collectCpu, type DescribeCpu } from './cpu-facts.ts'
import { collectDisks } from './disk-facts.ts'
import { collectFirmware } from './firmware-facts.ts'
import { collectInterfaces } from './interface-facts.ts'
import { collectMemory, compare } from './memory-facts.ts'
import { collectNixos } from './nixos-facts.ts'
import { collectOs } from './os-facts.ts'
import { collectPci } from './pci-facts.ts'
import { collectFrom, type Source } from './source.ts'
import { collectSshHostKeys } from './ssh-host-keys.ts'
import { collectSystem } from './system-facts.ts'

export interface CollectOptions {
  /** For each source; they run side by side. */
  readonly deadlineMs: number
  /** The facts come from a made-up root folder. */
  readonly simulated: boolean
  readonly now: Date
  readonly signal?: AbortSignal | undefined
  readonly describeCpu?: DescribeCpu | undefined
}

const MAX_WARNINGS = 64

/**
 * What the machine is. Never throws: a source that fails leaves its fields out and a warning in their place. The same
 * machine gives the same bytes, so nothing that changes by itself (load, temperatures, pods' interfaces) is in it, and
 * every list is sorted.
 */
export async function collectFacts(system: System, options: CollectOptions): Promise<Facts> {
  const warnings: string[] = []
  const from = async <T>(name: string, collector: (source: Source) => Promise<T>): Promise<T | undefined> => {
    const collected = await collectFrom(
      name,
      { system, deadlineMs: options.deadlineMs, signal: options.signal },
      collector,
    )
    warnings.push(...collected.warnings)
    return collected.facts
  }
  const [board, cpu, memory, disks, interfaces, pci, firmware, os, nixos, sshHostKeys] = await Promise.all([
    from('system', collectSystem),
    from('cpu', source => collectCpu(source, options.describeCpu)),
    from('memory', collectMemory),
    from('disks', collectDisks),
    from('interfaces', collectInterfaces),
    from('pci', collectPci),
    from('firmware', collectFirmware),
    from('os', source => collectOs(source, options.now)),
    from('nixos', collectNixos),
    from('ssh host keys', collectSshHostKeys),
  ])
  const told = [...new Set(warnings)].sort(compare)
  const facts = create(FactsSchema, {
    system: board,
    cpu,
    memory,
    disks: disks ?? [],
    interfaces: interfaces ?? [],
    pci: pci ?? [],
    firmware,
    os,
    nixos,
    sshHostKeys: sshHostKeys ?? [],
    warnings:
      told.length <= MAX_WARNINGS
        ? told
        : [...told.slice(0, MAX_WARNINGS - 1), `and ${told.length - MAX_WARNINGS + 1} more warnings`],
    simulated: options.simulated,
  })
  return boundFacts(facts)
}
