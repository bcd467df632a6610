import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { type Described, describeFleet, describeOwn, unitSection } from '../described.ts'

export const DISTRIBUTIONS = ['k3s', 'k0s', 'kubernetes', 'components'] as const
export type Distribution = (typeof DISTRIBUTIONS)[number]

export const RUN = '/run/muster-cluster'
export const HOLD = '/var/lib/muster-agent/cluster/hold'
export const PROFILE = '/nix/var/nix/profiles/muster-kubernetes'
/** nixpkgs has none of k0s; the fleet's modules name one. */
const K0S = 'muster.kubernetes.package = e.nixpkgs.versioned "k0s" "1.34.3+k0s.0";'

export interface Fleet {
  readonly distribution: Distribution
  /** More lines of [clusters.c]. */
  readonly cluster?: string
  /** Sections of hosts and groups; n1, n2, n3 are servers and w1 a worker when nothing is given. */
  readonly hosts?: string
  /** Settings of every machine's modules, Nix text; `SRC` in it is the folder of the fleet. */
  readonly settings?: string
  readonly files?: Readonly<Record<string, string>>
}

/** Three servers, one of which runs pods, and a worker. */
export const HOSTS = `
[hosts.n1]
role = "server"
address = "10.0.0.11"
[hosts.n2]
role = "server"
address = "10.0.0.12"
[hosts.n3]
role = "server+worker"
address = "10.0.0.13"
[hosts.w1]
role = "worker"
address = "10.0.0.21"
`

/** What mkFleet makes of a fleet with the cluster `c`, by host. */
export function configurationsOf({
  distribution,
  cluster = '',
  hosts = HOSTS,
  settings = '',
  files = {},
}: Fleet) {
  return withFleet({ distribution, cluster, hosts, files }, folder => {
    const k0s = distribution === 'k0s' && !settings.includes('kubernetes.package') ? K0S : ''
    return describeFleet(
      folder,
      `modules = [ ({ lib, ... }: { ${AGENT} ${k0s} ${settings.replaceAll('SRC', folder)} }) ];`,
    )
  })
}

/** A host's own configuration of such a fleet; `settings` is all of it. */
export function ownConfigurationOf(host: string, { settings = '', ...fleet }: Fleet): Described {
  return withFleet(fleet, folder => describeOwn(folder, host, `({ lib, ... }: { ${AGENT} ${settings} })`))
}

const AGENT = `services.muster.agent = { coordinator = "c.home:7443"; caPin = "${'cd'.repeat(32)}"; };`

function withFleet<T>(
  { distribution, cluster = '', hosts = HOSTS, files = {} }: Omit<Fleet, 'settings'>,
  read: (folder: string) => T,
): T {
  const folder = mkdtempSync(join(tmpdir(), 'muster-clusters-'))
  const toml = `[fleet]
name = "home"
id = "5f1c0a7be2d94c3386a1f0d2b7c4e895"
[defaults]
cluster = "c"
prefix-length = 24
interface = "eth0"
[clusters.c]
distribution = "${distribution}"
${cluster}
${hosts}`
  for (const [path, text] of Object.entries({ 'fleet.toml': toml, ...files })) {
    mkdirSync(dirname(join(folder, path)), { recursive: true })
    writeFileSync(join(folder, path), text)
  }
  try {
    return read(folder)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** The machine of that name; a test that asks for one that is not there is wrong. */
export function machineOf(configurations: Record<string, Described>, name: string): Described {
  const found = configurations[name]
  if (found === undefined) throw new Error(`no configuration ${name}`)
  return found
}

/** What the agent reads of the configuration. */
export const clusterFacts = (machine: Described) => machine.settings['muster/cluster.json'] ?? {}
/** The units of Kubernetes, in the order of their start. */
export const unitsOf = (machine: Described): string[] => {
  const { units } = clusterFacts(machine)
  return Array.isArray(units) ? units.map(String) : []
}
export const service = (machine: Described, unit: string) => unitSection(machine.units[unit], 'Service')
export const commandOf = (machine: Described, unit: string): string =>
  service(machine, unit).get('ExecStart')?.[0] ?? ''
/** The last value counts, as it does for the programs. */
export function flagOf(machine: Described, unit: string, flag: string): string | undefined {
  const values = [...commandOf(machine, unit).matchAll(new RegExp(`--${flag}[= ](\\S+)`, 'g'))].map(
    ([, value]) => value,
  )
  return values.at(-1)
}
