import type { Place, Report } from './problem.ts'
import { quote } from './problem.ts'
import type { Sections } from './read-sections.ts'
import type { Placed } from './value-type.ts'

/** Checks that no two hosts claim the same hardware. */
export function checkBindings({ hosts }: Sections, report: Report): void {
  const owners = new Map<string, { readonly host: string; readonly at: Place }>()
  for (const { name, table } of hosts.values()) {
    const { machine, serial, uuid, mac, disk } = table.values
    const parts: readonly (readonly [what: string, placed: Placed<string> | undefined])[] = [
      ['machine', machine],
      ['serial', serial],
      ['UUID', uuid],
      ['MAC address', mac],
      ['disk serial', disk?.value.values.serial],
    ]
    for (const [what, placed] of parts) {
      if (placed === undefined) continue
      const claim = `${what}\0${placed.value.toLowerCase()}`
      const owner = owners.get(claim)
      if (owner === undefined) {
        owners.set(claim, { host: name, at: placed.at })
        continue
      }
      const where = `host ${quote(owner.host)} in line ${owner.at.line}`
      report(placed.at, placed.path, `this ${what} binds ${where} too; one machine can be one host only`)
    }
  }
}
