import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { z } from 'zod'
import { evaluate } from './nix-library.ts'

export const DISTRIBUTIONS = ['k3s', 'k0s', 'kubernetes', 'components'] as const
export type LabDistribution = (typeof DISTRIBUTIONS)[number]
/** Every fleet of the lab: one of each distribution, those whose servers keep a virtual address, and a control plane of static pods. */
export const FIXTURES = [
  ...DISTRIBUTIONS,
  'components-behind-one-address',
  'k3s-behind-one-address',
  'components-static-pods',
] as const
export type FixtureName = (typeof FIXTURES)[number]

export const fixturesFolder = join(import.meta.dirname, '../fixtures/clusters')

const machine = z.object({
  failedAssertions: z.array(z.string()),
  units: z.record(z.string(), z.string()),
  files: z.record(z.string(), z.string()),
  users: z.record(z.string(), z.object({ isSystemUser: z.boolean(), group: z.string(), home: z.string() })),
  groups: z.array(z.string()),
  tmpfiles: z.array(z.string()),
  sysctl: z.record(z.string(), z.union([z.boolean(), z.number(), z.string()])),
  /** Files that the package of Kubernetes brings where the system is somebody else's. */
  brings: z.array(z.string()),
})
type Machine = z.infer<typeof machine>

/** Units that lab machines have in another way, or not at all. */
const NOT_OURS = ['muster-agent.service', 'muster-dead-man.service', 'muster-build.slice']

/**
 * What the Nix modules make of the lab's fleet under a name: path below the fixture's folder, such as
 * `n1/etc/systemd/system/etcd.service`, to its text. A host's tree is copied onto a lab machine's `/` as it is.
 */
export function renderClusterFixtures(fixture: FixtureName): ReadonlyMap<string, string> {
  const machines = describeLab(join(fixturesFolder, fixture))
  const result = new Map<string, string>()
  for (const [host, described] of Object.entries(machines)) {
    if (described.failedAssertions.length > 0) {
      throw new Error(`${fixture}, ${host}: ${described.failedAssertions.join('\n')}`)
    }
    for (const [path, text] of filesOf(described)) result.set(`${host}/etc/${path}`, text)
  }
  return result
}

/**
 * The same of one host, with the system of that host somebody else's: paths below the fixture's folder to the text of what its
 * package of Kubernetes brings.
 */
export function renderBrought(fixture: FixtureName, host: string): ReadonlyMap<string, string> {
  const folder = mkdtempSync(join(tmpdir(), 'muster-lab-fleet-'))
  try {
    const text = readFileSync(join(fixturesFolder, fixture, 'fleet.toml'), 'utf8')
    const section = `[hosts.${host}]\n`
    writeFileSync(join(folder, 'fleet.toml'), text.replace(section, `${section}os = "external"\n`))
    const described = describeLab(folder)[host]
    if (!described) throw new Error(`${fixture} has no host ${host}`)
    const files = filesOf(described)
    return new Map(
      described.brings.map(path => [`${host}/${path}`, files.get(path.slice('etc/'.length)) ?? 'is missing']),
    )
  } finally {
    rmSync(folder, { recursive: true })
  }
}

const describeLab = (folder: string) => z.record(z.string(), machine).parse(evaluate(`e.lab ${folder}`))

function filesOf(described: Machine): Map<string, string> {
  const files = new Map<string, string>()
  for (const [name, text] of Object.entries(described.files)) {
    if (name !== 'muster/agent.json') files.set(name, text)
  }
  for (const [name, text] of Object.entries(described.units)) {
    if (!NOT_OURS.includes(name)) files.set(`systemd/system/${name}`, text)
  }
  for (const [name, text] of takeFromStore(files)) files.set(name, text)
  const sysusers = Object.entries(described.users)
    .filter(([, { isSystemUser }]) => isSystemUser)
    .flatMap(([name, { group, home }]) => [
      `u ${name} - "stand-in for a user of NixOS" ${home}`,
      `m ${name} ${group}`,
    ])
  const groups = described.groups.map(name => `g ${name} -`)
  if (sysusers.length > 0) files.set('sysusers.d/nixos-standin.conf', lines([...groups, ...sysusers]))
  // The agent's state is where the lab puts it.
  const tmpfiles = described.tmpfiles.filter(line => !line.includes(' /var/lib/muster-agent'))
  if (tmpfiles.length > 0) files.set('tmpfiles.d/nixos-standin.conf', lines(tmpfiles))
  const sysctl = Object.entries(described.sysctl).map(([key, value]) => `${key} = ${String(value)}`)
  if (sysctl.length > 0) files.set('sysctl.d/60-nixos-standin.conf', lines(sysctl))
  return files
}

const lines = (list: readonly string[]): string => `${list.join('\n')}\n`

/** Files of the store that units name come along, under a path that a lab machine can have. */
function takeFromStore(files: Map<string, string>): Map<string, string> {
  const taken = new Map<string, string>()
  for (const [name, text] of files) {
    const changed = text.replaceAll(/\/nix\/store\/[a-z0-9]{32}-([\w.+-]+)/g, (path, file: string) => {
      taken.set(`nixos-standin/${file}`, readFileSync(path, 'utf8'))
      return `/etc/nixos-standin/${file}`
    })
    if (changed !== text) files.set(name, changed)
  }
  return taken
}
