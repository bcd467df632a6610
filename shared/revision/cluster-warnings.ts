import type { Fleet } from '../fleet-file/fleet.ts'
import { clusterEntries } from '../fleet-file/fleet-targets.ts'
import type { Target } from '../gen/muster/v1/manifest_pb.ts'
import { judgeDatastore } from '../kubernetes/judge-datastore.ts'
import { judgeTarget, type Running } from '../kubernetes/judge-skew.ts'
import { parseVersion } from '../kubernetes/version.ts'

/** What will not work as it stands, though the file is good: servers without a key, and steps between versions that nobody makes. */
export function clusterWarnings(fleet: Fleet, before: readonly Target[]): string[] {
  return clusterEntries(fleet).flatMap(({ name, distribution, version, members }) => {
    const keyless = members.filter(({ role, machine }) => role !== 'worker' && machine === '')
    const warnings: string[] = []
    if (keyless.length > 0) {
      const names = keyless.map(({ host }) => host)
      const shown =
        names.length > 8 ? `${names.slice(0, 8).join(', ')} and ${names.length - 8} more` : names.join(', ')
      warnings.push(
        `cluster ${name}: no \`machine\` key is written for the server${names.length === 1 ? '' : 's'} ${shown}, and without it a server joins nothing and lets nobody join; once bound, \`muster bind --all\` writes it into fleet.toml`,
      )
    }
    const to = parseVersion(version)
    if (!to) return warnings
    const running = (servers: boolean): Running[] =>
      before.flatMap(({ cluster, role, host, group, kubernetes }) => {
        const was = parseVersion(kubernetes?.version ?? '')
        return cluster === name && (role !== 'worker') === servers && was
          ? [{ host: host || `group ${group}`, version: was }]
          : []
      })
    const servers = running(true)
    const problems = [
      ...judgeTarget(servers, running(false), to),
      ...judgeDatastore(distribution, servers, to),
    ]
    // Each would say the same of one step of the whole cluster.
    const told = problems.filter(
      ({ rule }, index) => problems.findIndex(other => other.rule === rule) === index,
    )
    return [...warnings, ...told.map(({ reason }) => `cluster ${name} to ${version}: ${reason}`)]
  })
}
