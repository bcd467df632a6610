import type { MessageInitShape } from '@bufbuild/protobuf'
import type { CpuFactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import { cleanText } from './clean-values.ts'
import { isObject, objectsIn, parseJson, stringAt } from './parse-json.ts'
import type { Source } from './source.ts'

const CPUS = '/sys/devices/system/cpu'
const MAX_THREADS = 4_096

/** Names a processor where the kernel does not (most ARM boards). */
export type DescribeCpu = () => Promise<{ readonly model?: string; readonly vendor?: string }>

export async function collectCpu(
  source: Source,
  describeCpu?: DescribeCpu,
): Promise<MessageInitShape<typeof CpuFactsSchema>> {
  const text = await source.text('/proc/cpuinfo', { maxBytes: 8 * 1024 * 1024 })
  if (text === undefined) source.warn('/proc/cpuinfo: missing')
  const info = parseCpuInfo(text ?? '')
  const topology = info.sockets === undefined ? await readTopology(source, info.threads ?? 0) : info
  const named = info.model === undefined ? await nameOf(source, describeCpu) : info
  return {
    model: named.model,
    vendor: info.vendor ?? named.vendor,
    architecture: await architecture(source),
    sockets: count(topology.sockets),
    cores: count(topology.cores),
    threads: count(info.threads),
  }
}

export interface CpuInfo {
  readonly model?: string | undefined
  readonly vendor?: string | undefined
  readonly sockets?: number | undefined
  readonly cores?: number | undefined
  readonly threads?: number | undefined
}

/** Reads /proc/cpuinfo: one block for each thread, with the place of the thread only where the kernel tells it. */
function parseCpuInfo(text: string): CpuInfo {
  const sockets = new Set<string>()
  const cores = new Set<string>()
  let threads = 0
  let placed = 0
  let model: string | undefined
  let vendor: string | undefined
  for (const block of text.split(/\n\s*\n/)) {
    const fields = new Map(
      block.split('\n').flatMap(line => {
        const colon = line.indexOf(':')
        return colon < 0 ? [] : [[line.slice(0, colon).trim(), line.slice(colon + 1).trim()] as const]
      }),
    )
    if (!/^\d+$/.test(fields.get('processor') ?? '')) continue
    threads += 1
    model ??= cleanText(fields.get('model name') ?? '')
    vendor ??= cleanText(fields.get('vendor_id') ?? '')
    const socket = fields.get('physical id')
    const core = fields.get('core id')
    if (socket === undefined || core === undefined) continue
    placed += 1
    sockets.add(socket)
    cores.add(`${socket}/${core}`)
  }
  const whole = placed === threads && threads > 0
  return {
    model,
    vendor,
    threads: threads > 0 ? threads : undefined,
    sockets: whole ? sockets.size : undefined,
    cores: whole ? cores.size : undefined,
  }
}

/** Sockets and cores from /sys; nothing unless every thread has its place (some boards say -1). */
async function readTopology(source: Source, threads: number): Promise<{ sockets?: number; cores?: number }> {
  const names = (await source.names(CPUS)).filter(name => /^cpu\d+$/.test(name)).slice(0, MAX_THREADS)
  const sockets = new Set<string>()
  const cores = new Set<string>()
  let placed = 0
  for (const name of names) {
    const socket = (await source.text(`${CPUS}/${name}/topology/physical_package_id`))?.trim()
    const core = (await source.text(`${CPUS}/${name}/topology/core_id`))?.trim()
    if (socket === undefined || core === undefined || !/^\d+$/.test(socket) || !/^\d+$/.test(core)) continue
    placed += 1
    sockets.add(socket)
    cores.add(`${socket}/${core}`)
  }
  return placed > 0 && placed === threads ? { sockets: sockets.size, cores: cores.size } : {}
}

async function nameOf(source: Source, describeCpu: DescribeCpu | undefined): Promise<CpuInfo> {
  const printed = await source.output('lscpu', ['-J'])
  const json = printed === undefined ? undefined : parseJson(source, 'lscpu', printed)
  const fields = flatten(isObject(json) ? json.lscpu : undefined)
  const value = (field: string) => {
    const data = cleanText(fields.get(field) ?? '')
    return data === '-' ? undefined : data
  }
  const model = value('Model name:')
  if (model !== undefined || describeCpu === undefined) return { model, vendor: value('Vendor ID:') }
  return describeCpu()
}

/** Newer versions of lscpu nest their fields. */
function flatten(value: unknown, depth = 0): Map<string, string> {
  const fields = new Map<string, string>()
  if (depth > 4) return fields
  for (const item of objectsIn(value)) {
    const name = stringAt(item, 'field')
    const data = stringAt(item, 'data')
    if (name !== undefined && data !== undefined && !fields.has(name)) fields.set(name, data)
    for (const [key, inner] of flatten(item.children, depth + 1)) if (!fields.has(key)) fields.set(key, inner)
  }
  return fields
}

/** The kernel's own word (since Linux 6.1), else that of uname. */
async function architecture(source: Source): Promise<string | undefined> {
  const text = (await source.text('/proc/sys/kernel/arch')) ?? (await source.output('uname', ['-m']))
  const value = text?.trim()
  if (value === undefined || /^[a-z0-9_]{1,32}$/.test(value)) return value
  source.warn('uname: prints no architecture')
  return undefined
}

function count(value: number | undefined): bigint | undefined {
  return value === undefined ? undefined : BigInt(value)
}
