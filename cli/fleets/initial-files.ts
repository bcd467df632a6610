/** A file of a new fleet directory. */
export interface InitialFile {
  readonly path: string
  readonly text: string
}

/** Everything `muster init` writes into the directory. */
export function initialFiles({
  name,
  fleetFile,
  musterUrl,
}: {
  readonly name: string
  readonly fleetFile: string
  readonly musterUrl: string
}): readonly InitialFile[] {
  return [
    { path: 'fleet.toml', text: fleetFile },
    { path: 'flake.nix', text: flake(name, musterUrl) },
    { path: 'hosts/default.nix.example', text: hostExample },
    { path: '.gitignore', text: gitignore },
    { path: 'README.md', text: readme(name) },
  ]
}

const flake = (name: string, musterUrl: string) => `{
  description = "The fleet ${name}";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    muster.url = "${musterUrl}"; # where you keep Muster
    muster.inputs.nixpkgs.follows = "nixpkgs";
  };

  outputs =
    inputs@{ muster, ... }:
    {
      # One configuration for each host and group of fleet.toml. What stands in hosts/NAME.nix and groups/NAME.nix is added.
      nixosConfigurations = muster.lib.mkFleet {
        src = ./.;
        inherit inputs;
        modules = [
          {
            # For every host. The address and the pins are those of \`muster status\`.
            # services.muster.agent.coordinator = "coordinator.example:7443";
            # services.muster.agent.caPin = "…";
            # services.muster.agent.trustPin = "…";
          }
        ];
      };
    };
}
`

const hostExample = `# Copy to hosts/NAME.nix, NAME being the host's in fleet.toml. \`muster show MACHINE --nix\` writes the part on hardware.
{ pkgs, ... }:
{
  # imports = [ ./NAME-hardware.nix ];
  environment.systemPackages = [ pkgs.htop ];
  system.stateVersion = "26.05";
}
`

const gitignore = `# What nix-build leaves
result
result-*
# Private keys do not belong into a directory that every machine of the fleet can read
*.key
*.pem
`

const readme = (name: string) => `# Fleet ${name}

\`fleet.toml\` says which machines exist and what each shall be. \`hosts/NAME.nix\` holds what one host has beyond that, and
\`groups/NAME.nix\` what the machines of a group have. Every machine can read all of this directory: secrets in it must be
encrypted.

    muster check .                 # is fleet.toml right?
    nix flake lock                 # pins the inputs; publish what is pinned
    git add -A && git commit       # publish what is committed
    muster publish .               # sign it as the next revision
    muster diff                    # what would change, host by host
    muster apply HOST              # move a host to it
`
