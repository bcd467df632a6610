import { quote, type Report } from './problem.ts'
import type { HostTable, Sections } from './read-sections.ts'
import { flakeAttribute } from './text-types.ts'

/** Checks that a configuration is given to one host, and none to a host that is not installed. */
export function checkConfigurations({ hosts }: Sections, report: Report): void {
  const owners = new Map<string, HostTable>()
  for (const host of hosts.values()) {
    if (host.table.values.config === undefined) owners.set(host.name, host)
  }
  for (const host of hosts.values()) {
    const { config, os } = host.table.values
    if (config === undefined) continue
    if (os !== undefined) {
      report(
        config.at,
        config.path,
        'nothing is installed on a machine with os = "external"; remove one of the two',
      )
    }
    const attribute = flakeAttribute(config.value) ?? ''
    const other = owners.get(attribute)
    if (other === undefined) {
      owners.set(attribute, host)
    } else {
      const where = `host ${quote(other.name)} in line ${other.nameAt.line}`
      const text = `${where} has this configuration too; both machines would get one name and one address`
      report(config.at, config.path, text, 'warning')
    }
  }
}
