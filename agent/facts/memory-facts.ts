import type { MessageInitShape } from '@bufbuild/protobuf'
import type { MemoryFactsSchema, MemoryModuleSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import { cleanText, isPlaceholder } from './clean-values.ts'
import type { Source } from './source.ts'

type Module = MessageInitShape<typeof MemoryModuleSchema>

const MAX_MODULES = 256
const UNITS: Readonly<Record<string, number>> = { bytes: 0, kB: 1, KB: 1, MB: 2, GB: 3, TB: 4 }

export async function collectMemory(source: Source): Promise<MessageInitShape<typeof MemoryFactsSchema>> {
  const info = await source.text('/proc/meminfo', { maxBytes: 64 * 1024 })
  const total = /^MemTotal:\s+(\d{1,12}) kB$/m.exec(info ?? '')?.[1]
  if (total === undefined) source.warn('/proc/meminfo: tells no MemTotal')
  return {
    total: total === undefined ? undefined : BigInt(total) * 1024n,
    modules: await collectModules(source),
  }
}

/** Memory modules as SMBIOS lists them. Without SMBIOS there is nothing to ask. */
async function collectModules(source: Source): Promise<Module[]> {
  if (!(await source.has('/sys/class/dmi/id'))) return []
  const printed = await source.output('dmidecode', ['-t', '17'])
  return printed === undefined ? [] : parseMemoryModules(printed)
}

/** The modules in what `dmidecode -t 17` prints; empty slots are left out. */
function parseMemoryModules(text: string): Module[] {
  const modules: Module[] = []
  for (const block of text.split(/\n\s*\n/)) {
    if (!/^Memory Device$/m.test(block)) continue
    const fields = new Map(
      Array.from(
        block.matchAll(/^\t([^\t:]+): *(.*)$/gm),
        match => [match[1] ?? '', match[2] ?? ''] as const,
      ),
    )
    const value = (name: string) => {
      const cleaned = cleanText(fields.get(name) ?? '', 64)
      return cleaned === undefined || isPlaceholder(cleaned) ? undefined : cleaned
    }
    const size = parseSize(fields.get('Size') ?? '')
    if (size === undefined || size === 0n) continue // an empty slot, or one whose size nobody knows
    const speed = /^(\d{1,6}) (MT\/s|MHz)$/.exec(
      fields.get('Configured Memory Speed') ?? fields.get('Speed') ?? '',
    )
    modules.push({
      // "Not Specified" or the like, but "0" is a name that some boards really print.
      locator: cleanText(fields.get('Locator') ?? '', 64),
      size,
      kind: value('Type'),
      speedMts: speed?.[1] === undefined || speed[1] === '0' ? undefined : BigInt(speed[1]),
      manufacturer: value('Manufacturer'),
      serial: value('Serial Number'),
    })
  }
  return modules
    .sort((a, b) => compare(a.locator ?? '', b.locator ?? '') || compare(a.serial ?? '', b.serial ?? ''))
    .slice(0, MAX_MODULES)
}

function parseSize(text: string): bigint | undefined {
  const match = /^(\d{1,9}) (bytes|kB|KB|MB|GB|TB)$/.exec(text.trim())
  const power = match?.[2] === undefined ? undefined : UNITS[match[2]]
  if (match?.[1] === undefined || power === undefined) return undefined
  const size = BigInt(match[1]) * 1024n ** BigInt(power)
  return size <= BigInt(Number.MAX_SAFE_INTEGER) ? size : undefined
}

/** By code units: the same on every machine, whatever its locale. */
export function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
