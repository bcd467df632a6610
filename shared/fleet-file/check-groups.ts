import { groupLayers, isOwn, pick } from './layers.ts'
import { quote, type Report } from './problem.ts'
import type { GroupTable, Sections } from './read-sections.ts'
import { findSecret } from './secrets.ts'

/** Says what is wrong with a CEL rule, and in two lines where in it; undefined when nothing is. */
export type CheckRule = (
  rule: string,
) => { readonly reason: string; readonly place?: string | undefined } | undefined

/** Checks whom groups admit, and as what. */
export function checkGroups(sections: Sections, report: Report, checkRule: CheckRule | undefined): void {
  const used = new Set([...sections.hosts.values()].map(({ table }) => table.values.group?.value))
  for (const group of sections.groups.values()) {
    const { name, nameAt, table } = group
    const host = sections.hosts.get(name)
    if (host !== undefined) {
      report(
        nameAt,
        table.path,
        `has the name of the host in line ${host.nameAt.line}; both would be the flake attribute ${quote(name)}`,
      )
    }
    checkPair(group, used.has(name), report)
    const { admit } = table.values
    if (admit === undefined) continue
    const wrong = checkRule?.(admit.value)
    if (wrong !== undefined) {
      const text = `the rule cannot be read: ${wrong.reason}`
      report(
        admit.at,
        admit.path,
        text,
        'error',
        findSecret(admit.value) === undefined ? wrong.place : undefined,
      )
    }
    if (admit.value.trim() === 'true') {
      report(
        admit.at,
        admit.path,
        'admits every machine that asks; write a rule over facts if that is not meant',
        'warning',
      )
    }
    const layers = groupLayers(sections, group)
    const role = pick(layers, 'role').found
    if (role?.value === 'server' || role?.value === 'server+worker') {
      // Facts are what a stranger says of itself: a rule over them may cost a worker's token, never a server's.
      const at = isOwn(layers, role) ? role.at : admit.at
      const text = `a rule over facts never admits a server: write role = "worker" or "none", and list servers in [hosts]`
      report(at, [...table.path, 'role'], text)
    }
  }
}

/** A rule and a name template come together; a group with neither only carries settings for hosts that name it. */
function checkPair({ name, nameAt, table }: GroupTable, used: boolean, report: Report): void {
  const has = (key: 'admit' | 'name') => table.values[key] !== undefined || table.broken.has(key)
  if (has('admit') && !has('name')) {
    report(
      nameAt,
      table.path,
      'admits machines but does not say how to name them: write name = "edge-{serial}"',
    )
  } else if (has('name') && !has('admit')) {
    report(
      nameAt,
      table.path,
      `names machines but admits none: write admit = "facts.system.product == 'N100'"`,
    )
  } else if (!has('admit') && !used) {
    report(nameAt, table.path, `selects nothing: write admit and name, or group = ${quote(name)} in a host`)
  }
}
