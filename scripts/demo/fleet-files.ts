import { cp, mkdir, readFile, writeFile } from 'node:fs/promises'
import { arch } from 'node:os'
import { join } from 'node:path'
import { DemoError } from './demo-error.ts'
import { BOLT_DISK, MACHINES } from './machines.ts'

const HOSTS_NIX = `# What the demo's systems are. A real fleet has NixOS modules here.
{
  olaf.description = "a server";
  bolt.description = "a server with a data disk";
  anna.description = "approved by hand";
  edge.description = "all boxes of the group edge";
  here.description = "the machine the demo runs on";
}
`

/** Writes systems that need no nixpkgs into a folder: a flake of stand-ins for NixOS systems. */
export async function writeStandInFlake(top: string, folder: string, generation: number): Promise<void> {
  const basic = join(top, 'test/fixtures/flakes/basic')
  await mkdir(folder, { recursive: true })
  for (const name of ['flake.nix', 'flake.lock', 'configurations.nix', 'toplevel']) {
    await cp(join(basic, name), join(folder, name), { recursive: true })
  }
  await writeFile(join(folder, 'hosts.nix'), HOSTS_NIX)
  await writeGeneration(folder, generation)
}

/** What makes the systems of one revision differ from those of the next. */
export async function writeGeneration(folder: string, generation: number): Promise<void> {
  await writeFile(join(folder, 'generation'), `${generation}\n`)
}

/** Makes the next revision of one host one whose switch ends with a failed unit. */
export async function writeBadUnit(folder: string, host: string): Promise<void> {
  const path = join(folder, 'hosts.nix')
  const text = await readFile(path, 'utf8')
  await writeFile(path, text.replace(/^}$/m, `  ${host}.failedUnits = "web.service";\n}`))
}

export interface HostsInput {
  /** The id of the machine the demo runs on. */
  readonly here: string
  readonly rack: string
}

/** The hosts of the demo's fleet, to stand in fleet.toml after what \`muster init\` wrote. */
export function hostsToml({ here, rack }: HostsInput): string {
  const anna = MACHINES.find(({ name }) => name === 'anna')
  return `
# Written by the demo. Each host is bound to its machine in another way.

[hosts.olaf]                          # by the machine's serial
config = "nixosConfigurations.olaf"
serial = "MM5000001"
labels = { rack = "${rack}" }

[hosts.bolt]                          # by the serial of a disk in it
config = "nixosConfigurations.bolt"
disk = { serial = "${BOLT_DISK}" }

[hosts.anna]                          # by the address of a network card
config = "nixosConfigurations.anna"
mac = "${anna?.hardware.macs?.[0]}"

[hosts.here]                          # by the machine's own key
config = "nixosConfigurations.here"
machine = "${here}"
${arch() === 'arm64' ? 'system = "aarch64-linux"\n' : ''}
[groups.edge]                         # nobody lists these one by one
admit = "facts.system.product == 'N100'"
name = "edge-{serial}"
config = "nixosConfigurations.edge"
`
}

/** All at once: nobody watches a demo wait for a minute between two machines. */
const ROLLOUT = `
[rollout]                             # a real fleet moves a tenth at a time, and waits a minute in between
max-unavailable = "100%"
soak = "0s"
`

/** The fleet file as \`muster init\` wrote it, with the demo's hosts. */
export async function writeHosts(directory: string, initial: string, input: HostsInput): Promise<void> {
  const hasty = initial.replace(
    /^\[defaults\]$/m,
    '[defaults]\nsoak = "1s" # a real fleet lets a change prove itself for longer',
  )
  if (hasty === initial) throw new DemoError('fleet.toml: muster init wrote no [defaults]')
  await writeFile(join(directory, 'fleet.toml'), `${hasty.trimEnd()}\n${ROLLOUT}${hostsToml(input)}`)
}

export async function readFleetFile(directory: string): Promise<string> {
  return await readFile(join(directory, 'fleet.toml'), 'utf8')
}
