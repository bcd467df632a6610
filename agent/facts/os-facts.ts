import type { MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import type { OsFactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import { cleanText } from './clean-values.ts'
import type { Source } from './source.ts'

/** Clocks before this are a board's default and not a time. */
const EARLIEST_BOOT = Date.UTC(2020, 0, 1)
const DAY_MS = 24 * 60 * 60 * 1000

export async function collectOs(source: Source, now: Date): Promise<MessageInitShape<typeof OsFactsSchema>> {
  const release = parseOsRelease((await source.text('/etc/os-release', { maxBytes: 16 * 1024 })) ?? '')
  const bootId = (await source.text('/proc/sys/kernel/random/boot_id'))?.trim()
  const isBootId = bootId !== undefined && /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(bootId)
  if (!isBootId) source.warn('/proc/sys/kernel/random/boot_id: tells no boot id')
  return {
    id: release.get('ID'),
    prettyName: release.get('PRETTY_NAME'),
    kernel: cleanText((await source.text('/proc/sys/kernel/osrelease')) ?? ''),
    bootId: isBootId ? bootId : undefined,
    bootedAt: await bootedAt(source, now),
  }
}

async function bootedAt(source: Source, now: Date) {
  const stat = await source.text('/proc/stat', { maxBytes: 4 * 1024 * 1024 })
  const seconds = /^btime (\d{1,12})$/m.exec(stat ?? '')?.[1]
  const ms = Number(seconds) * 1000
  if (seconds !== undefined && ms >= EARLIEST_BOOT && ms <= now.getTime() + DAY_MS) {
    return timestampFromDate(new Date(ms))
  }
  source.warn(
    seconds === undefined
      ? '/proc/stat: tells no btime'
      : `/proc/stat: btime ${seconds} is no likely time; is the clock set?`,
  )
  return undefined
}

/** The assignments of os-release, without their quotes. */
function parseOsRelease(text: string): ReadonlyMap<string, string> {
  const fields = new Map<string, string>()
  for (const line of text.split('\n')) {
    const match = /^([A-Z0-9_]+)=(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([^\s"']*))\s*$/.exec(line)
    const name = match?.[1]
    const value = match?.[2]?.replace(/\\(.)/g, '$1') ?? match?.[3] ?? match?.[4]
    const cleaned = value === undefined ? undefined : cleanText(value)
    if (name !== undefined && cleaned !== undefined) fields.set(name, cleaned)
  }
  return fields
}
