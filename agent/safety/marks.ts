import { readSlot, type SlotReading, writeSlot } from './slot.ts'
import type { BootTime } from './uptime.ts'

/** Written by a unit itself before its command: it began. */
export interface StartMark {
  readonly at: Date
  /** The same moment by the boot, which no clock moves; undefined: it could not be read. */
  readonly boot: BootTime | undefined
}

/** Written by a unit itself after its command, whatever happened: how it ended, as systemd told the unit. */
export interface EndMark {
  readonly at: Date
  /** SERVICE_RESULT: "success", "exit-code", "signal", "timeout", …. */
  readonly result: string
  /** EXIT_CODE: "exited", "killed" or "dumped"; empty: the command was never run. */
  readonly code: string
  /** EXIT_STATUS: a number, or a signal's name without SIG. */
  readonly status: string
}

export type MarkReading<T> =
  | { readonly kind: 'marked'; readonly mark: T }
  | { readonly kind: 'unmarked' }
  | { readonly kind: 'unreadable'; readonly reason: string }

export async function writeStartMark(slot: string, now: Date, boot: BootTime | undefined): Promise<void> {
  await writeSlot(slot, { at: now.toISOString(), ...(boot && { boot }) })
}

export async function writeEndMark(
  slot: string,
  env: Readonly<Record<string, string | undefined>>,
  now: Date,
): Promise<void> {
  const text = (name: string) => (env[name] ?? '').slice(0, 64)
  await writeSlot(slot, {
    at: now.toISOString(),
    result: text('SERVICE_RESULT'),
    code: text('EXIT_CODE'),
    status: text('EXIT_STATUS'),
  })
}

export async function readStartMark(slot: string): Promise<MarkReading<StartMark>> {
  return parse(await readSlot(slot), fields => ({ at: timeOf(fields), boot: bootOf(fields.get('boot')) }))
}

export async function readEndMark(slot: string): Promise<MarkReading<EndMark>> {
  return parse(await readSlot(slot), fields => ({
    at: timeOf(fields),
    result: textOf(fields, 'result'),
    code: textOf(fields, 'code'),
    status: textOf(fields, 'status'),
  }))
}

function parse<T>(reading: SlotReading, read: (fields: ReadonlyMap<string, unknown>) => T): MarkReading<T> {
  switch (reading.kind) {
    case 'empty':
    case 'missing':
      return { kind: 'unmarked' }
    case 'damaged':
      return { kind: 'unreadable', reason: reading.reason }
    case 'value':
      try {
        const { value } = reading
        return { kind: 'marked', mark: read(new Map(Object.entries(value ?? {}))) }
      } catch (error) {
        return { kind: 'unreadable', reason: error instanceof Error ? error.message : String(error) }
      }
  }
}

function bootOf(value: unknown): BootTime | undefined {
  const fields = new Map<string, unknown>(Object.entries(value ?? {}))
  const [bootId, uptimeMs] = [fields.get('bootId'), fields.get('uptimeMs')]
  return typeof bootId === 'string' && typeof uptimeMs === 'number' ? { bootId, uptimeMs } : undefined
}

function textOf(fields: ReadonlyMap<string, unknown>, name: string): string {
  const value = fields.get(name)
  if (typeof value !== 'string') throw new Error(`${name}: must be text`)
  return value
}

function timeOf(fields: ReadonlyMap<string, unknown>): Date {
  const at = new Date(textOf(fields, 'at'))
  if (Number.isNaN(at.getTime())) throw new Error('at: not a time')
  return at
}
