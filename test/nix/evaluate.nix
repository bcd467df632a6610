# What the tests ask of a configuration, as JSON. `flake` are the outputs of Muster's own flake over the stand-in, with
# packages that are names only.
{ libPath }:
let
  lib = import libPath;
  nixpkgs = import ./standin-nixpkgs.nix { inherit lib; };
  flake = (import ../../flake.nix).outputs {
    inherit nixpkgs;
    self = flake // {
      packages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (
        system: lib.genAttrs [ "agent" "coordinator" "cli" ] (name: nixpkgs.package "${name}-${system}")
      );
    };
  };

  describe =
    configuration:
    let
      inherit (configuration) config;
    in
    {
      inherit (config.standin) failedAssertions units;
      settings = lib.mapAttrs (_: file: builtins.fromJSON (builtins.readFile file.source)) config.environment.etc;
      inherit (config) networking;
      networks = config.systemd.network.networks;
      users = config.users.users;
      systemName = config.system.name;
      hostPlatform = config.nixpkgs.hostPlatform;
      openssh = config.services.openssh.enable;
      systemPackages = map (package: package.name) config.environment.systemPackages;
      muster = config.muster or null;
      inherit (config.boot) kernelParams;
      watchdog = config.systemd.settings.Manager.RuntimeWatchdogSec or config.systemd.watchdog.runtimeTime or null;
    };
in
{
  inherit lib nixpkgs flake describe;

  # One machine of a release of NixOS, with the given modules and the module of that name.
  module =
    release: name: modules:
    describe (
      nixpkgs.lib.nixosSystem {
        inherit release;
        modules = [
          flake.nixosModules.${name}
          { nixpkgs.hostPlatform = "x86_64-linux"; }
        ]
        ++ modules;
      }
    );

  fleet =
    arguments:
    lib.mapAttrs (_: describe) (
      flake.lib.mkFleet (
        {
          inputs = { inherit nixpkgs; };
        }
        // arguments
      )
    );
}
