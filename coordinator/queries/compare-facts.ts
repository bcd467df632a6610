import type { DescMessage, Message } from '@bufbuild/protobuf'
import { isFieldSet, toJson } from '@bufbuild/protobuf'
import { type ReflectMessage, reflect } from '@bufbuild/protobuf/reflect'
import {
  CpuFactsSchema,
  DiskFactsSchema,
  type Facts,
  FirmwareFactsSchema,
  InterfaceFactsSchema,
  MemoryFactsSchema,
  MemoryModuleSchema,
  NixosFactsSchema,
  OsFactsSchema,
  PciFactsSchema,
  SystemFactsSchema,
} from '../../shared/gen/muster/v1/facts_pb.ts'

/** One thing that differs between two sets of facts. */
export interface FactsDifference {
  readonly part: string
  /** Which of several; empty: there is only one. */
  readonly name: string
  /** Empty: the part as a whole came or went. */
  readonly field: string
  /** JSON text; empty: not there. */
  readonly before: string
  readonly after: string
  readonly hardware: boolean
}

interface Part {
  readonly name: string
  readonly schema: DescMessage
  /** Each under what tells it from the others whatever the kernel calls it today. */
  readonly items: (facts: Facts) => readonly (readonly [key: string, item: Message | undefined])[]
  /** Fields that say nothing of the hardware: names of the kernel, what runs, what is plugged in right now. */
  readonly soft: readonly string[] | 'all'
}

/** The same key twice (two disks without a serial and of one model) gets a number behind it. */
function keyed<T extends Message>(
  items: readonly T[],
  keyOf: (item: T) => string,
): readonly (readonly [string, T])[] {
  const seen = new Map<string, number>()
  return items.map(item => {
    const key = keyOf(item)
    const count = (seen.get(key) ?? 0) + 1
    seen.set(key, count)
    return [count === 1 ? key : `${key} (${count})`, item]
  })
}

const one = (item: Message | undefined) => [['', item]] as const

const PARTS: readonly Part[] = [
  {
    name: 'system',
    schema: SystemFactsSchema,
    items: ({ system }) => one(system),
    soft: ['hostname', 'machineId'],
  },
  { name: 'cpu', schema: CpuFactsSchema, items: ({ cpu }) => one(cpu), soft: [] },
  { name: 'memory', schema: MemoryFactsSchema, items: ({ memory }) => one(memory), soft: ['total'] },
  {
    name: 'module',
    schema: MemoryModuleSchema,
    items: ({ memory }) =>
      keyed(memory?.modules ?? [], ({ locator, serial }) => locator || serial || 'module'),
    soft: [],
  },
  {
    name: 'disk',
    schema: DiskFactsSchema,
    items: ({ disks }) => keyed(disks, ({ serial, wwn, model, name }) => serial || wwn || model || name),
    soft: ['name', 'path'],
  },
  {
    name: 'interface',
    schema: InterfaceFactsSchema,
    items: ({ interfaces }) =>
      keyed(
        interfaces.filter(({ physical }) => physical),
        ({ mac, name }) => mac || name,
      ),
    soft: ['name', 'speed', 'carrier', 'mtu', 'driver', 'addresses'],
  },
  {
    name: 'virtual-interface',
    schema: InterfaceFactsSchema,
    items: ({ interfaces }) =>
      keyed(
        interfaces.filter(({ physical }) => !physical),
        ({ name }) => name,
      ),
    soft: 'all',
  },
  {
    name: 'pci',
    schema: PciFactsSchema,
    items: ({ pci }) => keyed(pci, ({ slot }) => slot),
    soft: ['driver', 'description'],
  },
  {
    name: 'firmware',
    schema: FirmwareFactsSchema,
    items: ({ firmware }) => one(firmware),
    soft: ['bootLoader'],
  },
  { name: 'os', schema: OsFactsSchema, items: ({ os }) => one(os), soft: 'all' },
  { name: 'nixos', schema: NixosFactsSchema, items: ({ nixos }) => one(nixos), soft: 'all' },
]

/** Total memory moves by what the kernel keeps for itself; only more than this share of it is another amount. */
const MEMORY_SHARE = 32n

/**
 * What changed between two sets of facts of one machine. A disk that the kernel names anew, or a memory total that moved by
 * what another kernel keeps for itself, is no change of the hardware; a value that could not be read once is told as not
 * known, since nobody can say that it changed.
 */
export function compareFacts(before: Facts, after: Facts): readonly FactsDifference[] {
  const differences = PARTS.flatMap(part => comparePart(part, before, after))
  const keys = { part: 'ssh', name: '', field: 'hostKeys', hardware: false }
  const [old, fresh] = [before, after].map(({ sshHostKeys }) => JSON.stringify(sshHostKeys.toSorted()))
  if (old !== fresh) differences.push({ ...keys, before: old ?? '', after: fresh ?? '' })
  return differences
}

function comparePart(part: Part, before: Facts, after: Facts): FactsDifference[] {
  const old = new Map(part.items(before))
  const fresh = new Map(part.items(after))
  const names = [...new Set([...old.keys(), ...fresh.keys()])]
  return names.flatMap(name => compareItem(part, name, old.get(name), fresh.get(name), { before, after }))
}

function compareItem(
  part: Part,
  name: string,
  old: Message | undefined,
  fresh: Message | undefined,
  whole: { readonly before: Facts; readonly after: Facts },
): FactsDifference[] {
  const { schema, soft } = part
  const base = { part: part.name, name }
  if (old === undefined || fresh === undefined) {
    if (old === fresh) return []
    const text = (item: Message | undefined) =>
      item === undefined ? '' : JSON.stringify(toJson(schema, item))
    return [{ ...base, field: '', before: text(old), after: text(fresh), hardware: soft !== 'all' }]
  }
  const [a, b] = [reflect(schema, old), reflect(schema, fresh)]
  return schema.fields.flatMap(field => {
    // Modules are a part of their own.
    if (part.name === 'memory' && field.localName === 'modules') return []
    const [before, after] = [fieldText(a, field.localName), fieldText(b, field.localName)]
    if (before === after) return []
    const isTotal = part.name === 'memory' && field.localName === 'total'
    const hardware = isTotal
      ? isOtherAmount(whole.before.memory?.total, whole.after.memory?.total)
      : soft !== 'all' && !soft.includes(field.localName)
    return [{ ...base, field: field.localName, before, after, hardware }]
  })
}

function isOtherAmount(before: bigint | undefined, after: bigint | undefined): boolean {
  if (before === undefined || after === undefined) return true
  const difference = before > after ? before - after : after - before
  return difference * MEMORY_SHARE > before
}

/** One field as JSON; empty: it is not set. */
function fieldText(message: ReflectMessage, name: string): string {
  const field = message.desc.fields.find(({ localName }) => localName === name)
  if (!field || !isFieldSet(message.message, field)) return ''
  const json = toJson(message.desc, message.message, { alwaysEmitImplicit: true })
  const value =
    typeof json === 'object' && json !== null && !Array.isArray(json) ? json[field.jsonName] : undefined
  return value === undefined ? '' : JSON.stringify(value)
}
