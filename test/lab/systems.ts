import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { nixBuild, nixEval } from './nix.ts'

/** What differs between systems of lab machines: the arguments of toplevel/toplevel.nix, which explains them. */
export interface SystemOptions {
  readonly hostName?: string
  readonly generation?: string
  readonly system?: string
  readonly claimsSystem?: string
  /** Name of a unit file to its text; null: masked. */
  readonly units?: Readonly<Record<string, string | null>>
  /** Path below /etc to its text. */
  readonly etc?: Readonly<Record<string, string>>
  readonly activationScript?: string
  readonly kernel?: string
  readonly initrd?: string
  readonly kernelModules?: string
  readonly kernelParams?: readonly string[]
  /** Store paths of real ones, for machines that boot them. */
  readonly kernelFile?: string
  readonly initrdFile?: string
  readonly initInterface?: string
  readonly inhibitors?: Readonly<Record<string, string>>
  readonly systemdVersion?: string
  readonly preSwitchChecks?: Readonly<Record<string, string>>
  readonly network?: { readonly address: string; readonly prefixLength?: number } | null
  readonly agent?: {
    /** Store path of an AgentProgram. */
    readonly package: string
    readonly config: object
    readonly deadMan?: boolean
    /** More lines for [Service] of its unit. */
    readonly serviceLines?: string
  } | null
  /** Absolute path of a folder with the programs of its Kubernetes that lives apart: what its profile's package links. */
  readonly kubernetes?: string
  /** Path below /etc to its text: what this package brings besides for a machine whose system is somebody else's. */
  readonly kubernetesEtc?: Readonly<Record<string, string>>
  readonly omit?: readonly string[]
  readonly specialisation?: Readonly<Record<string, SystemOptions>>
}

const TOPLEVEL = join(import.meta.dirname, 'toplevel')

/**
 * A real switch-to-configuration for the systems of lab machines, in place of the stand-in: a program that runs in their
 * root and is told all it needs by its environment, as that of nixpkgs is.
 */
const REAL_SWITCH = process.env.MUSTER_LAB_SWITCH

const FLAKE = `{
  description = "Systems of lab machines, without nixpkgs";
  outputs = _: {
    nixosConfigurations = builtins.mapAttrs
      (name: options: import ./lab/toplevel.nix ({ hostName = name; } // options))
      (builtins.fromJSON (builtins.readFile ./hosts.json));
  };
}
`

/** Writes a flake whose nixosConfigurations are these hosts' systems. */
export async function writeSystemsFlake(
  folder: string,
  hosts: Readonly<Record<string, SystemOptions>>,
): Promise<void> {
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, 'flake.nix'), FLAKE)
  await writeFile(join(folder, 'flake.lock'), '{"nodes":{"root":{}},"root":"root","version":7}\n')
  await writeFile(join(folder, 'hosts.json'), `${JSON.stringify(hosts, undefined, 2)}\n`)
  await cp(TOPLEVEL, join(folder, 'lab'), {
    recursive: true,
    filter: path => !path.endsWith('.ts') && !path.includes('__pycache__'),
  })
  if (REAL_SWITCH) await cp(REAL_SWITCH, join(folder, 'lab/switch/switch-to-configuration'))
}

/** Builds systems with the host's Nix; their store paths by name. The name is the host's unless it says another. */
export async function buildSystems<Name extends string>(
  systems: Readonly<Record<Name, SystemOptions>>,
): Promise<Readonly<Record<Name, string>>> {
  const folder = await mkdtemp(join(tmpdir(), 'ml-'))
  try {
    await writeSystemsFlake(folder, systems)
    const configurations = `path:${folder}#nixosConfigurations`
    const attributes = Object.keys(systems).map(
      name => `${configurations}."${name}".config.system.build.toplevel`,
    )
    await nixBuild(...attributes)
    const paths = await nixEval(
      configurations,
      'builtins.mapAttrs (_: c: c.config.system.build.toplevel.outPath)',
    )
    // Nix names the attributes it was given, and these are the caller's.
    return paths as Record<Name, string>
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
