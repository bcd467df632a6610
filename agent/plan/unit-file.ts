/** A unit's settings as systemd adds them up over the file and its drop-ins: section, key, values in their order. */
export type UnitSettings = ReadonlyMap<string, ReadonlyMap<string, readonly string[]>>

/**
 * Reads a unit file and the drop-ins that follow it. An empty value takes back all that was said of a key before;
 * `[Install]` is left out, since nothing reads it on NixOS.
 */
export function parseUnitFile(texts: readonly string[]): UnitSettings {
  const sections = new Map<string, Map<string, string[]>>()
  for (const text of texts) {
    let section: Map<string, string[]> | undefined
    for (const line of logicalLines(text)) {
      const name = /^\[([^\]]+)\]$/.exec(line)?.[1]
      if (name !== undefined) {
        section = name === 'Install' ? undefined : (sections.get(name) ?? new Map())
        if (section !== undefined) sections.set(name, section)
        continue
      }
      const equals = line.indexOf('=')
      if (equals <= 0 || section === undefined) continue
      const key = line.slice(0, equals).trimEnd()
      const value = line.slice(equals + 1).trim()
      if (value === '') section.set(key, [])
      else section.set(key, [...(section.get(key) ?? []), value])
    }
  }
  return sections
}

/** Lines without comments; one that ends in a backslash goes on in the next, comments between them left out. */
function logicalLines(text: string): string[] {
  const lines: string[] = []
  let open = ''
  for (const raw of text.split('\n')) {
    const line = raw.trim()
    if (line.startsWith('#') || line.startsWith(';')) continue
    if (line.endsWith('\\')) {
      open += `${line.slice(0, -1)} `
      continue
    }
    const whole = open + line
    open = ''
    if (whole.trim() !== '') lines.push(whole.trim())
  }
  if (open.trim() !== '') lines.push(open.trim())
  return lines
}

/** A boolean as the switch program reads it: the last value counts, and whatever is no "yes" is a "no". */
export function booleanOf(unit: UnitSettings, section: string, key: string, absent: boolean): boolean {
  const last = unit.get(section)?.get(key)?.at(-1)
  return last === undefined ? absent : ['1', 'yes', 'true', 'on'].includes(last)
}

/** The words of a list such as `Wants=`, over all its lines. */
export function wordsOf(unit: UnitSettings, section: string, key: string): string[] {
  return (unit.get(section)?.get(key) ?? []).join(' ').split(/\s+/).filter(Boolean)
}

/** The last value of a setting that has one. */
export function settingOf(unit: UnitSettings, section: string, key: string): string | undefined {
  return unit.get(section)?.get(key)?.at(-1)
}

/** The program of a command line such as `ExecStart=`, without systemd's prefixes; undefined when there is none. */
export function programOf(unit: UnitSettings, key = 'ExecStart'): string | undefined {
  const line = unit
    .get('Service')
    ?.get(key)?.[0]
    ?.replace(/^[@\-:+!|]+/, '')
  const word = /^"([^"]+)"|^'([^']+)'|^(\S+)/.exec(line ?? '')
  return word?.[1] ?? word?.[2] ?? word?.[3]
}
