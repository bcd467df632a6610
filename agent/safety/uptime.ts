import type { System } from '../system/system.ts'

/** A moment of one boot: what a deadline is measured by, because a clock can be set and a boot cannot. */
export interface BootTime {
  /** /proc/sys/kernel/random/boot_id. */
  readonly bootId: string
  /** Milliseconds since that boot, as /proc/uptime counts them. */
  readonly uptimeMs: number
}

/** This moment. Throws where the machine does not tell: nothing may be armed without it. */
export async function readBootTime(system: Pick<System, 'readFile'>): Promise<BootTime> {
  const [id, uptime] = await Promise.all([
    system.readFile('/proc/sys/kernel/random/boot_id', 64),
    system.readFile('/proc/uptime', 64),
  ])
  const bootId = id.kind === 'file' ? id.bytes.toString('utf8').trim() : ''
  const seconds = uptime.kind === 'file' ? Number(uptime.bytes.toString('utf8').split(' ')[0]) : Number.NaN
  if (bootId === '' || !Number.isFinite(seconds)) {
    throw new Error('/proc/sys/kernel/random/boot_id or /proc/uptime cannot be read')
  }
  return { bootId, uptimeMs: Math.round(seconds * 1_000) }
}
