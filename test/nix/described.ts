import { z } from 'zod'
import { evaluate } from './nix-library.ts'

const ports = z.object({ allowedTCPPorts: z.array(z.number()), allowedUDPPorts: z.array(z.number()) })
const described = z.object({
  failedAssertions: z.array(z.string()),
  units: z.record(z.string(), z.string()),
  settings: z.record(z.string(), z.record(z.string(), z.unknown())),
  files: z.record(z.string(), z.string()),
  keepalived: z.object({
    enable: z.boolean(),
    openFirewall: z.boolean(),
    vrrpInstances: z.record(z.string(), z.record(z.string(), z.unknown())),
    vrrpScripts: z.record(z.string(), z.record(z.string(), z.unknown())),
  }),
  profile: z.object({ name: z.string(), holds: z.array(z.string()) }).nullable(),
  networking: z.object({
    hostName: z.string(),
    useDHCP: z.boolean(),
    useNetworkd: z.boolean(),
    nameservers: z.array(z.string()),
    firewall: ports.extend({
      trustedInterfaces: z.array(z.string()),
      extraCommands: z.string(),
      extraStopCommands: z.string(),
      extraInputRules: z.string(),
      interfaces: z.record(z.string(), ports),
    }),
  }),
  networks: z.record(
    z.string(),
    z.object({
      matchConfig: z.record(z.string(), z.unknown()),
      networkConfig: z.record(z.string(), z.unknown()),
      address: z.array(z.string()),
      gateway: z.array(z.string()),
    }),
  ),
  users: z.record(
    z.string(),
    z.object({
      isNormalUser: z.boolean(),
      isSystemUser: z.boolean(),
      extraGroups: z.array(z.string()),
      openssh: z.object({ authorizedKeys: z.object({ keys: z.array(z.string()) }) }),
    }),
  ),
  systemName: z.string(),
  hostPlatform: z.string(),
  openssh: z.boolean(),
  checks: z.array(z.string()),
  systemPackages: z.array(z.string()),
  muster: z.record(z.string(), z.unknown()).nullable(),
  kernelParams: z.array(z.string()),
  tmpfiles: z.array(z.string()),
  watchdog: z.string().nullable(),
})

/** What evaluate.nix says of one configuration. */
export type Described = z.infer<typeof described>

/** One machine with the module of that name and `modules`, which are Nix text. The newest release unless one is given. */
export function describeModule(
  name: 'agent' | 'coordinator' | 'k0s',
  modules: string,
  release: '25.05' | '26.05' = '26.05',
): Described {
  return described.parse(evaluate(`e.module "${release}" "${name}" [ ${modules} ]`))
}

/** The configurations that mkFleet makes of a fleet directory; `more` is Nix text for its other arguments. */
export function describeFleet(folder: string, more = ''): Record<string, Described> {
  return z.record(z.string(), described).parse(evaluate(`e.fleet { src = ${folder}; ${more} }`))
}

/** A host's own configuration, Nix text, with what hostModule adds to it from a fleet directory. */
export function describeOwn(folder: string, host: string, modules: string): Described {
  return described.parse(evaluate(`e.own ${folder} "${host}" [ ${modules} ]`))
}

/** The settings of one section of a rendered unit: each key with all its values. */
export function unitSection(unit: string | undefined, name: string): Map<string, string[]> {
  const settings = new Map<string, string[]>()
  let current = ''
  for (const line of (unit ?? '').split('\n')) {
    const header = /^\[(.+)\]$/.exec(line)?.[1]
    if (header !== undefined) current = header
    const equals = line.indexOf('=')
    if (header !== undefined || current !== name || equals < 0) continue
    const key = line.slice(0, equals)
    settings.set(key, [...(settings.get(key) ?? []), line.slice(equals + 1)])
  }
  return settings
}
