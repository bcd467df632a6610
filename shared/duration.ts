const UNITS: Readonly<Record<string, number>> = {
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
}

/** Reads a duration such as "90s", "5m", "1h30m", "90d" or "0s" as milliseconds; undefined when it is none. */
export function durationMs(text: string): number | undefined {
  if (!/^(\d{1,9}[smhdw]){1,5}$/.test(text)) return undefined
  let ms = 0
  for (const [, count, unit = ''] of text.matchAll(/(\d+)([smhdw])/g))
    ms += Number(count) * (UNITS[unit] ?? 0)
  return ms
}
