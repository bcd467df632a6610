import { durationMs } from '../duration.ts'
import { type Amount, readAmount } from '../rollout/amount.ts'
import { type MaintenanceWindow, readWindow } from '../rollout/maintenance-window.ts'
import { quote } from './problem.ts'
import { type ValueType, wrongKind } from './value-type.ts'

/** A duration in milliseconds; `range` says in words from where to where it may be. */
export function duration(
  { least, most }: { readonly least: number; readonly most: number },
  range: string,
): ValueType<number> {
  const label = `duration ${range}`
  return {
    label,
    read: (node, path, report) => {
      if (node.kind !== 'text')
        return wrongKind(node, label, 'text such as "30s", "5m" or "1h30m"', path, report)
      const ms = durationMs(node.value)
      if (ms !== undefined && ms >= least && ms <= most) return ms
      const cure = ms === undefined ? 'write it such as "30s", "5m" or "1h30m"' : `write one ${range}`
      report(node.at, path, `${quote(node.value)} is no ${label}: ${cure}`)
      return undefined
    },
  }
}

const SIZE_UNITS: ReadonlyMap<string, number> = new Map(
  ['B', 'KiB', 'MiB', 'GiB', 'TiB'].map((unit, power) => [unit, 1024 ** power]),
)

/** A size in bytes, at least 1. */
export function size(most: number): ValueType<number> {
  const label = 'size'
  return {
    label,
    read: (node, path, report) => {
      const cure = 'write a whole number and its unit, such as "2 GiB" or "500 MiB"'
      if (node.kind !== 'text') return wrongKind(node, label, 'text such as "2 GiB"', path, report)
      const [, digits = '', unit = ''] = /^([0-9]{1,16}) ?(B|KiB|MiB|GiB|TiB)$/.exec(node.value) ?? []
      const unitBytes = SIZE_UNITS.get(unit)
      const bytes = Number(digits) * (unitBytes ?? 0)
      if (bytes >= 1 && bytes <= most) return bytes
      const wrong = unitBytes !== undefined ? `it must be from 1 B to ${most / 1024 ** 4} TiB` : cure
      report(node.at, path, `${quote(node.value)} is no ${label}: ${wrong}`)
      return undefined
    },
  }
}

/** A number of hosts, absolute or as a share. */
export const amount: ValueType<Amount> = {
  label: 'number or share',
  read: (node, path, report) => {
    const written =
      node.kind === 'integer' ? String(node.value) : node.kind === 'text' ? node.value : undefined
    if (written === undefined) return wrongKind(node, 'number or share', 'such as "10%" or "2"', path, report)
    const read = readAmount(written)
    if (read === undefined) {
      report(
        node.at,
        path,
        `${quote(written)} is no number or share: write a number from 1 to 99999 such as "2", or a share from "1%" to "100%"`,
      )
    }
    return read
  },
}

/** Days, times and time zone. */
export const windowText: ValueType<MaintenanceWindow> = {
  label: 'maintenance window',
  read: (node, path, report) => {
    if (node.kind !== 'text') {
      return wrongKind(node, 'maintenance window', 'text such as "22:00-04:00 Europe/Berlin"', path, report)
    }
    const read = readWindow(node.value)
    if (typeof read !== 'string') return read
    report(node.at, path, `${quote(node.value)} is no maintenance window: ${read}`)
    return undefined
  },
}
