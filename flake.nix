{
  description = "Muster: enrols NixOS machines, shows the whole fleet, and moves it node by node to signed configurations";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      inherit (nixpkgs) lib;
      # Of a commit that is always the same; of a working tree it would be another after every copy.
      sourceTime = if self ? rev then self.lastModified else null;
      packages = lib.genAttrs systems (
        system: import ./nix/packages (nixpkgs.legacyPackages.${system} // { inherit sourceTime; })
      );
      # Modules name their packages by the platform they are evaluated for.
      withPackages =
        name: module: packageOf:
        { pkgs, lib, ... }:
        {
          _file = ./flake.nix;
          key = "muster-${name}";
          imports = [ module ];
          services.muster.${name} = {
            package = lib.mkDefault self.packages.${pkgs.stdenv.hostPlatform.system}.${packageOf};
            commandPackage = lib.mkDefault self.packages.${pkgs.stdenv.hostPlatform.system}.cli;
          };
        };
    in
    {
      inherit packages;

      nixosModules = {
        agent = withPackages "agent" ./nix/modules/agent.nix "agent";
        coordinator = withPackages "coordinator" ./nix/modules/coordinator.nix "coordinator";
        # What fleet.toml says of a machine; lib.mkFleet brings it along.
        host = {
          _file = ./flake.nix;
          key = "muster-host";
          imports = [ ./nix/modules/host.nix ];
        };
        # Nodes of clusters; lib.mkFleet brings it along.
        clusters = {
          _file = ./flake.nix;
          key = "muster-clusters";
          imports = [ ./nix/modules/clusters ];
        };
        # services.k0s alone, for those who know the public k0s flake.
        k0s = {
          _file = ./flake.nix;
          key = "muster-k0s";
          imports = [ ./nix/modules/clusters/k0s/service.nix ];
        };
      };

      lib =
        let
          musterModules = [
            self.nixosModules.agent
            self.nixosModules.host
            self.nixosModules.clusters
          ];
        in
        {
          mkFleet = import ./nix/lib/make-fleet.nix { inherit musterModules; };
          # For a host whose configuration is your own.
          hostModule = import ./nix/lib/host-module.nix { inherit musterModules; };
        };
    };
}
